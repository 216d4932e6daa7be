import errno
import io
import os
import threading
from pathlib import Path

import pytest

from scheduler import custom_ids, readers
from scheduler.document import Document, Problem


def names(*sources: object, **how: object) -> list[str]:
    found = readers.read([str(source) for source in sources], **how)  # type: ignore[arg-type]
    return [item.custom_id if isinstance(item, Document) else f"{item.where} {item.reason}" for item in found]


def fill(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(
            '{"id": "line", "text": "x"}' if path.endswith("jsonl") else f"Text of {path}."
        )
    return folder


def test_a_folder_is_read_through_in_natural_order(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "10.txt",
        "9.txt",
        "part2/b.md",
        "part2/A.txt",
        "part10/c.txt",
        "lines.jsonl",
        "picture.png",
        "x.TXT",
    )
    fill(tmp_path, ".hidden.txt", ".git/config.txt", "part2/.x/y.txt")

    assert names(tmp_path) == ["9", "10", "line", "part2-A", "part2-b", "part10-c", "x"]


def test_names_that_would_be_the_same_are_told_apart(tmp_path: Path) -> None:
    fill(tmp_path, "part1/ch2.txt", "part1-ch2.txt", "other/part1-ch2.md")

    found = names(tmp_path, tmp_path / "other" / "part1-ch2.md")

    assert len(set(found)) == 3
    assert all(custom_ids.check(name) is None for name in found)
    assert "other-part1-ch2" in found
    assert len(set(names(tmp_path / "part1", tmp_path / "other", tmp_path))) == 3
    fill(tmp_path, "x/same.txt", "y/same.txt")
    assert len(set(names(tmp_path / "x", tmp_path / "y" / "same.txt"))) == 2


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")

    assert names(tmp_path / "a.txt", tmp_path, tmp_path / "a.txt", f"{tmp_path}/*.txt") == ["a"]


def test_patterns(tmp_path: Path) -> None:
    fill(tmp_path, "a1.txt", "a2.txt", "b.txt", "a.png", "sub/a3.txt", "sub/deep/a4.md", "odd[1].txt")

    assert names(f"{tmp_path}/a*") == ["a1", "a2"]
    assert names(f"{tmp_path}/**/a?.*") == ["a1", "a2", "sub-a3", "sub-deep-a4"]
    assert names(f"{tmp_path}/s*") == ["sub-a3", "sub-deep-a4"]
    assert names(f"{tmp_path}/odd[1].txt") == ["odd[1]"]


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    fill(tmp_path, "a.pdf", "empty/a.png", "none", "ok.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    known = ".csv, .epub, .jsonl, .md, .ndjson, .tsv, .txt"

    found = names(
        *(tmp_path / name for name in ("a.pdf", "none", "missing.txt", "empty", "pipe.txt", "ok.txt", "*.zip"))
    )

    assert found == [
        f"{tmp_path}/a.pdf cannot be read: its name must end in {known}",
        f"{tmp_path}/none cannot be read: its name must end in {known}",
        f"{tmp_path}/missing.txt is not there",
        f"{tmp_path}/empty has no file in it that ends in {known}",
        f"{tmp_path}/pipe.txt is no regular file",
        "ok",
        f"{tmp_path}/*.zip matches no file that ends in {known}",
    ]


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0.txt"])
def test_a_name_that_no_file_can_have_is_a_problem(name: str) -> None:
    (found,) = readers.read([name])

    assert isinstance(found, Problem)


def test_a_name_that_is_no_text_is_made_one_for_people(tmp_path: Path) -> None:
    for number, name in enumerate((b"caf\xe9.txt", b"caf\xe8.txt")):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(f"Text {number}.")

    found = [*readers.read([str(tmp_path)]), *readers.read([f"{tmp_path}/\udce9.pdf"])]

    assert [item.where for item in found] == [*[f"{tmp_path}/caf\ufffd.txt"] * 2, f"{tmp_path}/\ufffd.pdf"]
    documents = [item for item in found if isinstance(item, Document)]
    assert len({document.custom_id for document in documents}) == 2
    assert [block.text for document in documents for block in document.blocks] == ["Text 1.", "Text 0."]


class Broken(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("kind", ["auto", "text", "jsonl"])
def test_standard_input_that_breaks_is_a_problem(kind: str) -> None:
    found = names("-", stdin_stream=io.BufferedReader(Broken()), stdin_format=kind)

    assert found == ["standard input cannot be read: Input/output error"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    (tmp_path / "a.txt").chmod(0)

    assert names(tmp_path / "a.txt") == [f"{tmp_path}/a.txt cannot be read: Permission denied"]


@pytest.mark.parametrize("data", [b'{"id": "a", "text": "x"}', b'\xef\xbb\xbf\n \t{"id": "a", "text": "x"}\n'])
def test_lines_on_standard_input_are_told_by_their_first_character(data: bytes) -> None:
    assert names("-", stdin_stream=io.BytesIO(data)) == ["a"]


def test_anything_else_on_standard_input_is_text() -> None:
    (document,) = readers.read(["-"], stdin_stream=io.BytesIO(b"\n\nOne.\n\nTwo."))

    assert isinstance(document, Document)
    assert (document.custom_id, document.where) == ("stdin", "standard input")
    assert [block.text for block in document.blocks] == ["One.", "Two."]


def test_the_format_of_standard_input_can_be_stated() -> None:
    assert names("-", stdin_stream=io.BytesIO(b'{"id"'), stdin_format="text") == ["stdin"]
    assert names("-", stdin_stream=io.BytesIO(b"x"), stdin_format="jsonl") == [
        "standard input line 1 is no JSON: Expecting value at column 1"
    ]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff", "is no UTF-8 text: byte 0")]
)
def test_standard_input_without_text_is_a_problem(data: bytes, reason: str) -> None:
    (problem,) = readers.read(["-"], stdin_stream=io.BytesIO(data))

    assert isinstance(problem, Problem)
    assert problem.where == "standard input"
    assert reason in problem.reason


def test_lines_from_a_pipe_are_taken_while_it_is_open() -> None:
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb") as stream, os.fdopen(sender, "wb", buffering=0) as pipe:
        line = b'{"id": "a", "text": "x"}\n'
        writer = threading.Thread(target=pipe.write, args=(line * 20_000,), daemon=True)
        writer.start()

        found = readers.read(["-"], stdin_stream=stream)
        first = [next(found) for _ in range(10)]

        assert all(isinstance(item, Document) for item in first)
        assert writer.is_alive()  # far more than a pipe holds is still to come
        for _ in range(19_990):
            next(found)
        writer.join()
        found.close()  # type: ignore[attr-defined]


def test_standard_input_comes_last(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")

    assert names("-", tmp_path / "a.txt", stdin_stream=io.BytesIO(b"Text.")) == ["a", "stdin"]
