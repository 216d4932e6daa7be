"""Measures an encoded file as ACX does: level, peak, noise floor, and the quiet before and after.

The quiet before, after and between segments is digital silence that we put there ourselves: it would make any noise floor
look good, so the floor is measured where an engine itself is quiet between words. An engine that is silent to the sample
there, as espeak is, has no noise to be measured.
"""

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.audio import ffmpeg
from workers.audio.acx import NOISE_FLOOR, SAMPLE_RATE, Measured

FRAME_MS = 10  # that one level is of: 1.4 MB of levels an hour
WINDOW = 25  # frames in which the noise floor is measured, longer than any stop within a word: a quarter of a second ...
AWAY = 3  # ... so many frames from digital silence, as far as an encoder smears what is next to it
PAUSE = 20.0  # dB below the whole: what is louder is speech, and no measure of the noise under it
SILENT = 1  # of 32,767: an encoder makes so much of digital silence

_FULL_SCALE = 32768.0
_CHUNK = 1 << 20  # bytes
_FRAME = FRAME_MS * SAMPLE_RATE // 1000  # samples

Levels = NDArray[np.float32]  # mean squares of frames, relative to full scale; 0 is digital silence


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
