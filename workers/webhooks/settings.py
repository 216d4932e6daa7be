"""Settings of the webhooks: how long an endpoint may take, and which addresses may be spoken to."""

from pathlib import Path

import pydantic
from pydantic import IPvAnyNetwork

from storage.settings import RoomSettings


class WebhookSettings(RoomSettings):
    """How events are sent."""

    webhook_allow_private: bool = pydantic.Field(
        default=False,
        description="Send to loopback and private addresses too; to link-local and metadata addresses never.",
    )
    webhook_allow_networks: tuple[IPvAnyNetwork, ...] = pydantic.Field(
        default=(), description='Networks that may be sent to whatever else is refused: ["10.8.0.0/16"].'
    )
    webhook_ca_file: Path | None = pydantic.Field(
        default=None, description="Certificate authorities to trust beside the system's, as PEM."
    )
    webhook_connect_seconds: float = pydantic.Field(
        default=5.0,
        gt=0,
        le=60,
        description="An endpoint's name is looked up, and it is reached, in so long each.",
    )
    webhook_total_seconds: float = pydantic.Field(
        default=20.0, gt=0, le=300, description="An endpoint has answered in so long, from first to last."
    )
    webhook_disable_days: float = pydantic.Field(
        default=5.0, gt=0, description="An endpoint that did nothing but fail for so long is disabled."
    )
    webhook_clock_speed: float = pydantic.Field(
        default=1.0,
        ge=1,
        le=1e9,
        description="The retry schedule runs so many times faster: for trying things out.",
    )

    @property
    def lease_seconds(self) -> float:
        """How long an attempt is its deliverer's own: longer than it can last."""
        return self.webhook_connect_seconds + self.webhook_total_seconds + 10.0
