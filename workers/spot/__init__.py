"""Notices that this machine will be taken away: asked of the cloud that rents it out.

    watcher = spot.watch("auto", on_notice)  # or, as the settings say: leave.watch(life, stop.set)
    ...
    if door.is_last():  # of all workers on this machine: everything is stored, the cloud need not wait any longer
        watcher.acknowledge()
    watcher.close()

Kubernetes and plain hosts need no watcher: whoever ends the process there (the kubelet, systemd, `docker stop`) sends
SIGTERM first, and the worker drains on that in the same way. A notice is never promised by any cloud; it saves work and
nothing more, since every finished segment is already stored.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from workers.spot.aws import Aws
from workers.spot.azure import Azure
from workers.spot.google import Google
from workers.spot.notice import Kind, Notice
from workers.spot.watcher import Pace, Watcher

__all__ = ["CLOUDS", "Choice", "Kind", "Notice", "Pace", "Watcher", "watch"]

Choice = Literal["off", "auto", "aws", "google", "azure"]
CLOUDS = (Aws, Google, Azure)  # where several should answer, the first counts


def watch(
    kind: Choice,
    on_notice: Callable[[Notice], None],
    *,
    endpoints: Mapping[str, str] | None = None,
    pace: Pace | None = None,
) -> Watcher:
    """Watch for notices in a thread of its own, until `close()`. Returns at once and never raises for a network's faults.

    `auto` finds out where it is, within `pace.probe` seconds, and says so in the log. Where no cloud answers it asks again
    for a while: a machine that has just started may be slow to know. `endpoints` are base URLs by the cloud's name,
    instead of its link-local address. `on_notice` is called in the watcher's thread, once a notice.
    """
    found = endpoints or {}
    wanted = [cloud for cloud in CLOUDS if kind in ("auto", cloud.name)]
    sources = [cloud(found[cloud.name]) if cloud.name in found else cloud() for cloud in wanted]
    return Watcher(sources, on_notice, pace=pace or Pace())
