"""Whether a take can be what was asked for, by what can be measured without listening: length, level, silence,
clipping, loops.

A loop is a stretch that sounds as what came right before it, three times over if it is short, twice if it lasts a
second. A text that says the same thing twice may sound so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from workers.engines.engine import EngineSpec, Judged, Reason
from workers.engines.limits import WIDE, Limits

FULL_SCALE = 32768.0
CLIPPED = 32767  # at or beyond this a sample counts as clipped
FRAME_MS = 20  # silence is told frame by frame
SILENT_DBFS = -50.0  # root mean square of a frame
SILENT_FRAME = FULL_SCALE * 10 ** (SILENT_DBFS / 20)
NOTHING_DBFS = -120.0  # stands for minus infinity, so that a level is always a number

LOOP_MS = 40  # loops are told by coarser frames ...
LOOP_RATE = 8000  # ... of fewer samples a second, about: this runs for every take
LOOP_BANDS = 16  # of the spectrum by which two frames are compared
LOOP_ALIKE_DB = 5.0  # two frames are alike if their bands differ by no more, as root mean square
LOOP_SMOOTH = 3  # frames over which that is averaged
LOOP_LEAST = 3  # frames: what repeats faster is found at a multiple of its period
LOOP_PHRASE = 1000 // LOOP_MS  # frames: what lasts a second is a loop when it comes twice in a row
LOOP_EDGE = 3  # frames that may be unlike where one round passes into the next


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured of one take. Levels in dB relative to full scale, ratios from 0 to 1."""

    seconds: float
    rms_dbfs: float
    peak_dbfs: float
    silence_ratio: float  # of its 20 ms frames
    clipped_ratio: float  # of its samples
    gap_seconds: float = 0.0  # the longest silence between its first and its last sound
    loop_seconds: float = 0.0  # the longest stretch that repeats what came right before it

    def as_dict(self) -> dict[str, float]:
        """As JSON-able fields, rounded to what means something."""
        return {name: round(getattr(self, name), 4) for name in _METRICS}

    @classmethod
    def stored(cls, metrics: Mapping[str, Any]) -> Self:
        """As `as_dict` gave them; what an older version did not measure counts as 0."""
        return cls(**{name: float(metrics.get(name, 0.0)) for name in _METRICS})


_METRICS = tuple(each.name for each in fields(Metrics))


class Verdict(NamedTuple):
    """Why a take cannot be its text spoken."""

    reason: Reason
    detail: str  # in words for the producer, to stand inside a sentence
    excess: float  # how far beyond its limit, as a share of it: of two bad takes the smaller one is the better


_TAG = re.compile(r"<[a-z_]+>")
_SPOKEN = re.compile(r"[^\W_]")
_WORD = re.compile(r"[^\W_]+")
_STUTTER = re.compile(r"(\w{1,5}?)\1{2,}", re.IGNORECASE)  # hahaha, mmmm, lalala, www
_UNITS = {"letter": 1, "digit": 5, "sign": 7, "foreign": 8}  # what each is spoken as, in Latin letters, about
_SIGNS = frozenset("%$€£¥&@#+=/\\*^<>|~§°©®™×÷")
_WORST = (Reason.SILENT, Reason.TOO_SHORT, Reason.LOOP, Reason.WORDS, Reason.TOO_SLOW, Reason.CLIPPED)


def limits(spec: EngineSpec) -> Limits:
    """What takes of an engine are held to; those of an engine that does not say so to wide ones."""
    return spec.limits if isinstance(spec, Judged) else WIDE


def better(one: Verdict, other: Verdict) -> bool:
    """Whether the first of two bad takes is the one to keep."""
    return (-_WORST.index(one.reason), one.excess) < (-_WORST.index(other.reason), other.excess)


