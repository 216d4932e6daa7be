"""Why a batch ends before its end: its worker is told to stop, its lease is lost, or nobody wants it any more."""

import time
from collections.abc import Callable
from math import inf
from threading import Event, Thread

LOOK_SECONDS = 1.0  # how often a worker asks whether what it renders is still wanted


class Halt:
    """One event for the engine out of three: the worker is told to stop, the lease is lost, the work is cancelled."""

    def __init__(self, stop: Event) -> None:
        self.stop, self.lost, self.unwanted, self.any = stop, Event(), Event(), Event()
        self.stopped_at = inf  # on the monotonic clock
        self._closed = Event()
        self._thread: Thread | None = None

    def watch(self, is_wanted: Callable[[], bool]) -> None:
        """Begin to look, in a thread of its own."""
        self._thread = Thread(target=self._watch, args=(is_wanted,), name="halt", daemon=True)
        self._thread.start()

    def _watch(self, is_wanted: Callable[[], bool]) -> None:
        look_at = time.monotonic() + LOOK_SECONDS
        while not self._closed.wait(0.1):  # a batch that ends does not wait for this thread
            if self.stop.is_set() or self.lost.is_set() or self.unwanted.is_set():
                self.stopped_at = time.monotonic()
                self.any.set()
                return
            if time.monotonic() >= look_at:
                if not is_wanted():
                    self.unwanted.set()
                look_at = time.monotonic() + LOOK_SECONDS

    def close(self) -> None:
        """The batch has ended."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
