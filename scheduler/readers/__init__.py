"""Where text comes in: files, folders, patterns and standard input, each as a stream of documents.

A reader is one module of this package that registers itself for its suffixes (`registry.reader`).
"""

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from scheduler.document import Document, Problem
from scheduler.readers import files, registry, source, stdin

STDIN = "-"

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def read(
    sources: Sequence[str],
    *,
    split: source.Split = "auto",
    encoding: str = "utf-8",
    stdin_format: stdin.Format = "auto",
    stdin_stream: BinaryIO | None = None,
) -> Iterator[Document | Problem]:
    """The documents of files, folders, patterns and standard input (`-`), and what of them cannot be read.

    `split` says whether a book is one document (`book`; `auto` is the same) or one for each chapter. Blocks are read
    when they are asked for: use up one document before the next. Standard input comes last. Whether an id is used
    twice is not looked at. Raises `source.UnknownEncodingError` at once.
    """
    source.check_encoding(encoding)
    return _read(sources, split, encoding, stdin_format, stdin_stream)


def suffixes() -> tuple[str, ...]:
    """The endings of files that can be read."""
    return registry.suffixes()


def _read(
    sources: Sequence[str],
    split: source.Split,
    encoding: str,
    stdin_format: stdin.Format,
    stdin_stream: BinaryIO | None,
) -> Iterator[Document | Problem]:
    for item in files.find(name for name in sources if name != STDIN):
        if isinstance(item, Problem):
            yield dataclasses.replace(item, where=source.printable(item.where))
            continue
        name = source.printable(item.path)
        origin = source.file(item.path, item.custom_id, name=name, split=split, encoding=encoding)
        try:
            yield from item.reader.read(origin)
        except OSError as error:
            yield Problem(name, f"cannot be read: {error.strerror}")
    if STDIN in sources:
        try:
            yield from stdin.read(stdin_stream or sys.stdin.buffer, stdin_format, encoding)
        except OSError as error:
            yield Problem(stdin.NAME, f"cannot be read: {error.strerror}")
