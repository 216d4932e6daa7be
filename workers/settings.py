"""Settings of the workers: how batches are rendered and joined."""

from pathlib import Path
from urllib.parse import urlsplit

import pydantic
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

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


class BatchSettings(RoomSettings):
    """How much is in a batch. The scheduler's own settings contain it: it sizes them, workers check that they can be."""

    batch_seconds: float = pydantic.Field(
        default=60.0, ge=1, le=600, description="How long a worker should need for one batch."
    )


SCHEMES = ("amqp", "amqps", "redis", "rediss")


class QueueSettings(RoomSettings):
    """How to reach the broker."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # the URL has a password in it

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

    @pydantic.field_validator("broker_url")
    @classmethod
    def _known(cls, url: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        for part in (
            url.get_secret_value().split(";") if url is not None else ()
        ):  # several: the first that answers
            if reason := _fault(part):
                raise PydanticCustomError("broker_url", "{reason}", {"reason": reason})
        return url


def _fault(url: str) -> str | None:
    """What is wrong with a broker's URL, None if nothing is. Says nothing that may be part of a password."""
    scheme, is_url, _ = url.partition("://")
    if not is_url:
        return "it is no URL; it reads amqp://user:password@host/vhost or redis://host:6379/0"
    if scheme.lower() not in SCHEMES:
        return f"no broker is reached by {scheme[:20]}://, but by {', '.join(SCHEMES)}"
    try:
        parsed = urlsplit(url)
        parsed.port  # noqa: B018 - raises
    except ValueError:
        return "its host or port is none; in a password / is written %2F, # %23, ? %3F, @ %40"
    if "password=" in parsed.query:
        return "its password stands before the host, as in redis://:password@host:6379/0"
    if scheme.lower().startswith("redis") and not (parsed.path.strip("/") or "0").isdecimal():
        return "after its host comes the number of a database, as in redis://host:6379/0"
    return None