def measure(pcm: bytes, sample_rate: int, *, loops: bool = True) -> Metrics:
    """The metrics of mono PCM16; no sound at all measures as silence. Looking for loops is most of the work."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    if not len(samples):
        return Metrics(0.0, NOTHING_DBFS, NOTHING_DBFS, 1.0, 0.0)
    sizes = np.abs(samples)
    squares = samples * samples
    hop = sample_rate * FRAME_MS // 1000
    starts = np.arange(0, len(samples), hop)
    lengths = np.full(len(starts), hop)
    lengths[-1] = len(samples) - starts[-1]
    silent = np.add.reduceat(squares, starts) / lengths < SILENT_FRAME**2
    return Metrics(
        seconds=len(samples) / sample_rate,
        rms_dbfs=_dbfs(float(np.sqrt(np.add.reduce(squares, dtype=np.float64) / len(samples)))),
        peak_dbfs=_dbfs(float(sizes.max())),
        silence_ratio=int(np.count_nonzero(silent)) / len(silent),
        clipped_ratio=int(np.count_nonzero(sizes >= CLIPPED)) / len(samples),
        gap_seconds=_longest_gap(silent) * FRAME_MS / 1000,
        loop_seconds=loop_frames(samples, sample_rate) * LOOP_MS / 1000 if loops else 0.0,
    )


def judge(metrics: Metrics, text: str, within: Limits) -> Verdict | None:
    """Why a take cannot be the text spoken; None where nothing speaks against it.

    A text without a letter or digit has no sound that could be missed.
    """
    tags = len(_TAG.findall(text))
    words = _TAG.sub(" ", text)
    spoken = len(_SPOKEN.findall(words))
    if not spoken:
        return None
    if metrics.rms_dbfs < within.rms_dbfs:
        detail = f"its level is {metrics.rms_dbfs:.0f} dBFS, below {within.rms_dbfs:.0f}"
        return Verdict(Reason.SILENT, detail, metrics.rms_dbfs / within.rms_dbfs - 1)
    if metrics.silence_ratio > within.silence_ratio:
        detail = f"{metrics.silence_ratio:.0%} of it is silence, more than {within.silence_ratio:.0%}"
        return _beyond(Reason.SILENT, detail, metrics.silence_ratio, within.silence_ratio)
    if metrics.gap_seconds > within.gap_seconds:
        detail = f"{metrics.gap_seconds:.1f} s inside it are silent, more than {within.gap_seconds:.1f} s"
        return _beyond(Reason.SILENT, detail, metrics.gap_seconds, within.gap_seconds)
    if metrics.clipped_ratio > within.clipped_ratio:
        detail = f"{metrics.clipped_ratio:.1%} of it is clipped, more than {within.clipped_ratio:.0%}"
        return _beyond(Reason.CLIPPED, detail, metrics.clipped_ratio, within.clipped_ratio)
    if metrics.loop_seconds > within.loop_seconds:
        loop = within.loop_seconds + within.longest[1] * repeated(words)
        if metrics.loop_seconds > loop:
            detail = f"{metrics.loop_seconds:.1f} s of it are the same sound again and again"
            return _beyond(Reason.LOOP, detail, metrics.loop_seconds, loop)
    shortest = within.shortest[0] + within.shortest[1] * spoken
    if metrics.seconds < shortest:
        detail = f"it lasts {metrics.seconds:.1f} s, where {shortest:.1f} s is the least for its text"
        return Verdict(Reason.TOO_SHORT, detail, 1 - metrics.seconds / shortest)
    longest = within.longest[0] + within.longest[1] * speech_units(words) + within.seconds_per_tag * tags
    if metrics.seconds > longest:
        detail = f"it lasts {metrics.seconds:.1f} s, where {longest:.1f} s is the most for its text"
        return _beyond(Reason.TOO_SLOW, detail, metrics.seconds, longest)
    return None


def repeated(text: str) -> int:
    """Letters of a text that are there because it says the same thing again: `no, no, no`, `hahaha`, a line twice."""
    words = [word.casefold() for word in _WORD.findall(text)]
    again = 0
    for period in range(1, len(words) // 2 + 1):
        run = 0
        for at in range(period, len(words)):
            run = run + 1 if words[at] == words[at - period] else 0
            if run >= period:
                again = max(again, sum(map(len, words[at - run - period + 1 : at + 1])))
    return max(again, *(len(found.group()) for found in _STUTTER.finditer(text)), 0, 0)


def loop_frames(samples: NDArray[np.float32], sample_rate: int) -> float:
    """How many 40 ms frames the longest loop has, its first round included; 0 where nothing loops."""
    finer, loud = _bands(samples, sample_rate)
    bands, loud = finer[::2], loud[::2]
    count = len(bands)
    halves = np.arange(2 * LOOP_LEAST, count + 1)[
        :, None
    ]  # lags in half frames: a round need not last whole ones
    if not len(halves):
        return 0
    at = np.arange(count)
    squares = (finer * finer).sum(axis=1)
    apart = squares[::2, None] + squares[None, :] - 2 * (bands @ finer.T)
    same = LOOP_BANDS * LOOP_ALIKE_DB**2
    later = 2 * at + halves  # row: a lag; column: how unlike a frame is the one so much later
    last = len(finer) - 1
    near = np.minimum(np.where(later <= last, apart[at, np.minimum(later, last)], np.inf), 4 * same)
    summed = np.cumsum(near, axis=1)  # over a few frames: one that is quite unlike is a click, not an end
    summed[:, LOOP_SMOOTH:] -= summed[:, :-LOOP_SMOOTH].copy()
    broken = np.maximum.accumulate(np.where(summed < LOOP_SMOOTH * same, -1, at), axis=1)
    runs = at - broken  # up to here so many frames are alike
    heard = np.concatenate([[0], np.cumsum(loud)])
    sounding = heard[at + 1] - heard[broken + 1]
    lags = halves / 2
    again = np.where(lags >= LOOP_PHRASE, lags, 2 * lags) - LOOP_EDGE
    looping = (runs >= again) & (2 * sounding >= runs)  # silence is like silence
    return float(np.where(looping, runs + lags, 0).max())


def _bands(samples: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The sound every 20 ms, in dB by bands, [2 * frames - 1, bands], and when it is louder than silence."""
    several = max(1, sample_rate // LOOP_RATE)
    samples = samples[: len(samples) // several * several].reshape(-1, several).mean(axis=1)
    hop = sample_rate // several * LOOP_MS // 2000
    if len(samples) < 4 * hop:
        return np.zeros((0, LOOP_BANDS), np.float32), np.zeros(0, np.bool_)
    window = np.hanning(4 * hop).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(sliding_window_view(samples, 4 * hop)[::hop] * window, axis=1)))
    edges = np.unique(np.geomspace(2, power.shape[1] - 1, LOOP_BANDS + 1).astype(int))
    summed = np.add.reduceat(power, edges, axis=1)[:, :-1]
    floor = (2 * SILENT_FRAME * hop) ** 2 / 4  # about what a frame at the limit of silence has in one band
    levels = 10 * np.log10(np.maximum(summed, floor) / floor).astype(np.float32)
    bands = np.zeros((len(levels), LOOP_BANDS), np.float32)
    bands[:, : levels.shape[1]] = levels
    return bands, levels.max(axis=1) > 0


def _longest_gap(silent: NDArray[np.bool_]) -> int:
    """The longest run of silent frames that has sound on both sides."""
    loud = np.flatnonzero(~silent)
    return int(np.diff(loud).max()) - 1 if len(loud) > 1 else 0


def _beyond(reason: Reason, detail: str, measured: float, limit: float) -> Verdict:
    return Verdict(reason, detail, measured / limit - 1)


def speech_units(text: str) -> int:
    """How long a text is when spoken, in Latin letters: a digit is a word, and so is a percent sign."""
    return sum(_UNITS[_kind(character)] for character in text)


def _kind(character: str) -> str:
    if character.isdigit():
        return "digit"
    if character in _SIGNS:
        return "sign"
    return "letter" if character < "\u0250" or not character.isalpha() else "foreign"


def _dbfs(size: float) -> float:
    return max(NOTHING_DBFS, 20 * float(np.log10(size / FULL_SCALE))) if size > 0 else NOTHING_DBFS
