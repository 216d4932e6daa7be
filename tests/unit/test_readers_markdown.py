from pathlib import Path

import pytest

from scheduler import readers
from scheduler.document import Block, Document, Problem


def read(folder: Path, text: str, **how: object) -> list[Document | Problem]:
    (folder / "book.md").write_text(text, encoding="utf-8")
    return list(readers.read([str(folder / "book.md")], **how))  # type: ignore[arg-type]


def blocks(folder: Path, text: str) -> list[Block]:
    (document,) = read(folder, text)
    assert isinstance(document, Document), document
    return list(document.blocks)


def test_one_first_heading_is_the_title_and_the_second_level_begins_chapters(tmp_path: Path) -> None:
    text = "# The Book\n\nBefore.\n\n## One\n\nText.\n\n### Inner\n\nMore.\n\n## Two\n\nEnd."

    (document,) = read(tmp_path, text)

    assert isinstance(document, Document)
    assert document.title == "The Book"
    assert list(document.blocks) == [
        Block("The Book"),
        Block("Before."),
        Block("One", "One"),
        Block("Text."),
        Block("Inner"),
        Block("More."),
        Block("Two", "Two"),
        Block("End."),
    ]


@pytest.mark.parametrize(("one", "two"), [("# One", "# Two"), ("### One", "### Two"), ("One\n===", "Two\n===")])
def test_several_headings_of_the_highest_level_begin_chapters(tmp_path: Path, one: str, two: str) -> None:
    found = blocks(tmp_path, f"{one}\n\nText.\n\n{two}\n\nText.\n\n#### Small")

    assert [block.chapter for block in found] == ["One", None, "Two", None, None]


def test_marks_become_their_text(tmp_path: Path) -> None:
    text = (
        'Some *emphasis*, **more**, ~~less~~, `code`, a [link](https://example.org "t"), ![picture](x.png)an\n'
        "<b>HTML</b> tag, a<br>break, &amp; an\\*escape, a note[^1] and <!-- no --> <https://example.org>.\n\n"
        "[^1]: The note.\n"
    )

    assert [block.text for block in blocks(tmp_path, text)] == [
        "Some emphasis, more, less, code, a link, an\n"
        "HTML tag, a\nbreak, & an*escape, a note and  https://example.org."
    ]


def test_structures_become_paragraphs(tmp_path: Path) -> None:
    text = (
        "- one\n- two\n  - three\n\n1. four\n\n> five\n> six\n\n---\n\n| a | b |\n|---|---|\n| c | d |\n\n"
        "```python\ncode()\n```\n\n    indented code\n\n<div>\nHTML\n</div>\n\n<!-- comment -->\n\nEnd.\n"
    )

    assert [block.text for block in blocks(tmp_path, text)] == [
        "one", "two", "three", "four", "five\nsix", "* * *", "a, b", "c, d", "End.",
    ]  # fmt: skip


def test_tags_that_are_no_html_are_text(tmp_path: Path) -> None:
    text = 'One <break time="1s"/> two <sigh> three <laugh_harder>.\n\n<break time="2s"/>\nfour\n\n<break time="3s"/>\n'

    assert [block.text for block in blocks(tmp_path, text)] == [
        'One <break time="1s"/> two <sigh> three <laugh_harder>.',
        '<break time="2s"/>\nfour',
        '<break time="3s"/>',
    ]


def test_front_matter_is_about_the_book(tmp_path: Path) -> None:
    (document,) = read(tmp_path, '---\ntitle: "A: Title"\nauthor: Me\nlang: de\ntags: [x]\n---\n\nText.')

    assert isinstance(document, Document)
    assert (document.title, document.author, document.language) == ("A: Title", "Me", "de")
    assert list(document.blocks) == [Block("Text.")]


def test_by_chapter(tmp_path: Path) -> None:
    found = read(tmp_path, "# Book\n\nBefore.\n\n## The First!\n\nA.\n\n## 2\n\nB.", split="chapter")

    assert [(item.custom_id, item.title) for item in found if isinstance(item, Document)] == [
        ("book-01-the-first", "The First!"),
        ("book-02-2", "2"),
    ]
    assert isinstance(found[0], Document)
    assert [block.text for block in found[0].blocks] == ["Book", "Before.", "The First!", "A."]


def test_without_chapters_it_stays_whole(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "Only text.", split="chapter")

    assert isinstance(document, Document)
    assert document.custom_id == "book"


@pytest.mark.parametrize("text", ["", "\n\n", "```\ncode\n```", "<!-- nothing -->"])
def test_without_text_it_is_a_problem(tmp_path: Path, text: str) -> None:
    (problem,) = read(tmp_path, text)

    assert problem == Problem(str(tmp_path / "book.md"), "has no text")


def test_hostile_marks_cost_little(tmp_path: Path) -> None:
    for unit in ("[", "*a ", "`", "<a ", "> ", "![", "- "):
        assert isinstance(read(tmp_path, "Text.\n\n" + unit * 5000)[0], Document)
