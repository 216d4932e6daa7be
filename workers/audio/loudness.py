"""How loud a programme is (ITU-R BS.1770, EBU R128), and takes brought to another level.

One gain for the whole programme, measured on the joined sound; where that would push a peak over the ceiling, the peak
alone is turned down for some milliseconds. Everything is done take by take: a take's samples follow from the take, the
gain and the ceiling, so that one sentence rendered again changes no other.
"""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOUDNESS_VERSION = 1  # part of every assembly key with a gain: goes up when the same gain gives other samples

FULL_SCALE = 32768.0
SILENCE_LUFS = -70.0  # quieter blocks count for nothing (BS.1770's absolute gate)
RELATIVE_GATE = 10.0  # LU below the mean of the rest: nor do these
STEPS = 10  # a second: blocks of 400 ms begin every 100 ms
STEPS_IN_BLOCK = 4
LIMIT_MS = 5  # from a peak to where the gain is whole again, on either side
OVERSAMPLED = 4
MARGIN = 0.3  # dB: as far as peaks found with so few taps may be off
_TAPS = 12  # of each phase of the filter that finds peaks between samples
_BLOCK = 1 << 17  # samples filtered at once
_RINGING = 1 << 14  # samples after which K-weighting's response has died away: 0.34 s at 48 kHz

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Level:
    """How loud a programme is."""

    lufs: float  # integrated
    rms: float  # dBFS of all of it, pauses included
    peak: float  # dBFS of the largest sample

    @classmethod
    def of(cls, pieces: Iterable[bytes], sample_rate: int) -> "Level":
        """Measure mono PCM16, given in pieces of any size. Two decimals: enough for any gain, and the same everywhere."""
        meter = _Meter(sample_rate)
        for piece in pieces:
            meter.add(piece)
        return meter.level()


def treated(pcm: bytes, sample_rate: int, gain: float, ceiling: float) -> bytes:
    """Mono PCM16 with a gain (dB), no true peak over the ceiling (dBTP)."""
    sound = np.frombuffer(pcm, dtype="<i2").astype(np.float32) * np.float32(10 ** (gain / 20))
    limit = FULL_SCALE * 10 ** ((ceiling - MARGIN) / 20)
    if (
        len(sound) and np.abs(sound).max() > limit / 2
    ):  # between samples, peaks are 6 dB higher at the very most
        sound = _limited(sound, sample_rate, limit)
    rounded: bytes = np.clip(np.rint(sound), -32768, 32767).astype("<i2").tobytes()
    return rounded


