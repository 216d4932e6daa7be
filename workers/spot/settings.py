"""Settings of how a worker's process lives and leaves."""

from pathlib import Path
from typing import Literal

import pydantic

from storage.settings import RoomSettings
from workers import idle
from workers.spot import Choice


class LifeSettings(RoomSettings):
    """How a worker's process lives and leaves."""

    spot: Choice = pydantic.Field(
        default="auto",
        description="The cloud to ask for interruption notices: off, auto, aws, google or azure.",
    )
    spot_endpoint: str | None = pydantic.Field(
        default=None, description="Base URL of the metadata server, where it is not at 169.254.169.254."
    )
    spot_lock: Path | None = pydantic.Field(
        default=None,
        description="A file that the workers of one machine share: the last to leave tells Azure. None: in /run/lock.",
    )
    spot_rebalance: Literal["ignore", "drain"] = pydantic.Field(
        default="ignore", description="What to do when Amazon says that an interruption has become likelier."
    )
    drain_seconds: float = pydantic.Field(
        default=25.0,
        gt=0,
        le=3600,
        description="Time to store everything after SIGTERM or a notice; less than what the host allows.",
    )
    restart_seconds: float = pydantic.Field(
        default=1.0, gt=0, le=3600, description="Wait before a crashed worker starts again, doubled each time."
    )
    restart_limit_seconds: float = pydantic.Field(
        default=60.0, gt=0, le=3600, description="The longest wait before a crashed worker starts again."
    )
    health_host: str = pydantic.Field(
        default="127.0.0.1",
        description="Address of the health endpoint; 0.0.0.0 where probes come from outside.",
    )
    health_port: int | None = pydantic.Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of the health endpoint; with several GPUs the first of as many. None: no endpoint.",
    )
    heartbeat_file: Path | None = pydantic.Field(
        default=None,
        description="A file touched every few seconds while all is well; with several GPUs one each, .0, .1, ….",
    )
    stuck_seconds: float = pydantic.Field(
        default=300.0,
        gt=0,
        le=86400,
        description="A worker without progress for so long is stuck, and ends itself with exit code 75.",
    )
    max_idle: idle.Duration | None = pydantic.Field(
        default=None, description="A worker that finds no work for so long leaves: 90s, 10m, 2h. None: never."
    )
