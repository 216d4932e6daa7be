"""A document described by named values: one line of a JSONL file, one row of a table."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scheduler import paragraphs
from scheduler.document import Block, Document, Problem
from scheduler.readers import registry, source

_TEXT = "a string"
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "id": (str, _TEXT),
    "custom_id": (str, _TEXT),
    "text": (str, _TEXT),
    "path": (str, _TEXT),
    "title": (str, _TEXT),
    "author": (str, _TEXT),
    "language": (str, _TEXT),
    "voice": (str, _TEXT),
    "format": (str, _TEXT),
    "bitrate": (str, _TEXT),
    "sample_rate": (int, "a whole number"),
    "loudness": ((int, float), "a number"),
    "preset": (str, _TEXT),
    "deliverables": (list, "a list"),
    "seed": (int, "a whole number"),
    "priority": ((int, str), "a whole number or a name"),
    "options": (dict, "an object"),
}
KEYS = frozenset(_KINDS)
_OPTIONS = (
    "voice", "format", "bitrate", "sample_rate", "loudness", "preset", "deliverables", "seed", "priority", "options",
)  # fmt: skip
_LINKED_SUFFIXES = (".txt", ".md", ".epub")
_SHOWN = 40  # characters of a wrong value that a message repeats


def document(record: Mapping[str, Any], origin: source.Source, where: str) -> Document | Problem:
    """The document that the values describe, or the first thing that is wrong with them. None counts as absent."""
    record = {key: value for key, value in record.items() if value is not None}
    if reason := _fault(record):
        return Problem(where, reason)
    custom_id = record["custom_id"] if "custom_id" in record else record["id"]
    options = {key: record[key] for key in _OPTIONS if key in record}
    title, author, language = record.get("title"), record.get("author"), record.get("language")
    if "text" in record:
        blocks = [Block(paragraph) for paragraph in paragraphs.split(record["text"])]
        return Document(custom_id, blocks, where, title, author, language, options)
    try:
        linked = _linked(record["path"], origin)
    except OSError as error:
        linked = Problem("", f"cannot be read: {error.strerror}")
    if isinstance(linked, Problem):
        return Problem(where, f"{record['path']!r} {linked.reason}")
    return dataclasses.replace(
        linked,
        custom_id=custom_id,
        where=where,
        title=title or linked.title,
        author=author or linked.author,
        language=language or linked.language,
        options=options,
    )


def unknown(key: str) -> str:
    """What to say about a key that there is none of."""
    close = difflib.get_close_matches(key, KEYS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(KEYS))}"
    return f"there is no key {key[:_SHOWN]!r}; {hint}"


def _fault(record: Mapping[str, Any]) -> str | None:
    for key, value in record.items():
        if key not in _KINDS:
            return unknown(key)
        kind, name = _KINDS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"{key!r} must be {name}, not {_shown(value)}"
    if ("id" in record) == ("custom_id" in record):
        return "it has both `id` and `custom_id`" if "id" in record else "it has no `id`"
    if ("text" in record) == ("path" in record):
        return "it has both `text` and `path`" if "text" in record else "it has neither `text` nor `path`"
    if "text" in record and not record["text"].strip():
        return "its text is empty"
    return None


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _linked(path: str, origin: source.Source) -> Document | Problem:
    """The document in another file, which must lie in or below the folder of the file that names it."""
    reader = registry.find(Path(path).suffix)
    if reader is None or Path(path).suffix.lower() not in _LINKED_SUFFIXES:
        return Problem("", f"cannot be read: a path must end in {', '.join(_LINKED_SUFFIXES)}")
    folder = origin.folder.resolve()
    target = folder / path
    if Path(path).is_absolute() or not target.resolve().is_relative_to(folder):
        return Problem("", f"leads out of the folder of {origin.name}")
    if not target.is_file():
        return Problem("", "is no file")
    linked = source.file(
        target.resolve(), custom_id="linked", name=path, split="book", encoding=origin.encoding
    )
    return next(reader.read(linked))
