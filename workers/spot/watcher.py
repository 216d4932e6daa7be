"""The thread that asks for notices, whatever the network does."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.spot import detect
from workers.spot.notice import Notice
from workers.spot.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How the watcher paces itself, in seconds."""

    probe: float = 1.0  # to find out which cloud this is; doubled with each further try
    probe_limit: float = 8.0  # for one try, at most
    probe_every: float = 15.0  # between two tries: a metadata server may be slow while its machine starts
    probe_until: float = 600.0  # after so long without an answer there is no cloud here
    backoff: float = 1.0  # after a first failed poll, doubled after each further one
    backoff_limit: float = 8.0  # at most; well below the shortest notice of 30 s
    complain: float = 60.0  # between two warnings about failing polls


class Watcher:
    """Watches one source of notices, or finds out which of several to watch. Without any it does nothing.

    It takes part in nothing else: whatever fails in it is logged, at most once in `pace.complain` seconds, and it goes on.
    """

    def __init__(
        self, sources: Sequence[Source], on_notice: Callable[[Notice], None], *, pace: Pace | None = None
    ) -> None:
        self._sources, self._on_notice, self._pace = sources, on_notice, pace or Pace()
        self._source: Source | None = None
        self._decided, self._closed = threading.Event(), threading.Event()
        self._seen: set[str] = set()
        self._complained = -float("inf")  # when, on the monotonic clock
        self._thread = threading.Thread(target=self._run, name="spot", daemon=True)
        self._thread.start()

    def provider(self, timeout: float | None = None) -> str | None:
        """The cloud that is watched, once all were asked; None where none has answered, or not in `timeout` seconds."""
        self._decided.wait(timeout)
        source = self._source
        return source.name if source else None

    def acknowledge(self) -> bool:
        """Tell the cloud that all is stored and it need not wait. Takes a few seconds at most; False if it did not hear.

        Only Azure asks for it. To be called when every process on this machine has drained (`workers.spot.door`).
        """
        if self._source is None:
            return True
        try:
            self._source.acknowledge()
        except Exception as error:
            log.warning("spot: could not acknowledge the notice: %s", error)
            return False
        return True

    def close(self) -> None:
        """Stop watching, also from `on_notice` itself. Safe to call twice."""
        self._closed.set()
        for source in self._sources:
            source.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(self._pace.probe)  # a daemon: should a name server hold it, it does not hold us

    def _run(self) -> None:
        try:
            self._source = self._choose()
        except Exception:
            log.exception("spot: could not find out which cloud this is")
        self._decided.set()
        failures = 0
        while self._source is not None and not self._closed.is_set():
            pause = self._source.every
            try:
                for notice in self._source.poll():
                    self._tell(notice)
                failures = 0
            except Exception as error:
                if self._closed.is_set():
                    return
                pause = min(self._pace.backoff * 2 ** min(failures, 30), self._pace.backoff_limit)
                failures += 1
                self._complain(self._source, error)
            self._closed.wait(pause)

    def _choose(self) -> Source | None:
        if len(self._sources) <= 1:
            return self._sources[0] if self._sources else None
        until, patience = time.monotonic() + self._pace.probe_until, self._pace.probe
        while not self._closed.is_set():
            source = detect.first(self._sources, patience)
            if source is not None:
                log.info("spot: this is %s, watching for its notices", source.name)
                return source
            if not self._decided.is_set():
                told = "spot: no cloud's metadata server answers here; SIGTERM is the notice that counts"
                log.info("%s, unless one does within %g s", told, self._pace.probe_until)
                self._decided.set()
            if time.monotonic() >= until:
                break
            patience = min(2 * patience, self._pace.probe_limit)
            self._closed.wait(self._pace.probe_every)
        return None

    def _tell(self, notice: Notice) -> None:
        if notice.identity in self._seen or self._closed.is_set():
            return
        self._seen.add(notice.identity)
        log.warning("spot: %s", notice.line())
        try:
            self._on_notice(notice)
        except Exception:
            log.exception("spot: what should happen on a notice failed")

    def _complain(self, source: Source, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= self._pace.complain:
            self._complained = now
            log.warning("spot: cannot ask %s for notices, still trying: %s", source.name, error)
