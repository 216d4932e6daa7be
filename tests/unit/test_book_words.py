"""Every word of a book is spoken once, in its place: from an EPUB through the reader and the cutter into segments.

The books are made up. No two of their words are alike, so one that is lost, doubled or moved shows; and what nobody should
hear (notes, page numbers, imprints) is made of words, too.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from scheduler import cutter, readers
from scheduler.document import Document
from tests.unit import test_readers_epub as epubs

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
NAMED = {"“": "&ldquo;", "”": "&rdquo;", "’": "&rsquo;", "—": "&mdash;", "…": "&hellip;"}


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).casefold())


@dataclass
class Writer:
    """Writes XHTML. `said` are the words, in their order, that a reader of the chapter in hand would speak."""

    chance: Random
    said: list[str] = field(default_factory=list)
    count: int = 0

    def letters(self) -> str:
        """Some that have not stood together before."""
        self.count += 1
        number, letters = self.count, ""
        while number or len(letters) < 4:
            number, consonant = divmod(number, len(CONSONANTS))
            number, vowel = divmod(number, len(VOWELS))
            letters += CONSONANTS[consonant] + VOWELS[vowel]
        return letters

    def word(self) -> str:
        """A new one: `bako`, `dilué`, `Mr. Bako`, `bako-dilu`, `1,917`."""
        letters = self.letters()
        match self.chance.randrange(16):
            case 0:
                return f"{letters}’s"
            case 1:
                return f"{letters}-{self.letters()}"
            case 2:
                return f"{self.chance.choice(['Mr.', 'Dr.', 'St.', 'J. R.'])} {letters.title()}"
            case 3:
                return f"{letters}{self.chance.choice('éüñø')}"
            case 4:
                return f"{self.count:,}"
            case 5:
                return letters.upper()
        return letters

    def sentence(self) -> str:
        """One sentence; some are far too long for a segment, and some have nothing in them at which to cut."""
        told = [self.word() for _ in range(self.chance.choice([1, 3, 8, 8, 8, 20, 90]))]
        for at in range(len(told) - 1):
            told[at] += self.chance.choice([*[" "] * 9, ", ", "; ", "—", " – ", "… ", ": "])
        text = "".join(told)
        ended = text[0].upper() + text[1:] + self.chance.choice([".", ".", ".", "?", "!", "…"])
        return self.chance.choice(
            [ended, ended, f"“{ended}”", f"({ended})", f"“{ended[:-1]},” said {self.word()}."]
        )

    def spoken(self, text: str) -> str:
        """Text that is to be heard, with markup in, around and between its words."""
        self.said += words(text)
        return "".join(self._marked(part) for part in re.split(r"(\s)", text))

    def _marked(self, part: str) -> str:
        if part.isspace():
            return self.chance.choice([part, part, part, "\n\t\t", "<!-- no --> ", "<wbr/> "])
        cut = self.chance.randrange(len(part) + 1)
        first, rest = (self._escaped(half) for half in (part[:cut], part[cut:]))
        number = self.chance.randrange(1, 99)
        match self.chance.randrange(24):
            case 0:
                return f"<i>{first}{rest}</i>"
            case 1:
                return f"<em>{first}</em>{rest}"
            case 2:
                return f'<span class="x"><b>{first}</b><small>{rest}</small></span>'
            case 3:
                return f'{first}{rest}<a href="notes.xhtml#n{number}" epub:type="noteref">{number}</a>'
            case 4:
                return f'{first}{rest}<sup><a href="#n{number}">{number}</a></sup>'
            case 5:
                return f'{first}<span epub:type="pagebreak" title="{number}">{number}</span>{rest}'
            case 6:
                return f"{first}&#173;{rest}"
            case 7:
                return f'<a href="a.xhtml#x">{first}{rest}</a>'
            case 8:
                return f"<ruby>{first}{rest}<rp>(</rp><rt>{self.word()}</rt><rp>)</rp></ruby>"
        return first + rest

    def _escaped(self, text: str) -> str:
        if self.chance.random() < 0.5:
            return html.escape(text)
        return "".join(NAMED.get(character, html.escape(character)) for character in text)

    def prose(self) -> str:
        return self.spoken(" ".join(self.sentence() for _ in range(self.chance.randrange(1, 6))))

    def title(self) -> str:
        return " ".join(f"{self.word()}" for _ in range(3))

    def unspoken(self) -> str:
        return " ".join(self.word() for _ in range(self.chance.randrange(1, 30)))

    def block(self) -> str:
        """A paragraph, a list, a table, a poem, or something that is not for the ear."""
        kinds: list[Callable[[], str]] = [
            *[lambda: f"<p>{self.prose()}</p>"] * 8,
            lambda: (
                f"<blockquote><p>{self.prose()}</p><footer><cite>{self.prose()}</cite></footer></blockquote>"
            ),
            lambda: f"<div>{self.prose()}<p>{self.prose()}</p>{self.prose()}</div>",
            lambda: f"<ul><li>{self.prose()}<ol><li><p>{self.prose()}</p></li></ol>{self.prose()}</li></ul>",
            lambda: f"<dl><dt>{self.prose()}</dt><dd>{self.prose()}</dd></dl>",
            lambda: f"<p><span>{self.prose()}</span><br/>\n<span>{self.prose()}</span></p>",
            lambda: (
                f'<figure><img src="x.png" alt="{self.unspoken()}"/><figcaption>{self.prose()}</figcaption></figure>'
            ),
            lambda: (
                f"<table><caption>{self.prose()}</caption>{self._row('th')}{self._row('td')}{self._row('td')}</table>"
            ),
            lambda: f"<table><tr><td><p>{self.prose()}</p><p>{self.prose()}</p></td></tr></table>",
            lambda: f"<section><section><h4>{self.prose()}</h4><p>{self.prose()}</p></section></section><hr/>",
            lambda: f'<aside epub:type="footnote" id="n1"><p>{self.unspoken()}</p></aside>',
            lambda: f'<section role="doc-endnotes"><ol><li>{self.unspoken()}</li></ol></section>',
            lambda: f'<p hidden="hidden">{self.unspoken()}</p><p style="display: none">{self.unspoken()}</p>',
            lambda: f"<svg><text>{self.unspoken()}</text></svg><script>{self.unspoken()}</script>",
            lambda: f'<p class="pagenum">{self.unspoken()}</p><nav><ol><li>{self.unspoken()}</li></ol></nav>',
        ]
        return self.chance.choice(kinds)()

    def _row(self, tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{self.spoken(self.title())}</{tag}>' for _ in range(3))}</tr>"

    def blocks(self) -> str:
        return "\n".join(self.block() for _ in range(30))


@dataclass
class Book:
    """Its pages, its table of contents, and what is to be heard of each chapter."""

    pages: dict[str, str] = field(default_factory=dict)
    contents: str = ""
    chapters: list[list[str]] = field(default_factory=list)

    def make(self, folder: Path) -> Path:
        return epubs.make(folder, {"nav.xhtml": epubs.nav(self.contents), **self.pages})


def written(chance: Random) -> Book:
    """A book with all that books have: parts, chapters alone and two in a file, stories in sections, matter around them."""
    writer, book = Writer(chance), Book()

    def page(name: str, body: str, attributes: str) -> None:
        book.pages[name] = epubs.page(body, attributes)

    def heard() -> None:
        book.chapters.append(writer.said)
        writer.said = []

    def silent(name: str, attributes: str) -> None:
        paragraphs = "".join(f"<p>{writer.unspoken()}</p>" for _ in range(5))
        page(
            name,
            f"<section {attributes}><h2>{writer.title()}</h2>{paragraphs}</section>",
            'epub:type="frontmatter"',
        )

    def entry(name: str, title: str, inside: str = "") -> str:
        nested = f"<ol>{inside}</ol>" if inside else ""
        return f'<li><a href="{name}">{html.escape(title)}</a>{nested}</li>'

    silent("titlepage.xhtml", 'epub:type="titlepage"')
    silent("imprint.xhtml", 'epub:type="imprint"')
    page(
        "dedication.xhtml",
        f'<section epub:type="dedication"><p>{writer.prose()}</p></section>',
        'epub:type="frontmatter"',
    )
    book.contents += entry("titlepage.xhtml", "Titlepage") + entry("dedication.xhtml", "Dedication")
    heard()
    for part in ("p1", "p2"):
        name, title = f"{part}.xhtml", writer.title()
        page(
            name,
            f'<section epub:type="part"><h1>{writer.spoken(title)}</h1></section>',
            'epub:type="bodymatter"',
        )
        inside = ""
        for number in range(2):
            inner, inner_title = f"{part}-{number}.xhtml", writer.title()
            heading = f"<h2>{writer.spoken(inner_title)}</h2>"
            body = f'<section epub:type="chapter">{heading}{writer.blocks()}</section>'
            page(inner, body, 'epub:type="bodymatter z3998:fiction"')
            inside += entry(inner, inner_title)
            heard()
        book.contents += entry(name, title, inside)
    both = ""
    for number in range(2):
        title = writer.title()
        both += f'<div id="c{number}"><h2>{writer.spoken(title)}</h2>{writer.blocks()}</div>'
        book.contents += entry(f"both.xhtml#c{number}", title)
        heard()
    page("both.xhtml", both, "")
    title = writer.title()
    story, inside = f"<h2>{writer.spoken(title)}</h2>", ""
    for number in range(3):
        story += (
            f'<section id="s{number}"><h3>{writer.spoken("I" * (number + 1))}</h3>{writer.blocks()}</section>'
        )
        inside += entry(f"story.xhtml#s{number}", "I" * (number + 1))
    page("story.xhtml", f'<article epub:type="se:short-story">{story}</article>', 'epub:type="bodymatter"')
    book.contents += entry("story.xhtml", title, inside)
    heard()
    title = writer.title()
    body = f'<section epub:type="afterword"><h2>{writer.spoken(title)}</h2>{writer.blocks()}</section>'
    page("afterword.xhtml", body, 'epub:type="backmatter"')
    book.contents += entry("afterword.xhtml", title)
    heard()
    silent("notes.xhtml", 'epub:type="endnotes"')
    silent("index.xhtml", 'epub:type="index"')
    silent("uncopyright.xhtml", 'epub:type="copyright-page"')
    book.contents += entry("notes.xhtml", "Endnotes") + entry("index.xhtml", "Index")
    return book


def documents(path: Path, split: str) -> list[Document]:
    found = list(readers.read([str(path)], split=split))
    assert all(isinstance(item, Document) for item in found), found
    return found  # type: ignore[return-value]


def cut(document: Document, limit: int) -> list[str]:
    pieces = [piece.text for piece in cutter.cut(document.blocks, language=document.language, limit=limit)]
    assert all(0 < len(piece) <= limit for piece in pieces)
    return pieces


def spoken(pieces: Iterable[str]) -> list[str]:
    return [word for piece in pieces for word in words(piece)]


@pytest.mark.parametrize("limit", [cutter.LIMIT, cutter.MIN_LIMIT])
@pytest.mark.parametrize("seed", range(3))
def test_every_word_of_a_book_is_spoken_once_and_in_its_place(tmp_path: Path, seed: int, limit: int) -> None:
    book = written(Random(seed))
    path = book.make(tmp_path)
    wanted = [word for chapter in book.chapters for word in chapter]
    assert len(wanted) > 10_000

    (whole,) = documents(path, "none")
    assert spoken(cut(whole, limit)) == wanted

    chapters = documents(path, "chapter")
    assert [spoken(cut(chapter, limit)) for chapter in chapters] == book.chapters
