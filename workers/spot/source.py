"""What a cloud's module is to the watcher."""

from collections.abc import Iterator
from typing import Protocol

from workers.spot.notice import Notice


class Source(Protocol):
    """Where one cloud's notices come from. Its calls block, for a bounded time, and end early with `close`."""

    name: str
    every: float  # seconds between two polls

    def probe(self, timeout: float) -> bool:
        """Whether this machine is this cloud's, found out within `timeout` seconds. Raises LinkError or says False."""
        ...

    def poll(self) -> Iterator[Notice]:
        """The notices in force, the most urgent first, every time anew. Raises LinkError."""
        ...

    def acknowledge(self) -> None:
        """Tell the cloud that it need not wait for us, where it wants to know. Raises LinkError."""
        ...

    def close(self) -> None:
        """End a call under way, from another thread. Safe to call twice."""
        ...
