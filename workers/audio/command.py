"""ffmpeg's command line: what an output asks for, in ffmpeg's words. Nothing in it depends on date, place or processor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage import errors
from workers.audio import metadata
from workers.audio.formats import Format
from workers.audio.metadata import Chapter

NERO_CHAPTERS = 255  # MP4's older list of chapters counts them in one byte


class BadCoverError(errors.InputError):
    """The cover {path} cannot be used: {reason}."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file to be made of mono PCM16."""

    path: Path
    format: Format
    sample_rate: int  # Hz, of the PCM
    chapters: Sequence[Chapter] = ()
    tags: Mapping[str, str] = field(default_factory=dict)  # of `metadata.TAGS`
    cover: Path | None = None  # PNG or JPEG; left out where the format has no place for it
    target_rate: int | None = None  # Hz, of the file; None: the PCM's own, or the next that the format takes
    bitrate: str | None = None  # such as 96k; None: the format's own

    @property
    def file_rate(self) -> int:
        """The sample rate of the file, in Hz."""
        return self.format.rate(self.target_rate or self.sample_rate, self.bitrate)

    @property
    def plain(self) -> bool:
        """Whether no encoder is needed: PCM in, PCM out."""
        return self.format.name == "wav" and self.file_rate == self.sample_rate


class Command:
    """ffmpeg's command line for one output or several, each with inputs of its own."""

    def __init__(self) -> None:
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._count = 0  # of inputs

    def arguments(self) -> list[str]:
        """All of it, the program itself apart."""
        # Without what a processor may or may not have, AAC comes out the same on all of them; it is as fast
        return ["-cpuflags", "0", "-filter_threads", "1", *self._inputs, *self._outputs]

    def add(self, output: Output, source: str, words: Path, file: Path) -> None:
        """One more output, from `source` into `file`; tags and chapters are written to `words`. Raises BadCoverError."""
        sound = self._input("-f", "s16le", "-ar", str(output.sample_rate), "-ac", "1", "-i", source)
        picture = None
        if output.cover is not None and output.format.cover:
            picture = self._input("-f", _picture_demuxer(output.cover), "-i", f"file:{output.cover.absolute()}")
        described = "-1"
        if output.tags or output.chapters:
            chapters = output.chapters if output.format.chapters else ()
            text = metadata.text(output.tags, chapters, output.sample_rate)
            words.write_text(text, encoding="utf-8", errors="replace")  # half a surrogate pair is no character
            described = str(self._input("-f", "ffmetadata", "-i", f"file:{words}"))
        self._outputs += ["-map", f"{sound}:a", "-map_metadata", described, "-map_chapters", described]
        if picture is not None:
            self._outputs += ["-map", f"{picture}:v", "-c:v", "copy", "-disposition:v", "attached_pic"]
            self._outputs += ["-metadata:s:v", "comment=Cover (front)"]
        self._outputs += [*_encoding(output), "-f", output.format.muxer, f"file:{file}"]

    def _input(self, *arguments: str) -> int:
        self._inputs += arguments
        self._count += 1
        return self._count - 1


def stretch(output: Output, samples: int, muxer: Sequence[str]) -> list[str]:
    """ffmpeg's whole command line for a stretch of an output: `samples` samples of the file's rate, without any words."""
    command = Command()
    sound = command._input("-f", "s16le", "-ar", str(output.sample_rate), "-ac", "1", "-i", "pipe:0")
    resampling = _resampling(output, f",apad=whole_len={samples},atrim=end_sample={samples}")
    codec = output.format.arguments(output.bitrate)
    command._outputs += ["-map", f"{sound}:a", "-map_metadata", "-1", *_SAME_EVERYWHERE, *resampling, *codec]
    command._outputs += [*muxer, f"file:{output.path}"]
    return command.arguments()


_SAME_EVERYWHERE = ("-threads", "1", "-fflags", "+bitexact", "-flags:a", "+bitexact")


def _resampling(output: Output, more: str = "") -> list[str]:
    if output.file_rate == output.sample_rate:
        return []
    # whole numbers inside: the sums are then the same on every processor
    return ["-af", f"aresample={output.file_rate}:internal_sample_fmt=s16p{more}"]


def _encoding(output: Output) -> Iterator[str]:
    yield from _SAME_EVERYWHERE
    yield from _resampling(output)
    yield from output.format.arguments(output.bitrate)
    if output.format.muxer == "ipod":
        yield from ("-metadata", "media_type=2")  # an audiobook, to Apple
        if (code := metadata.language(output.tags)) is not None:
            yield from ("-metadata:s:a:0", f"language={code}")
        nero = "" if len(output.chapters) <= NERO_CHAPTERS else "+disable_chpl"
        yield from ("-movflags", "+faststart" + nero)


def _picture_demuxer(cover: Path) -> str:
    try:
        with cover.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise BadCoverError(path=cover, reason=error.strerror) from error
    if head == b"\x89PNG\r\n\x1a\n":
        return "png_pipe"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg_pipe"
    raise BadCoverError(path=cover, reason="it is neither PNG nor JPEG")
