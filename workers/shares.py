"""Whose time it was: a worker that renders several batches at once gives each an equal share of every moment."""

import time
from threading import Lock


class Shares:
    """Divides the time of one worker among what it does at once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spent: dict[int, float] = {}  # seconds by batch, of those under way
        self._at = 0.0

    def begin(self, batch_id: int) -> None:
        """From now on a part of the time is this batch's."""
        with self._lock:
            self._settle()
            self._spent[batch_id] = 0.0

    def end(self, batch_id: int) -> float:
        """Its seconds, up to now. 0 where it never began or has ended before."""
        with self._lock:
            self._settle()
            return self._spent.pop(batch_id, 0.0)

    def _settle(self) -> None:
        at = time.monotonic()
        for batch_id in self._spent:
            self._spent[batch_id] += (at - self._at) / len(self._spent)
        self._at = at
