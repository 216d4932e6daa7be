"""Tables (CSV, TSV) with a header: a document a row, the columns named as the keys of a JSON line are."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from scheduler.document import Document, Problem
from scheduler.readers import record, registry, source, strict_json

_NUMBERS = ("seed", "priority", "sample_rate")
_JSON = ("options", "deliverables")


@registry.reader(".csv", ".tsv", many=True)
def read(origin: source.Source) -> Iterator[Document | Problem]:
    """A document or a problem for each row that is not blank, in constant memory. Empty cells count as absent."""
    csv.field_size_limit(source.MAX_LINE_BYTES)  # the module's own is 128 KB; the setting holds for the process
    delimiter = "\t" if PurePath(origin.name).suffix.lower() == ".tsv" else ","
    with origin.open() as stream:
        lines = _Lines(source.lines(stream, origin.encoding))
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        for where, row in _rows(rows, lines, origin):
            if isinstance(row, Problem):
                yield row
            elif header is None:
                header = [name.strip().lower() for name in row]
                if reason := _header_fault(header):
                    yield Problem(where, reason)
                    return
            else:
                yield _document(header, row, origin, where)


def _rows(rows: Any, lines: "_Lines", origin: source.Source) -> Iterator[tuple[str, list[str] | Problem]]:
    """Rows that are not blank, each with its place: the line that it begins in."""
    while True:
        where = f"{origin.name} line {lines.number + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, source.ReadError) as error:
            yield where, Problem(where, str(error))
            continue
        if any(cell.strip() for cell in row):
            yield where, row


class _Lines:
    """Lines for `csv`, which raise where one cannot be read and go on afterwards, as a generator could not."""

    def __init__(self, lines: Iterator[str | source.ReadError]) -> None:
        self._lines = lines
        self.number = 0  # of the last line; csv's own count leaves out those that raise

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if isinstance(line, source.ReadError):
            raise line
        return line


def _header_fault(header: Sequence[str]) -> str | None:
    if not {"id", "custom_id"} & set(header) or not {"text", "path"} & set(header):
        return "the first line must name the columns, with `id` and `text` (or `path`) among them"
    if twice := next((name for name in header if header.count(name) > 1), None):
        return f"there are two columns {twice!r}"
    return next((record.unknown(name) for name in header if name not in record.KEYS), None)


def _document(
    header: Sequence[str], row: Sequence[str], origin: source.Source, where: str
) -> Document | Problem:
    if len(row) > len(header):
        return Problem(
            where, f"it has {len(row)} cells for {len(header)} columns; quote text with a delimiter in it"
        )
    values: dict[str, Any] = {name: cell for name, cell in zip(header, row, strict=False) if cell.strip()}
    for name in _NUMBERS:
        with contextlib.suppress(
            ValueError
        ):  # absent or a name; what is neither is found with the other options
            values[name] = int(values.get(name, ""))
    with contextlib.suppress(ValueError):
        values["loudness"] = float(values.get("loudness", ""))
    for name in _JSON:
        if name in values:
            try:
                values[name] = strict_json.loads(values[name])
            except ValueError as error:
                return Problem(where, f"its column `{name}` {error}")
    return record.document(values, origin, where)
