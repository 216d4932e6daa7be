"""Plain text: a document whose paragraphs stand between blank lines."""

from collections.abc import Iterator

from scheduler import paragraphs
from scheduler.document import Block, Document, Problem
from scheduler.readers import registry, source


@registry.reader(".txt")
def read(origin: source.Source) -> Iterator[Document | Problem]:
    """One document. The file is checked whole first and then read again as a stream, whatever its size."""
    try:
        blank = True
        for chunk in _chunks(origin):
            blank = blank and chunk.isspace()
    except source.ReadError as error:
        yield Problem(origin.name, str(error))
        return
    if blank:
        yield Problem(origin.name, "is empty")
        return
    yield Document(origin.custom_id, _blocks(origin), origin.name)


def _blocks(origin: source.Source) -> Iterator[Block]:
    return (Block(paragraph) for paragraph in paragraphs.stream(_chunks(origin)))


def _chunks(origin: source.Source) -> Iterator[str]:
    with origin.open() as stream:
        yield from source.text(stream, origin.encoding)
