"""Progress of a running corpus: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from cli import show
from storage import corpora, errors, fleet, jobs, states
from storage.database import Database
from workers.engines.engine import EngineSpec

EVERY_LINE = 10.0  # seconds between lines where there is no terminal
ALIVE_SECONDS = 20.0  # a worker not seen for so long does not count
WINDOW = 30.0  # seconds over which the speed is taken
SHARE = 20  # a look at the database may take at most a twentieth of the time


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a corpus' progress."""

    at: float
    tokens: int
    ended: float  # jobs, with the shares of those that are being encoded
    progress: jobs.Progress


class Meter:
    """Speed and time left, from looks of the last half minute."""

    def __init__(
        self, spec: EngineSpec, workers: bool, encoding: Mapping[int, float], price: float | None = None
    ) -> None:
        self._encoding = encoding
        self._price = price
        self._cost: float | None = None
        self._rate = spec.token_rate
        self._pool = spec.pool
        self._tells_workers = workers
        self._workers = 0
        self._looks: deque[Look] = deque()

    def add(self, progress: jobs.Progress, at: float) -> None:
        """Take a look into account."""
        ended = sum(count for state, count in progress.jobs.items() if state not in states.UNFINISHED_JOBS)
        encoding = sum(share for share in list(self._encoding.values()) if share < 1)
        self._looks.append(Look(at, progress.tokens_done, ended + encoding, progress))
        while len(self._looks) > 2 and at - self._looks[0].at > WINDOW:
            self._looks.popleft()

    def look(self, connection: sa.Connection, corpus_id: int, at: float) -> None:
        """Look at a corpus now."""
        self.add(jobs.progress(connection, corpus_id), at)
        if self._tells_workers:
            self._workers = fleet.alive(connection, self._pool, ALIVE_SECONDS)
        if self._price is not None:
            self._cost = cost(connection.execute(corpora.by_id(corpus_id)).one(), self._price)

    @property
    def last(self) -> Look:
        """The newest look."""
        return self._looks[-1]

    def speed(self) -> float | None:
        """Seconds of audio rendered a second."""
        rate = self._per_second(lambda look: look.tokens)
        return None if rate is None else rate / self._rate

    def seconds_left(self) -> float | None:
        """Until all is rendered and assembled, whichever takes longer."""
        look = self.last
        tokens_left = look.progress.tokens_total - look.tokens
        jobs_left = sum(look.progress.jobs.values()) - look.ended
        estimates = []
        for left, rate in (
            (tokens_left, self._per_second(lambda look: look.tokens)),
            (jobs_left, self._per_second(lambda look: look.ended)),
        ):
            if left and rate:
                estimates.append(left / rate)
        return max(estimates) if estimates else None

    def _per_second(self, of: Any) -> float | None:
        first, last = self._looks[0], self._looks[-1]
        gained = of(last) - of(first)
        return gained / (last.at - first.at) if gained > 0 and last.at > first.at else None

    def share(self) -> float:
        """How much of the work is done, 0 to 1: rendering counts for three quarters, assembling for one."""
        progress = self.last.progress
        jobs_share = self.last.ended / max(1, sum(progress.jobs.values()))
        return 0.75 * self.last.tokens / max(1, progress.tokens_total) + 0.25 * jobs_share

    def audio_seconds(self) -> float:
        """Rendered so far, about."""
        return self.last.tokens / self._rate

    def line(self) -> str:
        """All of it in one line."""
        look, speed = self.last, self.speed()
        parts = [
            f"{look.progress.segments_done} of {look.progress.segments_total} segments",
            f"{int(look.ended)} of {sum(look.progress.jobs.values())} jobs",
            f"{show.duration(self.audio_seconds())} of audio",
        ]
        if speed is not None:
            parts.append(f"{speed:.0f}x real time")
        encoding = [share for share in list(self._encoding.values()) if share < 1]
        if encoding:
            parts.append("encoding " + ", ".join(f"{share:.0%}" for share in encoding[:4]))
        if look.progress.segments_failed:
            parts.append(f"{look.progress.segments_failed} failed")
        if self._tells_workers:
            parts.append("1 worker" if self._workers == 1 else f"{self._workers} workers")
        if self._cost is not None:
            parts.append(f"cost {self._cost:.2f}")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"{show.duration(left)} left")
        return ", ".join(parts)


def cost(corpus: sa.Row[Any], price: float | None) -> float | None:
    """What a corpus has cost so far, in the currency of the price of a worker's hour; None where there is none."""
    return None if price is None else price * float(corpus.worker_seconds) / 3600


@contextmanager
def shown(
    database: Database,
    corpus: sa.Row[Any],
    spec: EngineSpec,
    *,
    quiet: bool,
    workers: bool = False,
    encoding: Mapping[int, float] = MappingProxyType({}),
    price: float | None = None,
) -> Iterator[None]:
    """Show a corpus' progress until the block ends; with `workers`, how many of them there are; with a price, its cost.

    `encoding` tells how far the long jobs are that are being encoded, by number, 0 to 1.
    """
    if quiet:
        yield
        return
    ended = Event()
    thread = Thread(
        target=_show,
        args=(database, corpus, Meter(spec, workers, encoding, price), ended),
        name="progress",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(database: Database, corpus: sa.Row[Any], meter: Meter, ended: Event) -> None:
    if not sys.stderr.isatty():
        for _ in _looks(database, corpus.id, meter, ended, EVERY_LINE):
            show.note(meter.line())
        return
    from rich.console import Console  # here, since few commands show a bar
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4, no_wrap=True)),
        BarColumn(bar_width=min(24, console.width // 8)),
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1)),  # wraps where it must
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1)
        for _ in _looks(database, corpus.id, meter, ended, 0.5):
            bar.update(task, completed=meter.share(), description=meter.line())


def _looks(database: Database, corpus_id: int, meter: Meter, ended: Event, every: float) -> Iterator[None]:
    pause = 0.0
    while not ended.wait(pause):
        started = time.monotonic()
        try:
            with database.read() as connection:
                meter.look(connection, corpus_id, started)
        except errors.VoicemillError:
            pass  # whoever works on it will tell
        else:
            yield
        pause = max(every, SHARE * (time.monotonic() - started))
