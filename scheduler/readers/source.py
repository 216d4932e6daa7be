"""What a reader reads from: a file or standard input, as bytes or as checked text, never more than a part at once."""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from storage import errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

Split = Literal["auto", "book", "chapter"]

MAX_LINE_BYTES = 64 << 20
_TOO_LONG = f"is longer than {MAX_LINE_BYTES >> 20} MB"
_CHUNK_BYTES = 1 << 18
_NO_TEXT = re.compile(r"[\ud800-\udfff]")
_WIDE_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))
_MARKS = (*_WIDE_MARKS, (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class ReadError(errors.InputError):
    """{reason}"""


class UnknownEncodingError(errors.InputError):
    """There is no encoding named {encoding!r}. `utf-8`, `cp1252` and `shift_jis` are examples of names."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input, and how the user wants it read."""

    name: str  # for messages
    custom_id: str  # of the document, where the input is a single one
    path: Path | None  # None: standard input
    open: Callable[[], BinaryIO]  # from the beginning; close it
    split: Split = "auto"
    encoding: str = "utf-8"

    @property
    def folder(self) -> Path:
        """Where paths inside the input start from."""
        return self.path.parent if self.path is not None else Path()


def file(path: Path, custom_id: str, *, name: str, split: Split, encoding: str) -> Source:
    """A file as a source."""
    return Source(name, custom_id, path, lambda: path.open("rb"), split, encoding)


def printable(name: str | Path) -> str:
    """A file's name as it may be shown and stored: Python has lone surrogates for bytes that are no text."""
    return _NO_TEXT.sub("\ufffd", str(name))


def check_encoding(encoding: str) -> None:
    """Raises UnknownEncodingError for a name that Python has no text encoding for."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:  # the latter for names that are no names, and for `undefined`
        raise UnknownEncodingError(encoding=encoding) from error


def encoding_of(beginning: bytes, stated: str) -> str:
    """The encoding of a text that begins so: a byte order mark counts for more than what the user states."""
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    return "utf-8-sig" if codecs.lookup(stated).name == "utf-8" else stated


def text(stream: BinaryIO, encoding: str) -> Iterator[str]:
    """The text of a stream in chunks, strictly decoded, line ends as `\\n`. Raises ReadError, naming byte and line."""
    chunk = stream.read(_CHUNK_BYTES)
    codec = encoding_of(chunk, encoding)
    newlines = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec)("strict"), translate=True)
    end, line = len(chunk), 1  # bytes read so far, the line that the chunk begins in
    while True:
        try:
            piece = newlines.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # What the decoder had before it ends where the chunk ends, whatever it held back or left out of it.
            raise _undecodable(error, end - len(error.object), line) from error
        if "\0" in piece:
            line += piece.partition("\0")[0].count("\n")
            raise ReadError(reason=f"looks like a binary file: there is a NUL in line {line}")
        if piece:
            yield piece
        if not chunk:
            return
        line += piece.count("\n")
        chunk = stream.read(_CHUNK_BYTES)
        end += len(chunk)


def lines(stream: BinaryIO, encoding: str) -> Iterator[str | ReadError]:
    """Each line with its end, or why that line cannot be read: reading goes on with the next one.

    Text that is UTF-16 or UTF-32 has no next one after a broken line; it ends there.
    """
    beginning = stream.readline(MAX_LINE_BYTES + 1)
    codec = encoding_of(beginning, encoding)
    if codecs.lookup(codec).name.startswith(("utf-16", "utf-32")):  # a line's end is not the byte 0x0A
        yield from _wide_lines(text(rejoined(beginning, stream), codec))
        return
    position, raw = 0, beginning
    while raw:
        yield _line(raw, codec, position)
        position += len(raw)
        while len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raw = stream.readline(MAX_LINE_BYTES + 1)
            position += len(raw)
        raw = stream.readline(MAX_LINE_BYTES + 1)
        codec = "utf-8" if codec == "utf-8-sig" else codec


def _line(raw: bytes, codec: str, position: int) -> str | ReadError:
    if len(raw) > MAX_LINE_BYTES:
        return ReadError(reason=_TOO_LONG)
    try:
        line = raw.decode(codec)
    except UnicodeDecodeError as error:
        return _undecodable(error, position + len(raw) - len(error.object), None)
    return ReadError(reason="holds a NUL, as binary files do") if "\0" in line else line


def _wide_lines(chunks: Iterator[str]) -> Iterator[str | ReadError]:
    held = ""
    try:
        for chunk in chunks:
            *whole, held = (held + chunk).split("\n")
            yield from (f"{line}\n" for line in whole)
            if len(held) > MAX_LINE_BYTES:
                raise ReadError(reason=_TOO_LONG)
    except ReadError as error:
        yield error
        return
    if held:
        yield held


def _undecodable(error: UnicodeDecodeError, position: int, line: int | None) -> ReadError:
    """`position`: the byte of the file that the error's own bytes begin with."""
    if line is not None:
        line += error.object[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")
    place = f"byte {position + error.start}" + (f" (line {line})" if line is not None else "")
    wrong = f"0x{error.object[error.start]:02X}"
    name = error.encoding.upper()
    return ReadError(
        reason=f"is no {name} text: {place} is {wrong}; convert it, or state its encoding (--encoding)"
    )


def rejoined(beginning: bytes, stream: BinaryIO) -> BinaryIO:
    """A stream whose first bytes were read already, whole again. Closing it leaves the stream itself open."""
    return io.BufferedReader(_Rejoined(beginning, stream), _CHUNK_BYTES)


class _Rejoined(io.RawIOBase):
    def __init__(self, beginning: bytes, stream: BinaryIO) -> None:
        self._beginning, self._stream = beginning, stream
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)  # what a pipe has got so far

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        part = self._beginning[: len(view)] or self._read(len(view))
        self._beginning = self._beginning[len(part) :]
        view[: len(part)] = part
        return len(part)