def _limited(sound: Samples, sample_rate: int, limit: float) -> Samples:
    peaks = _true_peaks(sound)
    if peaks.max() <= limit:
        return sound
    reach = LIMIT_MS * sample_rate // 1000
    needed: Samples = (limit / np.maximum(peaks, limit)).astype(np.float32)
    held = _lowest_around(needed, reach)  # so that the mean below is nowhere over what is needed
    gains = _mean_around(_mean_around(held, reach // 2), reach - reach // 2)
    gains[_lowest_around(held, reach) == 1.0] = 1.0  # exactly: what is not near a peak stays as it is
    return sound * gains


def _lowest_around(values: Samples, reach: int) -> Samples:
    """The lowest value within so many samples on either side, by doubling: the work does not grow with the reach."""
    lowest = np.pad(values, reach, constant_values=1.0)
    width, wanted = 1, 2 * reach + 1
    while width < wanted:
        step = min(width, wanted - width)
        lowest = np.minimum(lowest[:-step], lowest[step:])
        width += step
    return lowest


def _mean_around(values: Samples, reach: int) -> Samples:
    """The mean within so many samples on either side."""
    sums = np.cumsum(np.pad(values, (reach + 1, reach), mode="edge"), dtype=np.float64)
    return ((sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)).astype(np.float32)


def _true_peaks(sound: Samples) -> Samples:
    """How far the wave swings around each sample, between samples too."""
    peaks: Samples = np.abs(sound)
    for phase in _PHASES:
        between = np.abs(np.convolve(sound, phase))[_TAPS // 2 - 1 :][: len(sound)].astype(np.float32)
        np.maximum(peaks, between, out=peaks)
        np.maximum(peaks[1:], between[:-1], out=peaks[1:])
    return peaks


def _phases() -> list[Samples]:
    """A windowed sinc at a quarter, half and three quarters of the way from one sample to the next."""
    taps = np.arange(_TAPS) - (_TAPS / 2 - 1)
    found = []
    for part in range(1, OVERSAMPLED):
        at = taps - part / OVERSAMPLED
        phase = np.sinc(at) * np.cos(np.pi * at / (_TAPS + 1)) ** 2
        found.append((phase / phase.sum())[::-1].astype(np.float32))
    return found


_PHASES = _phases()


class _Meter:
    """K-weighted energy in steps of 100 ms, filtered block by block in the frequency domain."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._waiting: list[NDArray[np.int16]] = []
        self._count = 0  # samples waiting
        self._response = _k_weighting(sample_rate, _BLOCK + _RINGING)
        self._ringing = np.zeros(_RINGING, dtype=np.float32)
        self._rest = np.zeros(0, dtype=np.float32)  # filtered, less than a step
        self._steps = array("d")
        self._done = 0  # samples in steps
        self._square = 0.0
        self._samples = 0
        self._peak = 0

    def add(self, pcm: bytes) -> None:
        sound = np.frombuffer(pcm, dtype="<i2")
        while len(sound):
            room = _BLOCK - self._count
            self._waiting.append(sound[:room])
            self._count += len(sound[:room])
            sound = sound[room:]
            if self._count == _BLOCK:
                self._filter()

    def level(self) -> Level:
        if self._count:
            self._filter()
        mean = self._square / max(1, self._samples)
        return Level(
            lufs=round(_integrated(np.frombuffer(self._steps, dtype=np.float64)), 2),
            rms=round(_decibels(mean / FULL_SCALE**2, 10), 2),
            peak=round(_decibels(self._peak / FULL_SCALE, 20), 2),
        )

    def _filter(self) -> None:
        sound = np.concatenate(self._waiting).astype(np.float32)
        self._waiting, self._count = [], 0
        self._samples += len(sound)
        self._square += float(np.dot(sound, sound.astype(np.float64)))
        self._peak = max(self._peak, int(np.abs(sound).max()))
        size = _BLOCK + _RINGING
        spectrum = np.fft.rfft(sound / np.float32(FULL_SCALE), size) * self._response
        weighted = np.fft.irfft(spectrum, size).astype(np.float32)
        weighted[:_RINGING] += self._ringing
        heard, self._ringing = weighted[: len(sound)], weighted[len(sound) : len(sound) + _RINGING].copy()
        self._ringing.resize(_RINGING, refcheck=False)
        self._step(np.concatenate([self._rest, heard]))

    def _step(self, heard: Samples) -> None:
        """Energies of whole steps. A step is a tenth of a second to the sample, counted from the start."""
        energy = heard.astype(np.float64) ** 2
        ends = []
        number = len(self._steps) + 1
        while (end := number * self._rate // STEPS - self._done) <= len(energy):
            ends.append(end)
            number += 1
        if ends:
            sums = np.add.reduceat(energy[: ends[-1]], [0, *ends[:-1]])
            lengths = np.diff([0, *ends])
            self._steps.extend(sums / lengths)
            self._done += ends[-1]
        self._rest = heard[ends[-1] if ends else 0 :].copy()


def _integrated(steps: NDArray[np.float64]) -> float:
    """LUFS of a programme from the energies of its steps, gated as BS.1770 has it."""
    if not len(steps):
        return SILENCE_LUFS
    width = min(STEPS_IN_BLOCK, len(steps))  # shorter than a block: what there is of it
    blocks = np.convolve(steps, np.ones(width) / width, mode="valid")
    heard = blocks[blocks > 10 ** ((SILENCE_LUFS + 0.691) / 10)]
    if not len(heard):
        return SILENCE_LUFS
    gate = heard.mean() * 10 ** (-RELATIVE_GATE / 10)
    return -0.691 + _decibels(float(heard[heard > gate].mean()), 10)


def _k_weighting(sample_rate: int, size: int) -> NDArray[np.complex64]:
    """The response of BS.1770's two filters at any rate, from the analogue ones behind its figures for 48 kHz."""
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    tangent = math.tan(math.pi * 1681.974450955533 / sample_rate)
    high, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    band = high**0.4996667741545416
    shelf = [
        high + band * tangent / q + tangent**2,
        2 * (tangent**2 - high),
        high - band * tangent / q + tangent**2,
    ]
    below = [1 + tangent / q + tangent**2, 2 * (tangent**2 - 1), 1 - tangent / q + tangent**2]
    response = _ratio(shelf, below, turn)
    tangent, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    below = [1 + tangent / q + tangent**2, 2 * (tangent**2 - 1), 1 - tangent / q + tangent**2]
    scale = below[0]  # its numerator is 1, -2, 1 as it stands, before and not after the division
    whole: NDArray[np.complex64] = (response * _ratio([scale, -2 * scale, scale], below, turn)).astype(
        np.complex64
    )
    return whole


def _ratio(above: list[float], below: list[float], turn: NDArray[Any]) -> NDArray[Any]:
    return (above[0] + above[1] * turn + above[2] * turn**2) / (below[0] + below[1] * turn + below[2] * turn**2)


def _decibels(ratio: float, factor: int) -> float:
    return factor * math.log10(ratio) if ratio > 10 ** (-120 / factor) else -120.0
