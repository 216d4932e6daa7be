"""A book with chapters: as one document, or as one for each chapter."""

import itertools
from collections.abc import Iterator, Sequence

from scheduler import custom_ids
from scheduler.document import Block, Document
from scheduler.readers.source import Split


def documents(book: Document, blocks: Sequence[Block], split: Split) -> Iterator[Document]:
    """The book with these blocks, or its chapters, named `book-01-the-first-chapter` so that they sort.

    What stands before the first chapter goes with it. A book without chapters stays whole.
    """
    starts = [number for number, block in enumerate(blocks) if block.chapter is not None]
    if split != "chapter" or len(starts) < 2:
        yield _with(book, book.custom_id, blocks, book.title)
        return
    digits = max(2, len(str(len(starts))))
    bounds = [0, *starts[1:], len(blocks)]
    for number, (start, end) in enumerate(itertools.pairwise(bounds), start=1):
        title = blocks[starts[number - 1]].chapter or ""
        name = "-".join(filter(None, (book.custom_id, f"{number:0{digits}}", custom_ids.slug(title))))
        yield _with(book, custom_ids.made_valid(name), blocks[start:end], title or book.title)


def _with(book: Document, custom_id: str, blocks: Sequence[Block], title: str | None) -> Document:
    return Document(custom_id, blocks, book.where, title, book.author, book.language, book.options, book.cover)
