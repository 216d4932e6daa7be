"""PCM becomes a file: streamed, in constant memory, there whole or not at all, and the same to the byte every time.

The same to the byte for the same ffmpeg: no dates, no version strings, one thread.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from storage import errors
from workers.audio import command, ffmpeg, formats, riff
from workers.audio.command import BadCoverError, Command, Output
from workers.audio.formats import Format
from workers.audio.metadata import Chapter

__all__ = ["BadCoverError", "Chapter", "DiskFullError", "EncodeError", "Encoder", "Output", "encode_many"]

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TOGETHER = 16  # short outputs made by one ffmpeg: more would gain little, and each takes 7 MB


class EncodeError(errors.VoicemillError):
    """The audio file {path} could not be written: {reason}."""


class DiskFullError(EncodeError):
    """The audio file {path} could not be written: {reason}. Free some space, or set TMPDIR to a larger disk."""


class _Sink(Protocol):
    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def kill(self) -> None: ...


class Encoder:
    """Makes one file. The file appears when the block ends without an exception; else nothing is left of it.

    with encode.Encoder(path, "mp3", 24000, tags={"title": "Emma"}) as encoder:
        encoder.write(pcm)
    """

    def __init__(
        self,
        path: Path,
        format: str | Format,
        sample_rate: int,
        *,
        chapters: Sequence[Chapter] = (),
        tags: Mapping[str, str] | None = None,
        cover: Path | None = None,
        target_rate: int | None = None,
        bitrate: str | None = None,
    ) -> None:
        """As `Output` has it. Raises an InputError for a format, bitrate or cover that will not do."""
        kind = formats.by_name(format) if isinstance(format, str) else format
        self.output = Output(path, kind, sample_rate, chapters, tags or {}, cover, target_rate, bitrate)
        self._open = ExitStack()
        self._place: _Place
        self._sink: _Sink

    @classmethod
    def of(cls, output: Output) -> Self:
        """The encoder of an output."""
        return cls(**{each.name: getattr(output, each.name) for each in fields(output)})

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._place = stack.enter_context(_place(self.output))
            with told(self.output.path):
                self._sink = self._start(self._place)
            self._open = stack.pop_all()
        return self

    def _start(self, place: "_Place") -> _Sink:
        if self.output.plain:
            return riff.Writer(place.file, self.output.sample_rate)
        line = Command()
        line.add(self.output, "pipe:0", place.words, place.file)
        return ffmpeg.Run(line.arguments())

    def write(self, pcm: bytes) -> None:
        """Append mono PCM16. Raises EncodeError."""
        with told(self.output.path):
            self._sink.write(pcm)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            try:
                if error is None:
                    with told(self.output.path):
                        self._sink.finish()
                        self._place.keep(self.output.path)
            finally:
                self._sink.kill()


def stretch(output: Output, samples: int, muxer: Sequence[str], pcm: Iterable[bytes]) -> None:
    """Encode a stretch of a file, without tags or chapters, to `output.path`: `samples` of the file's rate.

    It comes without any of what stands around the sound, in the container that `muxer` says. Raises as Encoder does.
    """
    with told(output.path):
        run = ffmpeg.Run(command.stretch(output, samples, muxer))
        try:
            for piece in pcm:
                run.write(piece)
            run.finish()
        finally:
            run.kill()


def encode_many(outputs: Iterable[tuple[Output, bytes]]) -> None:
    """Make many short files, each from its PCM. The bytes are those that an Encoder would write one by one.

    Files are made 16 at a time by one ffmpeg, since starting it costs more than five seconds of speech to encode. Raises
    as Encoder does; files that were finished before stay.
    """
    waiting = iter(outputs)
    while some := list(islice(waiting, TOGETHER)):
        try:
            _encode_together([each for each in some if not each[0].plain])
        except ffmpeg.FfmpegFailedError:  # which of them was it? One by one, the message names it
            _encode_singly(some)
        else:
            _encode_singly(each for each in some if each[0].plain)


def _encode_singly(outputs: Iterable[tuple[Output, bytes]]) -> None:
    for output, pcm in outputs:
        with Encoder.of(output) as encoder:
            encoder.write(pcm)


def _encode_together(outputs: Sequence[tuple[Output, bytes]]) -> None:
    if not outputs:
        return
    line = Command()
    with ExitStack() as stack:
        places = [stack.enter_context(_place(output)) for output, _ in outputs]
        for (output, pcm), place in zip(outputs, places, strict=True):
            with told(output.path):
                place.pcm.write_bytes(pcm)
                line.add(output, f"file:{place.pcm}", place.words, place.file)
        run = ffmpeg.Run(line.arguments())
        try:
            run.finish()
        finally:
            run.kill()
        for (output, _), place in zip(outputs, places, strict=True):
            with told(output.path):
                place.keep(output.path)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder beside the output for what is not finished."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "file"

    @property
    def words(self) -> Path:
        return self.folder / "words"

    @property
    def pcm(self) -> Path:
        return self.folder / "pcm"

    def keep(self, path: Path) -> None:
        self.file.replace(path)


@contextmanager
def _place(output: Output) -> Iterator[_Place]:
    path = output.path.absolute()
    with told(path):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", dir=path.parent))
    try:
        yield _Place(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file, told as one sentence about it: an EncodeError."""
    try:
        yield
    except ffmpeg.FfmpegFailedError as error:
        full = os.strerror(errno.ENOSPC) in str(error)
        raise (DiskFullError if full else EncodeError)(path=path, reason=error) from error
    except OSError as error:
        full = error.errno in DISK_FULL
        raise (DiskFullError if full else EncodeError)(path=path, reason=error.strerror or error) from error
