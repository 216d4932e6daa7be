"""Settings of the scheduler: how texts are cut and batches are planned."""

from pathlib import Path

import pydantic

from workers.settings import BatchSettings


class SchedulerSettings(BatchSettings):
    """How texts are cut and batches are planned."""

    engine: str | None = pydantic.Field(
        default=None, description="The engine where none is named; else maya1 where it can run, else espeak."
    )
    voice: str = pydantic.Field(default="narrator", description="The voice where none is named.")
    format: str = pydantic.Field(default="mp3", description="The audio format where none is named.")
    lexicon: Path | None = pydantic.Field(
        default=None, description="A pronunciation lexicon used for every corpus."
    )
    batch_segments: int = pydantic.Field(
        default=2048, ge=1, le=20000, description="Segments in a batch, at most."
    )
    linger_seconds: float = pydantic.Field(
        default=5.0,
        ge=0,
        le=600,
        description="How long a part-full batch waits for more, while every worker is busy.",
    )
    batches_ahead: int = pydantic.Field(
        default=2,
        ge=1,
        le=100,
        description="Batches kept planned for each live worker, the running one included.",
    )
    sweep_seconds: float = pydantic.Field(
        default=10.0, ge=0.5, le=600, description="Seconds between two searches for lost work."
    )
    ring_again_seconds: float = pydantic.Field(
        default=30.0,
        ge=1,
        le=3600,
        description="A batch that no worker came for in so many seconds is rung for again.",
    )
    losses_allowed: int = pydantic.Field(
        default=20,
        ge=3,
        le=1000,
        description="A segment that was lost with its worker so many times, at last alone, fails for good.",
    )
    keep_events_days: float = pydantic.Field(
        default=30.0,
        gt=0,
        le=36_500,
        description="Days that a webhook's event is remembered once nothing is left to do for it.",
    )
    thaw_poll_seconds: float = pydantic.Field(
        default=300.0,
        ge=1,
        le=86_400,
        description="Seconds between two looks at a job that is on its way out of an archive.",
    )
    price_per_hour: float | None = pydantic.Field(
        default=None,
        ge=0,
        description="What an hour of one worker costs, in your currency: for `estimate`, `watch`, `report`.",
    )
