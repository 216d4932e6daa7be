"""What ACX (Audible) asks of a file: settings that meet it, and the checks, made on the encoded file.

The figures are those that ACX publishes to its narrators: 192 kbit/s constant MP3 at 44.1 kHz, -23 to -18 dB RMS, peaks
below -3 dB, a noise floor below -60 dB RMS, at most 120 minutes, half a second to a second of quiet before and one to
five seconds after. Whether ACX takes synthetic narration is between its author and ACX.

The quiet before, after and between segments is digital silence that we put there ourselves: it would make any noise floor
look good, so the floor is measured where an engine itself is quiet between words. An engine that is silent to the sample
there, as espeak is, has no noise to be measured.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.audio import ffmpeg

BITRATE = "192k"
SAMPLE_RATE = 44100  # Hz
RMS = -20.0  # dB that the preset aims at
CEILING = -4.0  # dBTP before the encoder, which adds some tenths
HEAD_MS, TAIL_MS = 750, 2000

RMS_RANGE = (-23.0, -18.0)  # dB
PEAK = -3.0  # dB
NOISE_FLOOR = -60.0  # dB RMS; what is louder is no quiet before or after the programme either
MINUTES = 120
HEAD_RANGE = (0.5, 1.0)  # seconds of quiet before the programme ...
TAIL_RANGE = (1.0, 5.0)  # ... and after it

FRAME_MS = 10  # that one level is of: 1.4 MB of levels an hour
WINDOW = 25  # frames in which the noise floor is measured, longer than any stop within a word: a quarter of a second ...
AWAY = 3  # ... so many frames from digital silence, as far as an encoder smears what is next to it
PAUSE = 20.0  # dB below the whole: what is louder is speech, and no measure of the noise under it
SILENT = 1  # of 32,767: an encoder makes so much of digital silence

_FULL_SCALE = 32768.0
_CHUNK = 1 << 20  # bytes
_FRAME = FRAME_MS * SAMPLE_RATE // 1000  # samples

Levels = NDArray[np.float32]  # mean squares of frames, relative to full scale; 0 is digital silence


@dataclass(frozen=True, slots=True)
class Measured:
    """An encoded file, measured."""

    rms: float  # dB, of all of it
    peak: float  # dB
    noise_floor: float | None  # dB RMS of its quietest pause; None: every pause in it is digital silence
    seconds: float
    head: float  # seconds of quiet before the programme
    tail: float  # seconds of quiet after it

    def problem(self) -> str | None:
        """What ACX would not take, as one sentence; None where all is well."""
        found = []
        low, high = RMS_RANGE
        if not low <= self.rms <= high:
            found.append(f"its RMS is {self.rms:.1f} dB, not between {low:.0f} and {high:.0f}")
        if self.peak > PEAK:
            found.append(f"its peak is {self.peak:.1f} dB, not below {PEAK:.0f}")
        if self.noise_floor is not None and self.noise_floor > NOISE_FLOOR:
            found.append(f"its noise floor is {self.noise_floor:.1f} dB, not below {NOISE_FLOOR:.0f}")
        for name, quiet, (least, most) in (
            ("before", self.head, HEAD_RANGE),
            ("after", self.tail, TAIL_RANGE),
        ):
            if not least <= quiet <= most:
                found.append(f"the quiet {name} it has {quiet:.2f} seconds, not {least:g} to {most:g}")
        if self.seconds > MINUTES * 60:
            found.append(f"it has {self.seconds / 60:.0f} minutes, more than {MINUTES}: use --split chapter")
        return "; ".join(found) or None


def measure(path: Path) -> Measured:
    """Decode a file and measure it, as a stream. Raises FfmpegFailedError."""
    command = [str(ffmpeg.find()), "-nostdin", "-loglevel", "error", "-threads", "1", "-i", f"file:{path}"]
    command += ["-map", "0:a", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le", "pipe:1"]
    square, peak, samples = 0.0, 0, 0
    found: list[Levels] = []
    rest = np.zeros(0, dtype=np.float64)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while data := process.stdout.read(_CHUNK):
            sound = np.frombuffer(data, dtype="<i2").astype(np.float64)
            peak = max(peak, int(np.abs(sound).max()))
            square += float(np.dot(sound, sound))
            samples += len(sound)
            rest = np.concatenate([rest, sound])
            whole = len(rest) // _FRAME * _FRAME
            found.append(_levels(rest[:whole].reshape(-1, _FRAME)))
            rest = rest[whole:]
    if process.returncode != 0:
        raise ffmpeg.FfmpegFailedError(f"{path.name} cannot be decoded")
    levels = np.concatenate(found) if found else np.zeros(0, dtype=np.float32)
    rms = _decibels(square / max(1, samples) / _FULL_SCALE**2, 10)
    first, last = _programme(levels)
    return Measured(
        rms,
        _decibels(peak / _FULL_SCALE, 20),
        _noise_floor(levels[first:last], rms),
        samples / SAMPLE_RATE,
        head=first * FRAME_MS / 1000,
        tail=(len(levels) - last) * FRAME_MS / 1000,
    )


def _levels(frames: NDArray[np.float64]) -> Levels:
    levels: Levels = (np.square(frames).mean(axis=1) / _FULL_SCALE**2).astype(np.float32)
    levels[np.abs(frames).max(axis=1) <= SILENT] = 0.0
    return levels


def _programme(levels: Levels) -> tuple[int, int]:
    """The first frame that is heard, and the one after the last; all is quiet before it where none is."""
    heard = np.flatnonzero(levels > 10 ** (NOISE_FLOOR / 10))
    return (int(heard[0]), int(heard[-1]) + 1) if len(heard) else (len(levels), 0)


def _noise_floor(levels: Levels, rms: float) -> float | None:
    """dB RMS of the quietest window that is a pause and has no digital silence in it or beside it; None: there is none."""
    if len(levels) < WINDOW + 2 * AWAY:
        return None
    around = np.lib.stride_tricks.sliding_window_view(levels, WINDOW + 2 * AWAY)
    windows = around[:, AWAY:-AWAY].mean(axis=1)[around.min(axis=1) > 0]
    if not len(windows):
        return None
    quietest = _decibels(float(windows.min()), 10)
    return quietest if quietest <= rms - PAUSE else None


def _decibels(ratio: float, factor: int) -> float:
    return round(factor * float(np.log10(max(ratio, 1e-12))), 2)
