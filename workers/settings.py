"""Settings of the workers: how batches are rendered and joined."""

from pathlib import Path

import pydantic

from storage.settings import RoomSettings


class WorkerSettings(RoomSettings):
    """How batches are rendered and joined."""

    lease_seconds: float = pydantic.Field(
        default=60.0,
        ge=5,
        le=3600,
        description="A worker that does not renew its lease for so long has lost it.",
    )
    segment_attempts: int = pydantic.Field(
        default=3, ge=1, le=20, description="Errors of a segment itself before it fails for good."
    )
    assembly_attempts: int = pydantic.Field(
        default=3, ge=1, le=20, description="Errors of an assembly before its job fails for good."
    )
    checkpoint_seconds: float = pydantic.Field(
        default=20.0,
        gt=0,
        le=3600,
        description="How often sequences in flight are written down: what a kill without notice costs, at most.",
    )
    voices: Path | None = pydantic.Field(default=None, description="A TOML file with voices of your own.")
    espeak_processes: int | None = pydantic.Field(
        default=None,
        ge=1,
        le=1024,
        description="Processes of the espeak engine; one a core where none is said.",
    )
    ffmpeg: Path | None = pydantic.Field(
        default=None, description="The ffmpeg to use; the one from imageio-ffmpeg where none is named."
    )


class QueueSettings(RoomSettings):
    """How to reach the broker."""

    broker_url: pydantic.SecretStr | None = pydantic.Field(
        default=None, description="Broker: amqp://user:password@host/vhost or redis://host:6379/0."
    )
    visibility_timeout: int = pydantic.Field(
        default=900,
        ge=30,
        description="Redis: seconds after which an unacknowledged message is handed out again.",
    )
    redis_prefix: str = pydantic.Field(
        default="voicemill:", description="Redis: before every key, so that a server can be shared."
    )
