"""The package document (OPF) of an EPUB: what the book is called, which files it has and in which order they are read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from scheduler.readers.epub import archive
from scheduler.readers.source import ReadError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PACKAGE_TYPE = "application/oebps-package+xml"
_CONTENT_TYPES = frozenset(
    ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
)
_FONT_SCRAMBLING = (
    "http://www.idpf.org/2008/embedding",
    "http://ns.adobe.com/pdf/enc#RC",
)  # no encryption of text


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the book."""

    id: str
    name: str  # in the archive
    media_type: str
    properties: frozenset[str]

    @property
    def is_content(self) -> bool:
        """Whether it is a document to be read."""
        return self.media_type in _CONTENT_TYPES


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in the book of which the publisher says what it is."""

    kind: str  # `cover`, `toc`, `bodymatter` ... as EPUB's vocabulary has it
    name: str
    fragment: str


@dataclass(frozen=True, slots=True)
class Package:
    """The package document, as far as reading aloud needs it."""

    title: str | None
    author: str | None
    language: str | None
    items: Sequence[Item]
    spine: Sequence[Item]  # content in reading order, without what is not part of it (`linear="no"`)
    guide: Sequence[Reference]  # EPUB 2
    ncx: Item | None  # EPUB 2
    cover_id: str | None  # EPUB 2

    @property
    def navigation(self) -> Item | None:
        """The navigation document of EPUB 3."""
        return next((item for item in self.items if "nav" in item.properties), None)


def local(element: Any) -> str:
    """An element's name in lower case, without its namespace; empty for what is no element."""
    return etree.QName(element).localname.lower() if isinstance(element.tag, str) else ""


def find(element: Any, name: str) -> Iterator[Any]:
    """Every element of that name below one, in document order, whatever its namespace."""
    return (found for found in element.iter() if local(found) == name)


def load(book: archive.Archive) -> Package:
    """The package document of an EPUB. Raises ReadError where there is none or the text is encrypted."""
    name = _package_name(book)
    root = archive.xml(book.read(name), name)
    items = {item.id: item for item in _items(root, name)}
    spine_element = next(find(root, "spine"), None)
    references = [] if spine_element is None else list(find(spine_element, "itemref"))
    linear = [
        items[ref.get("idref", "")]
        for ref in references
        if ref.get("linear") != "no" and ref.get("idref", "") in items
    ]
    spine = [item for item in linear if item.is_content and item.name in book]
    if not spine:
        raise ReadError(reason="is damaged: its spine names no document to be read")
    _check_encryption(book, {item.name for item in spine})
    ncx_id = "" if spine_element is None else spine_element.get("toc", "")
    return Package(
        title=_first(root, "title"),
        author=_authors(root),
        language=_first(root, "language"),
        items=list(items.values()),
        spine=spine,
        guide=list(_guide(root, name)),
        ncx=items.get(ncx_id) or _of_type(items.values(), "application/x-dtbncx+xml"),
        cover_id=next(
            (meta.get("content") for meta in find(root, "meta") if meta.get("name") == "cover"), None
        ),
    )


def _package_name(book: archive.Archive) -> str:
    if _CONTAINER not in book:
        raise ReadError(reason=f"is no EPUB: it has no {_CONTAINER}")
    container = archive.xml(book.read(_CONTAINER), _CONTAINER)
    for rootfile in find(container, "rootfile"):
        name = archive.joined("", rootfile.get("full-path", ""))
        if name and rootfile.get("media-type", _PACKAGE_TYPE) == _PACKAGE_TYPE:
            return name
    raise ReadError(reason=f"is no EPUB: {_CONTAINER} names no package document")


def _check_encryption(book: archive.Archive, content: set[str]) -> None:
    if _ENCRYPTION not in book:
        return
    for entry in find(archive.xml(book.read(_ENCRYPTION), _ENCRYPTION), "encrypteddata"):
        method = next((found.get("Algorithm", "") for found in find(entry, "encryptionmethod")), "")
        names = {archive.joined("", found.get("URI", "")) for found in find(entry, "cipherreference")}
        if method not in _FONT_SCRAMBLING and names & content:
            raise ReadError(reason="is encrypted (DRM): its text cannot be read")


def _items(root: Any, package_name: str) -> Iterator[Item]:
    for element in find(root, "item"):
        name = archive.joined(package_name, element.get("href", ""))
        if name and element.get("id"):
            properties = frozenset(element.get("properties", "").split())
            yield Item(element.get("id"), name, element.get("media-type", "").lower(), properties)


def _of_type(items: Iterable[Item], media_type: str) -> Item | None:
    return next((item for item in items if item.media_type == media_type), None)


def _guide(root: Any, package_name: str) -> Iterator[Reference]:
    for guide in find(root, "guide"):
        for element in find(guide, "reference"):
            href = element.get("href", "")
            if name := archive.joined(package_name, href):
                yield Reference(element.get("type", "").lower(), name, archive.fragment(href))


def _first(root: Any, name: str) -> str | None:
    return next(_texts(root, name), (None, None))[1]


def _texts(root: Any, name: str) -> Iterator[tuple[Any, str]]:
    """Elements of the book's metadata, each with its text."""
    for metadata in find(root, "metadata"):
        for element in find(metadata, name):
            if text := " ".join("".join(element.itertext()).split()):
                yield element, text


def _authors(root: Any) -> str | None:
    """The creators whose role is author, or not told."""
    roles = {
        meta.get("refines", "").removeprefix("#"): (meta.text or "").strip()
        for meta in find(root, "meta")
        if meta.get("property") == "role"
    }
    names = [
        text
        for element, text in _texts(root, "creator")
        if (_opf_role(element) or roles.get(element.get("id", ""), "aut")) == "aut"
    ]
    return ", ".join(names) or None


def _opf_role(element: Any) -> str | None:
    role = element.get("{http://www.idpf.org/2007/opf}role") or element.get("opf:role")
    return str(role) if role else None
