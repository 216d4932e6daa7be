"""What a text will cost before any of it is rendered."""

import math
from dataclasses import dataclass

from workers.engines.engine import EngineSpec

BASE_TOKENS = 12  # codec tokens of silence around any segment, about


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a corpus amounts to. Lengths in seconds; `cost` in the currency of the price, None where there is none."""

    jobs: int
    segments: int
    characters: int
    tokens: int
    audio_seconds: float
    render_seconds: float | None  # on one worker of the measured speed; None where nobody measured it
    cost: float | None


def tokens(text: str, spec: EngineSpec) -> int:
    """Codec tokens that a segment will become, about: at least 1."""
    return BASE_TOKENS + math.ceil(len(text) * spec.tokens_per_character)


def estimate(
    *,
    jobs: int,
    segments: int,
    characters: int,
    token_count: int,
    pause_ms: int,
    spec: EngineSpec,
    speed: float | None,
    price_per_hour: float | None,
) -> Estimate:
    """Audio length, render time and cost of so much text; `speed` in tokens a second, the price for a worker's hour."""
    render_seconds = None if speed is None else token_count / speed
    cost = None if render_seconds is None or price_per_hour is None else render_seconds / 3600 * price_per_hour
    return Estimate(
        jobs=jobs,
        segments=segments,
        characters=characters,
        tokens=token_count,
        audio_seconds=token_count / spec.token_rate + pause_ms / 1000,
        render_seconds=render_seconds,
        cost=cost,
    )
