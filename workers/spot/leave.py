"""When to leave: notices and settings together."""

from collections.abc import Callable

from workers import spot
from workers.spot.settings import LifeSettings


def watch(life: LifeSettings, leave: Callable[[], None]) -> spot.Watcher:
    """Watch as the settings say, and call `leave`, in the watcher's thread, on each notice that is a reason to.

    To be closed, and where the process drained well to be acknowledged before. Raises EndpointError.
    """

    def on_notice(notice: spot.Notice) -> None:
        if notice.urgent or life.spot_rebalance == "drain":
            leave()

    here = life.spot_endpoint
    endpoints = {cloud.name: here for cloud in spot.CLOUDS} if here is not None else None
    return spot.watch(life.spot, on_notice, endpoints=endpoints)
