"""What the takes of an engine are held to. An engine's specification carries its own."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Limits:
    """Between what a take may lie. The constant parts let short texts pass; `inf` switches a check off."""

    shortest: tuple[float, float]  # seconds, and seconds a letter or digit
    longest: tuple[float, float]  # seconds, and seconds a unit of `checks.speech_units`
    seconds_per_tag: float  # added to the longest for each tag such as <laugh>
    rms_dbfs: float  # its level at least
    silence_ratio: float  # of its 20 ms frames
    clipped_ratio: float  # of its samples
    gap_seconds: float = inf  # the longest silence inside it
    loop_seconds: float = inf  # the longest stretch that repeats what came right before it
    words_ratio: float = 0.6  # of its words that a recogniser must hear, where one listens
    words_run: int = 4  # words in a row that may be missing, added or others


WIDE = Limits((-0.5, 0.01), (5.0, 0.3), 5.0, rms_dbfs=-60.0, silence_ratio=0.9, clipped_ratio=0.02)
"""For engines that nobody measured."""
