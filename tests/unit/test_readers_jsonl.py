import json
from pathlib import Path

import pytest

from scheduler import readers
from scheduler.document import Block, Document, Problem
from scheduler.readers import source


def read(folder: Path, *lines: str | bytes) -> list[Document | Problem]:
    path = folder / "corpus.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return list(readers.read([str(path)]))


def test_a_line_is_a_document(tmp_path: Path) -> None:
    line = {
        "id": "a",
        "text": "One.\n\nTwo.",
        "title": "Title",
        "author": "Author",
        "language": "de",
        "voice": "narrator",
        "format": "wav",
        "seed": 7,
        "priority": "high",
        "options": {"rate": 1.5},
    }

    assert read(tmp_path, json.dumps(line)) == [
        Document(
            "a",
            [Block("One."), Block("Two.")],
            f"{tmp_path}/corpus.jsonl line 1",
            "Title",
            "Author",
            "de",
            {"voice": "narrator", "format": "wav", "seed": 7, "priority": "high", "options": {"rate": 1.5}},
        )
    ]


def test_blank_lines_marks_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        b'\xef\xbb\xbf{"custom_id": "a", "text": "x"}\r',
        b"",
        b"  ",
        b'{"id": "b", "text": "y", "voice": null}',
    )

    assert [(item.custom_id, item.where[-6:]) for item in found if isinstance(item, Document)] == [
        ("a", "line 1"),
        ("b", "line 4"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_text_is_told_by_its_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"id": "ä", "text": "x"}\n\n{"id": "b", "text": "Ċ"}'.encode(encoding))

    found = readers.read([str(tmp_path / "a.jsonl")])

    assert [item.custom_id for item in found if isinstance(item, Document)] == ["ä", "b"]


def test_an_empty_id_is_left_to_whoever_checks_ids(tmp_path: Path) -> None:
    found = read(tmp_path, '{"custom_id": "", "text": "x"}', '{"id": "", "text": "x"}')

    assert [item.custom_id for item in found if isinstance(item, Document)] == ["", ""]


BAD = [
    ('{"id": "a"', "is no JSON: Expecting ',' delimiter at column"),
    ("nonsense", "is no JSON"),
    ('{"id": "a", "text": "x"} {', "Extra data"),
    ("[1, 2]", "must be an object"),
    ('"text"', "must be an object"),
    ('{"id": "a", "text": "x", "seed": NaN}', "NaN"),
    ('{"id": "a", "text": "x", "options": {"a": -Infinity}}', "-Infinity"),
    ('{"id": "a", "text": "x", "options": {"a": 1e999}}', "1e999"),
    ('{"id": "a", "text": "x", "seed": ' + "9" * 5000 + "}", "no number"),
    ('{"text": "x"}', "has no `id`"),
    ('{"id": "a", "custom_id": "a", "text": "x"}', "both `id` and `custom_id`"),
    ('{"id": "a"}', "neither `text` nor `path`"),
    ('{"id": "a", "text": "x", "path": "y.txt"}', "both `text` and `path`"),
    ('{"id": "a", "text": " \\n\\t"}', "text is empty"),
    ('{"id": 5, "text": "x"}', "'id' must be a string, not 5"),
    ('{"id": "a", "text": ["x"]}', "'text' must be a string"),
    ('{"id": "a", "text": "x", "seed": "7"}', "'seed' must be a whole number"),
    ('{"id": "a", "text": "x", "seed": true}', "'seed' must be a whole number"),
    ('{"id": "a", "text": "x", "seed": 1.0}', "'seed' must be a whole number"),
    ('{"id": "a", "text": "x", "options": "rate=5"}', "'options' must be an object"),
    ('{"id": "a", "text": "x", "text": "y"}', "'text' stands in it twice"),
    ('{"id": "a", "txet": "x"}', "there is no key 'txet'; did you mean 'text'?"),
    ('{"id": "a", "text": "x", "banana": 1}', "there is no key 'banana'; known are"),
    ('{"id": "a", "text": "x\\ud800"}', "lone surrogate"),
    ('{"id": "a", "text": "x", "options": {"\\udfff": 1}}', "lone surrogate"),
    ('{"id": "a", "text": "x\\u0000"}', "NUL"),
    (b'{"id": "a", "text": "x\x00"}', "NUL"),
    (b'{"id": "a", "text": "\xe9"}', "is no UTF-8 text: byte "),
    ("[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_one_problem_and_the_next_is_read(tmp_path: Path, line: str | bytes, reason: str) -> None:
    good = '{"id": "good", "text": "x"}'

    before, problem, after = read(tmp_path, good, line, good)

    assert isinstance(problem, Problem)
    assert problem.where == f"{tmp_path}/corpus.jsonl line 2"
    assert reason in problem.reason
    assert "\n" not in problem.reason
    assert isinstance(before, Document)
    assert isinstance(after, Document)


def test_all_bad_lines_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, *(line for line, _ in BAD))

    assert [item.where.rpartition(" ")[2] for item in found] == [str(n) for n in range(1, len(BAD) + 1)]


def test_what_looks_like_a_bad_escape_may_be_text(tmp_path: Path) -> None:
    (found,) = read(tmp_path, r'{"id": "a", "text": "a \\u0000 and \\ud800 and 😀 \ud83d\ude00 é"}')

    assert isinstance(found, Document)
    assert list(found.blocks) == [Block(r"a \u0000 and \ud800 and 😀 😀 é")]


def test_a_line_too_long_is_passed_over_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1000)

    found = read(
        tmp_path, '{"id": "a", "text": "x"}', "x" * 5000, '{"id": "b", "text": "x"}', '{"id": "c"' + "x" * 1000
    )

    assert [type(item) for item in found] == [Document, Problem, Document, Problem]
    assert found[1] == Problem(f"{tmp_path}/corpus.jsonl line 2", "is longer than 64 MB")
    assert found[2].where.endswith("line 3")


def test_lines_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "a", "text": "x"}\n' * 200_000 + b"broken")

    stream = readers.read([str(tmp_path / "a.jsonl")])

    assert isinstance(next(stream), Document)
    stream.close()  # type: ignore[attr-defined]


