"""The gains that bring a job's programme to the levels of its deliverables: measured once in the job's life.

What was measured stays with the job, so that a programme of which one sentence is made again gets the same gain, and no
other sample of it moves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workers.audio import loudness
from workers.audio.loudness import Level
from workers.deliverables import Deliverable, Target

STEPS = 4  # at most, to find the gain where a limiter works
NEAR = 0.1  # dB: near enough
LEAST = 0.3  # dB of loudness for a dB of gain; with less, more gain would only spoil the sound
SILENT = -60.0  # LUFS: what is quieter is left as it is


@dataclass(frozen=True, slots=True)
class Levels:
    """How loud a programme is as it was spoken, and the gain (dB) of each level that is wanted of it."""

    spoken: Level
    gains: Mapping[str, float]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Levels":
        """As `stored` put it."""
        return cls(Level(**stored["spoken"]), stored["gains"])

    def stored(self) -> dict[str, Any]:
        """As a job's row keeps it."""
        return {"spoken": asdict(self.spoken), "gains": dict(self.gains)}

    def gain(self, wanted: Deliverable) -> float | None:
        """The gain of a deliverable; None where it is as it was spoken."""
        return None if wanted.level is None else self.gains[wanted.level.name]

    def has(self, wanted: Sequence[Deliverable]) -> bool:
        """Whether all the gains that these need are known."""
        return all(each.level is None or each.level.name in self.gains for each in wanted)


def measure(sound: Callable[[], Iterable[bytes]], sample_rate: int, wanted: Sequence[Deliverable]) -> Levels:
    """Measure a programme: once, and some times more for each level at which peaks have to be turned down.

    `sound` gives the programme anew each time, take by take.
    """
    spoken = Level.of(sound(), sample_rate)
    gains: dict[str, float] = {}
    for each in wanted:
        level = each.level
        if level is None or level.name in gains:
            continue
        gain = 0.0 if spoken.lufs < SILENT else level.missing(spoken)
        if gain and spoken.peak + gain > level.ceiling:
            gain = _with_limiter(sound, sample_rate, level, gain)
        gains[level.name] = round(gain, 2)
    return Levels(spoken, gains)


def _with_limiter(sound: Callable[[], Iterable[bytes]], sample_rate: int, level: Target, gain: float) -> float:
    """The gain that reaches a level although peaks are turned down, which costs loudness: found in a few steps."""
    yields, before, missing_before = 1.0, 0.0, 0.0  # dB that a dB more of gain is worth
    for step in range(STEPS):
        treated = (loudness.treated(pcm, sample_rate, gain, level.ceiling) for pcm in sound())
        missing = level.missing(Level.of(treated, sample_rate))
        if abs(missing) <= NEAR:
            break
        if step:
            yields = max(LEAST, (missing_before - missing) / (gain - before))
        before, missing_before = gain, missing
        gain += missing / yields
    return gain
