"""The words of a content document: a passage for each paragraph, heading, list item or row of a table."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from scheduler.readers import source
from scheduler.readers.epub import package, semantics

SCENE_BREAK = "* * *"  # nothing to speak, but a paragraph of its own: the silence grows
_CELL_END = "\x1f"
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(_HEADINGS) | frozenset(
    (
        "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
        "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "li", "main", "ol", "p", "pre",
        "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
    )
)  # fmt: skip
_UNSPOKEN = frozenset(
    (
        "audio", "button", "canvas", "head", "iframe", "img", "input", "map", "nav", "noscript", "object", "rp", "rt",
        "script", "select", "style", "svg", "template", "textarea", "video",
    )
)  # fmt: skip
_UNSPOKEN_CLASSES = frozenset(("pagenum", "pageno", "page-number", "pg-boilerplate"))
_UNSPOKEN_IDS = frozenset(
    ("pg-header", "pg-footer")
)  # Project Gutenberg's licence, around every one of its books
_DISPLAY_NONE = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡§]{1,3}|[a-z])[\])]?")
_ENDED = re.compile(r"[.!?,;:…—][\"'”’)]*\Z")


@dataclass(frozen=True, slots=True)
class Passage:
    """Text that is spoken in one go."""

    text: str
    level: int  # 1 to 6 for a heading, 0 for anything else
    ids: frozenset[str]  # the places that begin with it, of those that were asked for


@dataclass(slots=True)
class Content:
    """What a document has to say."""

    passages: list[Passage] = field(default_factory=list)
    characters: int = 0  # in the passages
    unread_characters: int = 0  # in what is left out
    link_characters: int = 0  # of them inside links
    kinds: frozenset[str] = frozenset()  # what the document as a whole says that it is

    @property
    def heading(self) -> str:
        """Its first heading, if it begins with one."""
        return next((passage.text for passage in self.passages[:3] if passage.level), "")


def extract(root: Any, wanted: Collection[str]) -> Content:
    """The passages of a document; `wanted` are the ids whose places matter. Raises ReadError."""
    body = next(package.find(root, "body"), root)
    walk = _Walk(wanted)
    try:
        walk.element(body)
    except RecursionError as error:
        raise source.ReadError(reason="is damaged: its text is nested too deeply") from error
    walk.flush(0)
    walk.content.unread_characters = max(0, _written(body) - walk.content.characters)
    walk.content.kinds = _kinds(root, body)
    return walk.content


def _written(body: Any) -> int:
    return sum(len(text.strip()) for text in body.itertext())


def _kinds(root: Any, body: Any) -> frozenset[str]:
    """The kinds that a document states of itself, or of the one section that it consists of."""
    kinds = semantics.kinds(root) | semantics.kinds(body)
    sections = [child for child in body if package.local(child)]
    return kinds | semantics.kinds(sections[0]) if len(sections) == 1 else kinds


class _Walk:
    """One pass over a document."""

    def __init__(self, wanted: Collection[str]) -> None:
        self.content = Content()
        self._wanted = wanted
        self._text: list[str] = []
        self._ids: set[str] = set()
        self._rows = 0  # table rows that are open: cells are parted by commas, not by silence
        self._heading = 0
        self._links = 0  # links that are open

    def element(self, element: Any) -> None:
        """Take in an element and all below it, but not what follows it."""
        tag = package.local(element)
        if _is_silent(element, tag):
            return
        is_row = tag == "tr" and _is_data(element)
        is_block = tag in _BLOCKS and not self._rows
        if is_block:
            self.flush(0)
        self._ids |= {id for id in (element.get("id"), element.get("name")) if id in self._wanted}
        self._rows += is_row
        self._links += tag == "a" and element.get("href") is not None
        self._heading = _HEADINGS.get(tag, self._heading)
        self._inside(element, tag)
        self._links -= tag == "a" and element.get("href") is not None
        self._rows -= is_row
        if is_block:
            self.flush(self._heading)
        if tag in _HEADINGS:
            self._heading = 0

    def flush(self, level: int) -> None:
        """End the passage that is open."""
        text = _row("".join(self._text)) if self._text else ""
        self._text = []
        if text:
            self.content.passages.append(Passage(text, level, frozenset(self._ids)))
            self._ids = set()

    def _inside(self, element: Any, tag: str) -> None:
        match tag:
            case "br":
                self._add(self._line_end())
            case "hr":
                self._add(SCENE_BREAK)
            case "q":
                self._add("“")
        self._add(element.text)
        for child in element:
            self.element(child)
            self._add(child.tail)
        match tag:
            case "q":
                self._add("”")
            case "td" | "th" if self._rows:
                self._text.append(_CELL_END)
            case _ if tag in _BLOCKS and self._rows:
                self._add(" ")

    def _add(self, text: str | None) -> None:
        if text:
            self._text.append(text)
            count = len(text.strip())
            self.content.characters += count
            self.content.link_characters += count if self._links else 0

    def _line_end(self) -> str:
        """A line of verse goes on; the lines of a heading are parts of a title."""
        written = "".join(self._text).rstrip() if self._heading else ""
        return ", " if written and not _ENDED.search(written) else " "


def _row(text: str) -> str:
    if _CELL_END not in text:
        return " ".join(text.split())
    spoken = ""
    for cell in filter(None, (" ".join(cell.split()) for cell in text.split(_CELL_END))):
        spoken += f"{' ' if _ENDED.search(spoken) else ', '}{cell}" if spoken else cell
    return spoken


def _is_data(row: Any) -> bool:
    """Whether a row holds data, rather than whole paragraphs that a table only puts in place."""
    return all(sum(package.local(block) in _BLOCKS for block in cell.iter()) <= 1 for cell in row)


def _is_silent(element: Any, tag: str) -> bool:
    if not tag or tag in _UNSPOKEN:
        return True
    if tag in ("sup", "a") and _is_note_mark(element):
        return True
    if not element.attrib:
        return False
    if element.get("hidden") is not None or _DISPLAY_NONE.search(element.get("style", "")):
        return True
    if element.get("id") in _UNSPOKEN_IDS or _UNSPOKEN_CLASSES & set(element.get("class", "").lower().split()):
        return True
    kinds = semantics.kinds(element)
    if semantics.SILENT & kinds:
        return True
    if semantics.MATTER & kinds and not semantics.READ & kinds:
        return not any(semantics.READ & semantics.kinds(below) for below in element.iterdescendants())
    return False


def _is_note_mark(element: Any) -> bool:
    """`<sup><a href="#n1">1</a></sup>`, in either order: a reference to a note that does not say so."""
    other = "a" if package.local(element) == "sup" else "sup"
    inner = [child for child in element if package.local(child) == other]
    link = element if other == "sup" else next(iter(inner), None)
    if not inner or link is None or "#" not in link.get("href", ""):
        return False
    return _NOTE_MARK.fullmatch("".join(element.itertext()).strip()) is not None
