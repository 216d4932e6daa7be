"""The table of contents of an EPUB: the navigation document of EPUB 3, or the NCX of EPUB 2."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduler.readers import source
from scheduler.readers.epub import archive, package, semantics


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the table of contents."""

    title: str
    name: str  # the document that it leads to; empty where it leads nowhere itself
    fragment: str
    children: Sequence["Entry"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Navigation:
    """What a book says of its own parts. Empty where it says nothing, or nothing that can be read."""

    contents: Sequence[Entry] = ()
    landmarks: Sequence[package.Reference] = ()


def load(book: archive.Archive, opf: package.Package) -> Navigation:
    """The table of contents and landmarks. A damaged one counts as absent: the text can be read without."""
    landmarks: list[package.Reference] = []
    for item, read in ((opf.navigation, _read_nav), (opf.ncx, _read_ncx)):
        if item is None:
            continue
        try:
            found = read(archive.content(book.read(item.name), item.name), item.name)
        except (source.ReadError, RecursionError):
            continue
        landmarks += found.landmarks
        if found.contents:
            return Navigation(found.contents, landmarks)
    return Navigation((), landmarks)


def _read_nav(root: Any, name: str) -> Navigation:
    contents: list[Entry] = []
    landmarks: list[package.Reference] = []
    navs = list(package.find(root, "nav"))
    for nav in navs:
        kinds = semantics.kinds(nav)
        if "toc" in kinds or (len(navs) == 1 and not kinds):
            contents += _list(nav, name)
        elif "landmarks" in kinds:
            landmarks += _landmarks(nav, name)
    return Navigation(contents, landmarks)


def _list(element: Any, name: str) -> list[Entry]:
    top = next(package.find(element, "ol"), None)
    return [] if top is None else [_entry(item, name) for item in top if package.local(item) == "li"]


def _entry(item: Any, name: str) -> Entry:
    label = next((child for child in item if package.local(child) in ("a", "span")), None)
    title = "" if label is None else _text(label)
    href = "" if label is None else label.get("href", "")
    return Entry(
        title, (archive.joined(name, href) or "") if href else "", archive.fragment(href), _list(item, name)
    )


def _landmarks(nav: Any, name: str) -> Iterator[package.Reference]:
    for link in package.find(nav, "a"):
        href = link.get("href", "")
        if target := archive.joined(name, href):
            for kind in semantics.kinds(link):
                yield package.Reference(kind, target, archive.fragment(href))


def _read_ncx(root: Any, name: str) -> Navigation:
    top = next(package.find(root, "navmap"), None)
    return Navigation([] if top is None else _points(top, name))


def _points(element: Any, name: str) -> list[Entry]:
    return [_point(child, name) for child in element if package.local(child) == "navpoint"]


def _point(point: Any, name: str) -> Entry:
    label = next((child for child in point if package.local(child) == "navlabel"), None)
    target = next((child for child in point if package.local(child) == "content"), None)
    href = "" if target is None else target.get("src", "")
    title = "" if label is None else _text(label)
    return Entry(
        title, (archive.joined(name, href) or "") if href else "", archive.fragment(href), _points(point, name)
    )


def _text(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())
