"""What ACX (Audible) asks of a file: settings that meet it, and the checks, made on the encoded file.

The figures are those that ACX publishes to its narrators: 192 kbit/s constant MP3 at 44.1 kHz, -23 to -18 dB RMS, peaks
below -3 dB, a noise floor below -60 dB RMS, at most 120 minutes, half a second to a second of silence before and one to
five seconds after. Whether ACX takes synthetic narration is between its author and ACX.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workers.audio import ffmpeg

BITRATE = "192k"
SAMPLE_RATE = 44100  # Hz
RMS = -20.0  # dB that the preset aims at
CEILING = -4.0  # dBTP before the encoder, which adds some tenths
HEAD_MS, TAIL_MS = 750, 2000

RMS_RANGE = (-23.0, -18.0)  # dB
PEAK = -3.0  # dB
NOISE_FLOOR = -60.0  # dB RMS
MINUTES = 120
WINDOW_MS = 500  # in which the noise floor is measured: the quietest stretch of the file

_FULL_SCALE = 32768.0
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """An encoded file, measured."""

    rms: float  # dB, of all of it
    peak: float  # dB
    noise_floor: float  # dB RMS of its quietest half second
    seconds: float

    def problem(self) -> str | None:
        """What ACX would not take, as one sentence; None where all is well."""
        found = []
        low, high = RMS_RANGE
        if not low <= self.rms <= high:
            found.append(f"its RMS is {self.rms:.1f} dB, not between {low:.0f} and {high:.0f}")
        if self.peak > PEAK:
            found.append(f"its peak is {self.peak:.1f} dB, not below {PEAK:.0f}")
        if self.noise_floor > NOISE_FLOOR:
            found.append(f"its noise floor is {self.noise_floor:.1f} dB, not below {NOISE_FLOOR:.0f}")
        if self.seconds > MINUTES * 60:
            found.append(f"it has {self.seconds / 60:.0f} minutes, more than {MINUTES}: use --split chapter")
        return "; ".join(found) or None


def measure(path: Path) -> Measured:
    """Decode a file and measure it, as a stream. Raises FfmpegFailedError."""
    command = [str(ffmpeg.find()), "-nostdin", "-loglevel", "error", "-threads", "1", "-i", f"file:{path}"]
    command += ["-map", "0:a", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le", "pipe:1"]
    window = WINDOW_MS * SAMPLE_RATE // 1000
    square, peak, samples, quietest = 0.0, 0, 0, float("inf")
    rest = np.zeros(0, dtype=np.float64)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while data := process.stdout.read(_CHUNK):
            sound = np.frombuffer(data, dtype="<i2").astype(np.float64)
            peak = max(peak, int(np.abs(sound).max()))
            energy = sound**2
            square += float(energy.sum())
            samples += len(sound)
            rest = np.concatenate([rest, energy])
            whole = len(rest) // window
            if whole:
                quietest = min(
                    quietest, float(rest[: whole * window].reshape(whole, window).mean(axis=1).min())
                )
                rest = rest[whole * window :]
    if process.returncode != 0:
        raise ffmpeg.FfmpegFailedError(f"{path.name} cannot be decoded")
    quietest = min(quietest, square / max(1, samples))
    return Measured(
        _decibels(square / max(1, samples) / _FULL_SCALE**2, 10),
        _decibels(peak / _FULL_SCALE, 20),
        _decibels(quietest / _FULL_SCALE**2, 10),
        samples / SAMPLE_RATE,
    )


def _decibels(ratio: float, factor: int) -> float:
    return round(factor * float(np.log10(max(ratio, 1e-12))), 2)
