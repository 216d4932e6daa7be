"""A book as it is read aloud: the documents of the spine in order, without front and back matter, by chapters."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.document import Block
from scheduler.readers import source
from scheduler.readers.epub import archive, content, matter, navigation, outline, package

MAX_CHARACTERS = 64_000_000  # the longest novels have ten million


@dataclass(frozen=True, slots=True)
class Skipped:
    """A document of the book that is not read."""

    name: str
    reason: str
    characters: int


@dataclass(frozen=True, slots=True)
class Book:
    """The text of an EPUB."""

    title: str | None
    author: str | None
    language: str | None
    blocks: Sequence[Block]
    skipped: Sequence[Skipped]


def load(path: Path) -> Book:
    """Read an EPUB whole. Raises ReadError where it cannot be, or has nothing to be read."""
    with archive.Archive(path) as opened:
        opf = package.load(opened)
        contents = navigation.load(opened, opf)
        said = _contents(opened, opf, contents)
    kept, skipped = _sorted_out(opf, contents, said)
    documents = [said[item.name] for item in kept]
    numbers = {item.name: number for number, item in enumerate(kept)}
    chapters = outline.chapters(contents.contents, documents, numbers)
    blocks = list(_blocks(documents, chapters))
    if not blocks:
        raise source.ReadError(reason="has no text to be read")
    return Book(opf.title, opf.author, opf.language, blocks, skipped)


def _contents(
    opened: archive.Archive, opf: package.Package, contents: navigation.Navigation
) -> dict[str, content.Content]:
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for entry in _entries(contents.contents):
        wanted[entry.name].add(entry.fragment)
    said: dict[str, content.Content] = {}
    characters = 0
    for item in dict.fromkeys(opf.spine):
        root = archive.content(opened.read(item.name), item.name)
        said[item.name] = content.extract(root, wanted[item.name])
        characters += said[item.name].characters
        if characters > MAX_CHARACTERS:
            raise source.ReadError(reason=f"has more than {MAX_CHARACTERS // 1_000_000} million characters")
    return said


def _entries(entries: Sequence[navigation.Entry]) -> Iterator[navigation.Entry]:
    for entry in entries:
        yield entry
        yield from _entries(entry.children)


def _sorted_out(
    opf: package.Package, contents: navigation.Navigation, said: dict[str, content.Content]
) -> tuple[list[package.Item], list[Skipped]]:
    titles = {entry.name: entry.title for entry in reversed(list(_entries(contents.contents)))}
    references = [*contents.landmarks, *opf.guide]
    total = max(1, sum(found.characters for found in said.values()))
    kept: list[package.Item] = []
    skipped: list[Skipped] = []
    for item in dict.fromkeys(opf.spine):
        found = said[item.name]
        stated = [reference for reference in references if reference.name == item.name]
        reason = matter.silent(item, found, stated, titles.get(item.name, ""), found.characters / total)
        if reason is None and found.passages:
            kept.append(item)
        else:
            skipped.append(
                Skipped(item.name, reason or "nothing to be read", found.characters + found.unread_characters)
            )
    return kept, skipped


def _blocks(documents: Sequence[content.Content], chapters: Sequence[outline.Chapter]) -> Iterator[Block]:
    titles = {chapter.place: chapter.title for chapter in chapters}
    for number, document in enumerate(documents):
        for at, passage in enumerate(document.passages):
            yield Block(passage.text, titles.get((number, at)))
