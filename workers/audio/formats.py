"""The audio formats that a job may ask for: the only place that knows their names, types and encoder arguments."""

import difflib
import re
from dataclasses import dataclass

from storage import errors

_RATES = {  # Hz, that files can have; what encoders are given other rates for, they convert
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "m4b": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
}
MPEG2_HIGHEST = 160  # kbit/s: the most that MP3 allows below 32 kHz


class UnknownFormatError(errors.InputError):
    """There is no audio format {name!r}{hint}. There are {known}."""


class BadBitrateError(errors.InputError):
    """The bitrate {bitrate!r} does not fit {format}: {reason}."""


class BadSampleRateError(errors.InputError):
    """The format {format} has no sample rate of {rate} Hz. It has {known}."""


@dataclass(frozen=True, slots=True)
class Format:
    """One of them. Bitrates in kbit/s for one channel; formats without loss have none."""

    name: str
    suffix: str
    media_type: str
    muxer: str  # ffmpeg's name of the container
    codec: tuple[str, ...]  # ffmpeg's arguments for the encoder
    bitrate: int | None = None  # where none is asked for
    bitrates: tuple[int, int] | None = None  # lowest and highest
    rates: tuple[int, ...] = ()  # the only sample rates it takes, in Hz; () for any
    chapters: bool = False  # whether chapter marks fit in
    cover: bool = False  # whether a picture fits in

    def kilobits(self, bitrate: str | None) -> int | None:
        """A bitrate as people write it (`96k`), checked. Raises BadBitrateError."""
        if bitrate is None:
            return self.bitrate
        if self.bitrates is None:
            raise BadBitrateError(bitrate=bitrate, format=self.name, reason="it has none, it loses nothing")
        match = re.fullmatch(r"(\d{1,4})\s*k?", bitrate.strip().lower())
        lowest, highest = self.bitrates
        if match is None or not lowest <= int(match[1]) <= highest:
            raise BadBitrateError(
                bitrate=bitrate, format=self.name, reason=f"give one from {lowest}k to {highest}k"
            )
        return int(match[1])

    def rate(self, sample_rate: int, bitrate: str | None = None) -> int:
        """The sample rate to encode at, in Hz: the given one, or the next that the format takes."""
        if self.rates:
            return next((rate for rate in self.rates if rate >= sample_rate), self.rates[-1])
        if self.name == "mp3" and (self.kilobits(bitrate) or 0) > MPEG2_HIGHEST and sample_rate < 32000:
            return 44100
        return sample_rate

    def check_rate(self, sample_rate: int) -> None:
        """Raises BadSampleRateError for a sample rate that the format cannot have."""
        known = _RATES.get(self.name, self.rates)
        if known and sample_rate not in known:
            raise BadSampleRateError(
                rate=sample_rate, format=self.name, known=", ".join(map(str, sorted(known)))
            )

    def arguments(self, bitrate: str | None = None) -> list[str]:
        """ffmpeg's arguments for encoder and bitrate. Raises BadBitrateError."""
        kilobits = self.kilobits(bitrate)
        return [*self.codec, *([] if kilobits is None else ["-b:a", f"{kilobits}k"])]


# Speeds are real-time multiples on one core. Encoder settings are chosen so that none falls behind a renderer.
FORMATS = {
    entry.name: entry
    for entry in (
        Format("wav", "wav", "audio/wav", "wav", ("-c:a", "pcm_s16le", "-rf64", "auto")),
        Format("flac", "flac", "audio/flac", "flac", ("-c:a", "flac"), cover=True),  # 900
        Format(
            "mp3", "mp3", "audio/mpeg", "mp3",
            ("-c:a", "libmp3lame", "-compression_level", "7", "-id3v2_version", "3"),  # 400; 170 at the default level
            bitrate=64, bitrates=(16, 320), chapters=True, cover=True,
        ),
        Format(
            "opus", "opus", "audio/ogg; codecs=opus", "opus",
            # 300; `voip`, or free variable bitrate, are half as fast or half as large again at the same quality
            ("-c:a", "libopus", "-application", "audio", "-vbr", "constrained", "-compression_level", "5"),
            bitrate=48, bitrates=(12, 256), rates=(8000, 12000, 16000, 24000, 48000), chapters=True,
        ),
        Format(
            "m4b", "m4b", "audio/mp4", "ipod", ("-c:a", "aac", "-aac_coder", "fast"),  # 240; 50 with `twoloop`
            bitrate=64, bitrates=(24, 256), chapters=True, cover=True,
        ),
    )
}  # fmt: skip


def by_name(name: str) -> Format:
    """The format of that name or suffix, however it is cased. Raises UnknownFormatError."""
    wanted = name.strip().lower().removeprefix(".")
    if wanted in FORMATS:
        return FORMATS[wanted]
    close = difflib.get_close_matches(wanted, FORMATS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UnknownFormatError(name=name[:40], hint=hint, known=", ".join(FORMATS))
