"""EPUB 2 and 3: the text in reading order, by chapters, without what no audiobook reads out."""

from collections.abc import Iterator
from pathlib import Path

from scheduler.document import Document, Problem
from scheduler.readers import chapters, registry, source
from scheduler.readers.epub import archive, book, cover_image
from scheduler.readers.epub.book import Book, Skipped

__all__ = ["Book", "Skipped", "cover", "load", "read"]


@registry.reader(".epub")
def read(origin: source.Source) -> Iterator[Document | Problem]:
    """One document, or one for each chapter."""
    assert origin.path is not None, "an EPUB cannot be read from standard input"
    try:
        found = book.load(origin.path)
    except source.ReadError as error:
        yield Problem(origin.name, str(error))
        return
    picture = cover(origin.path)
    whole = Document(
        origin.custom_id,
        (),
        origin.name,
        title=found.title,
        author=found.author,
        language=found.language,
        cover=picture[0] if picture and picture[1] in ("image/png", "image/jpeg") else None,
    )
    yield from chapters.documents(whole, found.blocks, origin.split)


def load(path: Path) -> Book:
    """A book, with what of it is left out and why. Raises `source.ReadError`."""
    return book.load(path)


def cover(path: Path) -> tuple[bytes, str] | None:
    """The cover image of an EPUB and its media type; None where it has none that can be read."""
    try:
        with archive.Archive(path) as opened:
            return cover_image.find(opened)
    except source.ReadError:
        return None
