"""The readers there are. A new one is one module of this package with a function under `@registry.reader(...)`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scheduler.document import Document, Problem
from scheduler.readers.source import Source

Read = Callable[[Source], Iterator[Document | Problem]]


@dataclass(frozen=True, slots=True)
class Reader:
    """How files of some suffixes are read."""

    suffixes: tuple[str, ...]  # lower case, with the dot
    read: Read
    many: bool  # a file holds many documents, each with an id of its own, rather than being one


_readers: dict[str, Reader] = {}


def reader(*suffixes: str, many: bool = False) -> Callable[[Read], Read]:
    """Register a function that reads the files of these suffixes."""

    def register(read: Read) -> Read:
        for suffix in suffixes:
            assert suffix not in _readers, f"two readers for {suffix}"
            _readers[suffix] = Reader(suffixes, read, many)
        return read

    return register


def find(suffix: str) -> Reader | None:
    """The reader of files with this suffix, in any case; None where there is none."""
    return _readers.get(suffix.lower())


def suffixes() -> tuple[str, ...]:
    """Every suffix that can be read, in alphabetical order."""
    return tuple(sorted(_readers))
