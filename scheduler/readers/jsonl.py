"""JSON lines: a document a line. Every line that is wrong is told of, and reading goes on with the next one."""

from collections.abc import Iterator

from scheduler.document import Document, Problem
from scheduler.readers import record, registry, source, strict_json


@registry.reader(".jsonl", ".ndjson", many=True)
def read(origin: source.Source) -> Iterator[Document | Problem]:
    """A document or a problem for each line that is not blank, in constant memory."""
    with origin.open() as stream:
        for number, line in enumerate(source.lines(stream, origin.encoding), start=1):
            where = f"{origin.name} line {number}"
            if isinstance(line, source.ReadError):
                yield Problem(where, str(line))
            elif line and not line.isspace():
                yield _document(line, origin, where)


def _document(line: str, origin: source.Source, where: str) -> Document | Problem:
    try:
        values = strict_json.loads(line)
    except ValueError as error:
        return Problem(where, str(error))
    if not isinstance(values, dict):
        return Problem(where, 'must be an object such as {"id": "...", "text": "..."}')
    return record.document(values, origin, where)