def test_a_path_leads_to_the_text(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("One.\n\nTwo.")
    (tmp_path / "b.md").write_text("# Title\n\nText.")

    plain, marked = read(
        tmp_path, '{"id": "x", "path": "texts/a.txt", "seed": 3}', '{"id": "y", "path": "b.md", "author": "Me"}'
    )

    assert isinstance(plain, Document)
    assert isinstance(marked, Document)
    assert (plain.custom_id, plain.where, plain.options) == (
        "x",
        f"{tmp_path}/corpus.jsonl line 1",
        {"seed": 3},
    )
    assert [block.text for block in plain.blocks] == ["One.", "Two."]
    assert (marked.title, marked.author) == ("Title", "Me")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../outside.txt", "leads out of the folder"),
        ("inside/../../outside.txt", "leads out of the folder"),
        ("/etc/passwd.txt", "leads out of the folder"),
        ("link.txt", "leads out of the folder"),
        ("linked-folder/outside.txt", "leads out of the folder"),
        ("missing.txt", "is no file"),
        ("inside.txt", "is no file"),
        ("empty.txt", "is empty"),
        ("corpus.jsonl", "must end in .txt, .md, .epub"),
        ("", "must end in"),
        ("x" * 5000 + ".txt", "cannot be read"),
    ],
)
def test_a_path_that_cannot_be_used_is_a_problem(tmp_path: Path, path: str, reason: str) -> None:
    folder = tmp_path / "folder"
    (folder / "inside.txt").mkdir(parents=True)
    (folder / "inside").mkdir()
    (folder / "empty.txt").touch()
    (tmp_path / "outside.txt").write_text("Secret.")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "linked-folder").symlink_to(tmp_path)

    (problem,) = read(folder, json.dumps({"id": "a", "path": path}))

    assert isinstance(problem, Problem)
    assert problem.where == f"{folder}/corpus.jsonl line 1"
    assert reason in problem.reason
