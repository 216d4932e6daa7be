"""Standard input: lines of JSON as they come, or a text that is put aside first so that it can be checked whole."""

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import BinaryIO, Literal

from scheduler import spool
from scheduler.document import Document, Problem
from scheduler.readers import registry, source

Format = Literal["auto", "jsonl", "text"]

NAME = "standard input"
CUSTOM_ID = "stdin"
_BLANK = b" \t\r\n\xef\xbb\xbf"  # a byte order mark counts as blank
_SNIFFED_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


def read(stream: BinaryIO, kind: Format, encoding: str) -> Iterator[Document | Problem]:
    """The documents of a stream: each line's if it is JSON lines, else one."""
    beginning = b""
    if kind == "auto":
        beginning = _beginning(stream)
        kind = "jsonl" if beginning.lstrip(_BLANK).startswith(b"{") else "text"
    whole = source.rejoined(beginning, stream)
    if kind == "jsonl":
        yield from _reader(".jsonl").read(source.Source(NAME, CUSTOM_ID, None, lambda: whole, "book", encoding))
    else:
        spool = _Spool(whole)
        yield from _reader(".txt").read(source.Source(NAME, CUSTOM_ID, None, spool.open, "book", encoding))


def _beginning(stream: BinaryIO) -> bytes:
    """The first bytes, as many as it takes to see one that is not blank."""
    beginning = b""
    while len(beginning) < _SNIFFED_BYTES and not beginning.lstrip(_BLANK):
        byte = stream.read(1)
        if not byte:
            break
        beginning += byte
    return beginning


def _reader(suffix: str) -> registry.Reader:
    reader = registry.find(suffix)
    assert reader is not None
    return reader


class _Spool:
    """A stream put aside on disk, so that it can be read more than once."""

    def __init__(self, stream: BinaryIO) -> None:
        with spool.writing():  # unbuffered: what a full disk refused would be tried again at the end
            self._file = tempfile.TemporaryFile(prefix="voicemill-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # with the last document
        while left := memoryview(stream.read(_CHUNK_BYTES)):
            with spool.writing():
                while left:
                    left = left[self._file.write(left) :]

    def open(self) -> BinaryIO:
        self._file.seek(0)
        return os.fdopen(os.dup(self._file.fileno()), "rb")
