"""`--max-idle 10m`: a worker that finds nothing to do leaves, so that its machine can.

A worker is several processes, and they leave together: while one renders a book, the one that will assemble it has nothing
to do and must not go. So each writes down that it has work (`Marker`), and the one that keeps them watches that (`Watch`).
A process that nobody keeps goes by itself (`IdleTimer`).
"""

import logging
import os
import re
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pydantic

log = logging.getLogger(__name__)

DURATION = re.compile(
    r"(?=.)(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.IGNORECASE | re.ASCII
)


def seconds(text: str) -> float:
    """A duration as people write it, `90s`, `10m`, `2h` or `1h30m`, in seconds. Raises ValueError with the reason."""
    match = DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write it like 90s, 10m or 2h")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    found = hours * 3600 + minutes * 60 + rest
    if found <= 0:
        raise ValueError(f"{text!r} is no time at all: write a duration like 90s, 10m or 2h")
    return found


def _read(value: Any) -> Any:
    return seconds(value) if isinstance(value, str) else value


MARK = (
    "VOICEMILL_IDLE_MARK"  # environment variable: the open file through which a worker's processes share a mark
)
_TIME = struct.Struct("d")
_NEVER = float("inf")

Duration = Annotated[float, pydantic.BeforeValidator(_read), pydantic.Field(gt=0)]  # of a setting, in seconds


class IdleTimer:
    """Calls `on_idle` once, in a thread of its own, when there was no work for `max_idle` seconds. None: never."""

    def __init__(
        self,
        max_idle: float | None,
        on_idle: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_idle, self._on_idle, self._clock = max_idle, on_idle, clock
        self._change = threading.Condition()
        self._busy = 0
        self._since = clock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="idle", daemon=True)
        if max_idle is not None:
            self._thread.start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Work is being done; several threads may do some at once."""
        self._move(1)
        try:
            yield
        finally:
            self._move(-1)

    def close(self) -> None:
        """Never call `on_idle` from now on. Safe to call twice, also from `on_idle` itself."""
        with self._change:
            self._closed = True
            self._change.notify()

    def _move(self, by: int) -> None:
        with self._change:
            self._busy += by
            self._since = self._clock()
            self._change.notify()

    def _run(self) -> None:
        if self._waited():
            self._on_idle()

    def _waited(self) -> bool:
        assert self._max_idle is not None
        with self._change:
            while not self._closed:
                left = self._since + self._max_idle - self._clock()
                if not self._busy and left <= 0:
                    return True
                self._change.wait(None if self._busy else left)
            return False


class Mark:
    """When one of a worker's processes last had work: a time that they share through an open file without a name."""

    def __init__(self, file: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file  # a descriptor, for children to inherit
        self._clock = clock  # one for all processes of a machine

    @classmethod
    def new(cls, *, clock: Callable[[], float] = time.monotonic) -> "Mark":
        """A mark that nobody has touched yet."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("voicemill-idle")
        else:
            with tempfile.TemporaryFile() as named:
                file = os.dup(named.fileno())
        os.pwrite(file, _TIME.pack(_NEVER), 0)
        return cls(file, clock=clock)

    @classmethod
    def of_keeper(cls) -> "Mark | None":
        """The mark that whoever keeps this process has given it, None where nobody does."""
        given = os.environ.get(MARK, "")
        return cls(int(given)) if given.isdecimal() else None

    def touch(self) -> None:
        """There is work just now."""
        os.pwrite(self.file, _TIME.pack(self._clock()), 0)

    def seconds(self) -> float:
        """How long nobody has had any work; below zero before anybody was ready for some."""
        (at,) = _TIME.unpack(os.pread(self.file, _TIME.size, 0))
        return self._clock() - float(at)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.file)


class Marker:
    """Keeps a mark fresh while this process has work. `every` so many seconds, a part of what counts as idle."""

    def __init__(self, mark: Mark, every: float) -> None:
        self._mark, self._every = mark, every
        self._lock = threading.Lock()
        self._busy = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idle", daemon=True)
        self._thread.start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Work is being done; several threads may do some at once."""
        self._move(1)
        try:
            yield
        finally:
            self._move(-1)

    def close(self) -> None:
        """Leave the mark alone from now on. Safe to call twice."""
        self._closed.set()

    def _move(self, by: int) -> None:
        with self._lock:
            self._busy += by
        self._mark.touch()

    def _run(self) -> None:
        while not self._closed.wait(self._every):
            if self._busy:
                self._mark.touch()


class Watch:
    """Calls `on_idle` once, in a thread of its own, when a mark was not touched for `max_idle` seconds."""

    def __init__(self, mark: Mark, max_idle: float, on_idle: Callable[[], None]) -> None:
        self._mark, self._max_idle, self._on_idle = mark, max_idle, on_idle
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idle", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Never call `on_idle` from now on, and forget the mark."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        left = self._max_idle
        while not self._closed.wait(min(left, self._max_idle)):
            left = self._max_idle - self._mark.seconds()
            if left <= 0:
                log.info("no work for %g s: leaving", self._max_idle)
                self._on_idle()
                return
