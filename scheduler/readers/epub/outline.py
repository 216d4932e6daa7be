"""Where the chapters of a book begin, by its table of contents, or by its headings where that says too little."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler.readers.epub import content, navigation

Place = tuple[int, int]  # number of the document in reading order, number of the passage in it

_OWN_CHARACTERS = 1000  # a container with more text than this before its first child is a chapter as well
_NUMBER = (
    r"(?:\d+|[ivxlc]+|one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|fourth|fifth|last)"
)
_PART = re.compile(
    rf"(?:part|book|volume|vol\.?|act|section|teil|band|buch|tome|livre|partie|parte|libro)\s+(?:the\s+)?{_NUMBER}\b",
    re.IGNORECASE,
)
_CHAPTER = re.compile(
    r"(?:chapter|chap\.?|kapitel|chapitre|capítulo|capitolo|hoofdstuk|глава)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Chapter:
    """Where a chapter begins."""

    place: Place
    title: str


@dataclass(frozen=True, slots=True)
class _Node:
    """An entry of the table of contents that leads into the text, or has entries that do."""

    title: str
    place: Place
    children: Sequence["_Node"]
    has_own_place: bool


class _Text:
    """The documents of a book, with what is asked of them again and again counted once."""

    def __init__(self, documents: Sequence[content.Content], numbers: Mapping[str, int]) -> None:
        self.documents = documents
        self._numbers = numbers  # of the documents, by their names in the archive
        self._by_id = [
            {place: at for at, passage in enumerate(document.passages) for place in passage.ids}
            for document in documents
        ]
        sizes = (
            0 if passage.level else len(passage.text) for document in documents for passage in document.passages
        )
        self._written = [
            0,
            *itertools.accumulate(sizes),
        ]  # characters before each passage, headings not counted
        self._first = [0, *itertools.accumulate(len(document.passages) for document in documents)]

    def place(self, entry: navigation.Entry) -> Place | None:
        """Where an entry of the table of contents leads, None where it leads to no document that is read."""
        number = self._numbers.get(entry.name)
        return None if number is None else (number, self._by_id[number].get(entry.fragment, 0))

    def characters(self, start: Place, end: Place) -> int:
        """Characters of text from one place to another, headings not counted."""
        before, after = (self._written[self._first[number] + at] for number, at in (start, end))
        return max(0, after - before)

    def heading(self, place: Place) -> str:
        """The heading that a place begins with, if any."""
        passages = self.documents[place[0]].passages[place[1] : place[1] + 3]
        return next((passage.text for passage in passages if passage.level), "")


def chapters(
    entries: Sequence[navigation.Entry], documents: Sequence[content.Content], numbers: Mapping[str, int]
) -> list[Chapter]:
    """The chapters in reading order. `numbers` says which of the documents an entry of the archive is."""
    text = _Text(documents, numbers)
    nodes = _nodes(entries, text)
    while len(nodes) == 1 and nodes[0].children:  # the book itself, as the only entry
        nodes = nodes[0].children
    stated = _distinct(found for node in nodes for found in _expanded(node, "", text))
    if len(stated) < 2:
        headed = _distinct(_headed(text))
        return headed if len(headed) > len(stated) else stated
    return stated


def _nodes(entries: Sequence[navigation.Entry], text: _Text) -> Sequence[_Node]:
    nodes = []
    for entry in entries:
        children = _nodes(entry.children, text)
        place = text.place(entry)
        if place is not None or children:
            nodes.append(_Node(entry.title, place or children[0].place, children, place is not None))
    return nodes


def _expanded(node: _Node, prefix: str, text: _Text) -> Iterator[Chapter]:
    title = f"{prefix}{node.title}" if node.title else prefix.rstrip(": ")
    own = text.characters(node.place, node.children[0].place) if node.children else 0
    if not _is_container(node, own):
        yield Chapter(node.place, title or text.heading(node.place))
        return
    own_chapter = own >= _OWN_CHARACTERS
    if own_chapter:
        yield Chapter(node.place, title)
    for number, child in enumerate(node.children):
        for count, chapter in enumerate(_expanded(child, f"{title}: " if title else "", text)):
            begins_part = number == count == 0 and not own_chapter
            yield Chapter(node.place, chapter.title) if begins_part else chapter


def _is_container(node: _Node, own_characters: int) -> bool:
    """Whether an entry only holds chapters together, as `Part One` does, rather than being one with parts inside."""
    if not node.children:
        return False
    if not node.has_own_place:
        return True
    if _CHAPTER.match(node.title):
        return False
    elsewhere = all(child.place[0] != node.place[0] for child in node.children)
    return bool(_PART.match(node.title)) or (elsewhere and own_characters < _OWN_CHARACTERS)


def _headed(text: _Text) -> Iterator[Chapter]:
    """A chapter at every heading of the highest level that occurs more than once; headings in a row are one."""
    headings = [
        (passage.level, (number, at), passage.text)
        for number, document in enumerate(text.documents)
        for at, passage in enumerate(document.passages)
        if passage.level
    ]
    levels = [level for level, _, _ in headings]
    chapter_level = next((level for level in range(1, 7) if levels.count(level) > 1), 0)
    last: Chapter | None = None
    for level, place, heading in headings:
        if level != chapter_level:
            continue
        if last is not None and text.characters(last.place, place) == 0:
            last = Chapter(last.place, f"{last.title}: {heading}")
            continue
        if last is not None:
            yield last
        last = Chapter(place, heading)
    if last is not None:
        yield last


def _distinct(found: Iterator[Chapter]) -> list[Chapter]:
    """In reading order, the first of those that begin at the same place."""
    by_place: dict[Place, Chapter] = {}
    for chapter in found:
        by_place.setdefault(chapter.place, chapter)
    return [by_place[place] for place in sorted(by_place)]
