from pathlib import Path

import pytest

from scheduler import readers
from scheduler.document import Block, Document, Problem
from scheduler.readers import source


def read(folder: Path, text: str | bytes, name: str = "corpus.csv") -> list[Document | Problem]:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(readers.read([str(folder / name)]))


def test_a_row_is_a_document(tmp_path: Path) -> None:
    text = 'ID,text,seed,priority,options,voice\r\na,"Hello, ""you"".\n\nTwo.",7,high,"{""rate"": 2}",\r\n\r\nb,Plain.\r\n'

    first, second = read(tmp_path, text)

    assert first == Document(
        "a",
        [Block('Hello, "you".'), Block("Two.")],
        f"{tmp_path}/corpus.csv line 2",
        options={"seed": 7, "priority": "high", "options": {"rate": 2}},
    )
    assert second == Document("b", [Block("Plain.")], f"{tmp_path}/corpus.csv line 6")


def test_tabs_part_a_tsv(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "\ufeffcustom_id\ttext\na\tOne, two.\n", "corpus.tsv")

    assert found == Document("a", [Block("One, two.")], f"{tmp_path}/corpus.tsv line 2")


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    (found,) = read(tmp_path, f"id,text\na,{'word ' * 100_000}\n")

    assert isinstance(found, Document)
    assert sum(len(block.text) for block in found.blocks) == 500_000


def test_a_path_leads_to_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text.")

    found, problem = read(tmp_path, "id,path\na,a.txt\nb,../b.txt\n")

    assert isinstance(found, Document)
    assert [block.text for block in found.blocks] == ["Text."]
    assert isinstance(problem, Problem)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,Hello.\nb,Hello.\n", "the first line must name the columns"),
        ("id,voice\na,b\n", "the first line must name the columns"),
        ("id,text,vioce\na,b,c\n", "did you mean 'voice'?"),
        ("id,text,text\na,b,c\n", "two columns 'text'"),
    ],
)
def test_a_wrong_header_is_one_problem(tmp_path: Path, text: str, reason: str) -> None:
    (problem,) = read(tmp_path, text)

    assert isinstance(problem, Problem)
    assert problem.where == f"{tmp_path}/corpus.csv line 1"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a,x,,,more", "5 cells for 4 columns"),
        (b",x", "has no `id`"),
        (b"a,", "neither `text` nor `path`"),
        (b"a,x,seven", "'seed' must be a whole number, not 'seven'"),
        (b"a,x,,{", "options` is no JSON"),
        (b"a,x,,[1]", "'options' must be an object"),
        (b'a,"x"y', "expected after"),
        (b"a,\xff", "is no UTF-8 text"),
        (b"a,x\x00", "NUL"),
    ],
)
def test_a_bad_row_is_one_problem_and_the_next_is_read(tmp_path: Path, row: bytes, reason: str) -> None:
    before, problem, after = read(tmp_path, b"id,text,seed,options\nb,x\n" + row + b"\nc,x\n")

    assert isinstance(before, Document)
    assert isinstance(problem, Problem)
    assert problem.where == f"{tmp_path}/corpus.csv line 3"
    assert reason in problem.reason
    assert isinstance(after, Document)
    assert after.where.endswith("line 4")


def test_a_quote_that_never_ends_is_told_where_it_begins(tmp_path: Path) -> None:
    found = read(tmp_path, 'id,text\na,x\nb,"y\nc,z\n')

    assert [item.where[-6:] for item in found] == ["line 2", "line 3"]
    assert isinstance(found[1], Problem)


def test_a_line_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1000)

    found = read(tmp_path, f"id,text\na,{'x' * 3000}\nb,y\n")

    assert [type(item) for item in found] == [Problem, Document]


def test_an_empty_table_has_no_document(tmp_path: Path) -> None:
    assert read(tmp_path, "id,text\n") == []
