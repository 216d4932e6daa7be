import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import paragraphs, readers
from scheduler.document import Document, Problem
from scheduler.readers import source


def one(path: Path, **how: object) -> Document | Problem:
    (found,) = readers.read([str(path)], **how)  # type: ignore[arg-type]
    return found


def texts(document: Document | Problem) -> list[str]:
    assert isinstance(document, Document), document
    return [block.text for block in document.blocks]


def test_paragraphs_stand_between_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_bytes(b"One.\r\nStill one.\r\n\r\n \t\r\nTwo.\n\n\n\nThree")

    document = one(path)

    assert isinstance(document, Document)
    assert (document.custom_id, document.where, document.title) == ("tale", str(path), None)
    assert texts(document) == ["One.\nStill one.", "Two.", "Three"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-32"])
def test_unicode_is_told_by_its_mark(tmp_path: Path, encoding: str) -> None:
    data = b"\xff\xfe" + "Ünï".encode("utf-16-le") if encoding == "utf-16-le-bom" else "Ünï".encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)

    assert texts(one(tmp_path / "a.txt")) == ["Ünï"]


def test_another_encoding_can_be_stated(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Größe".encode("cp1252"))

    assert texts(one(tmp_path / "a.txt", encoding="cp1252")) == ["Größe"]


@pytest.mark.parametrize("name", ["utf-9", "base64", "undefined", "\udce9"])
def test_an_unknown_encoding_is_refused_at_once(name: str) -> None:
    with pytest.raises(source.UnknownEncodingError):
        readers.read([], encoding=name)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \n\n\t ", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"one\ntwo\r\nthr\xe9e", "byte 12 (line 3) is 0xE9"),
        (b"\xef\xbb\xbfone\xff", "byte 6 (line 1) is 0xFF"),
        (b"cut \xe2\x82", "byte 4 (line 1) is 0xE2"),
        (b"x\n" * 200_000 + b"\xff", "byte 400000 (line 200001) is 0xFF"),
        (b"\x7fELF\n\x00\x01", "looks like a binary file: there is a NUL in line 2"),
        ("plain".encode("utf-16-le"), "looks like a binary file"),
    ],
)
def test_what_is_no_text_is_a_problem(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)

    problem = one(tmp_path / "a.txt")

    assert isinstance(problem, Problem)
    assert problem.where == str(tmp_path / "a.txt")
    assert reason in problem.reason


def test_a_character_across_two_chunks_is_whole(tmp_path: Path) -> None:
    text = "x" + "é" * 200_000 + "€" * 200_000
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")

    assert texts(one(tmp_path / "a.txt")) == [text]


class Endless(io.RawIOBase):
    """A stream without a blank line or an end, which counts what is read of it."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        buffer[:] = (b"Words without an end. " * (len(buffer) // 22 + 1))[: len(buffer)]
        self.bytes_read += len(buffer)
        return len(buffer)


def test_a_paragraph_without_an_end_comes_in_parts() -> None:
    stream = Endless()

    parts = paragraphs.stream(source.text(io.BufferedReader(stream), "utf-8"))
    first, second = next(parts), next(parts)

    assert stream.bytes_read < 4 * paragraphs.MAX_CHARACTERS
    assert 0.9 * paragraphs.MAX_CHARACTERS < len(first) <= paragraphs.MAX_CHARACTERS
    assert first.endswith(". ")
    assert len(second) <= paragraphs.MAX_CHARACTERS


@pytest.mark.parametrize("unit", ["x", "word ", "行"])
def test_parts_of_a_long_paragraph_are_the_whole(unit: str) -> None:
    text = unit * (2_500_000 // len(unit))

    parts = list(paragraphs.split(text))

    assert "".join(parts) == text
    assert len(parts) == 3


@given(st.lists(st.sampled_from(["a", "b c", "\n", "\n\n", " ", "\r\n", "\r"])), st.integers(1, 5))
def test_chunks_make_no_difference(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    stream = io.BytesIO(text.encode())
    chunks = (text[at : at + size] for at in range(0, len(text), size))
    with_newlines = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in with_newlines.split("\n")]
    expected: list[list[str]] = [[]]
    for line in lines:
        if line:
            expected[-1] += line.split()
        else:
            expected.append([])

    whole = [paragraph.split() for paragraph in paragraphs.split(text)]
    streamed = [paragraph.split() for paragraph in paragraphs.stream(source.text(stream, "utf-8"))]
    assert [words for words in whole if words] == [words for words in expected if words] == streamed
    if "\r" not in text:
        assert [paragraph.split() for paragraph in paragraphs.stream(chunks)] == streamed
