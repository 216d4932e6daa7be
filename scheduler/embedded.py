"""The whole way in one process: the loop that calls what the Celery tasks call.

Two threads render, so that the tail of one batch overlaps the head of the next; one thread a core assembles. State and
bytes are where every other way of running has them, so whatever ends this process, the next one goes on from there.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Event, Thread

import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, errors, states
from storage.models import Corpus
from workers import assemble, render

log = logging.getLogger(__name__)

RENDERERS = 2  # threads that feed the one engine
ASSEMBLE_AT_ONCE = 16  # short jobs that a thread takes up together
POLL = 0.5  # seconds after which a thread looks again, should it ever miss the bell
SWEEP_EVERY = 5.0  # seconds between two looks for what others lost, while there is nothing to render


class DeviceGoneError(errors.VoicemillError):
    """{reason} What is done is kept: run the same command again, and a new process goes on."""


@dataclass
class Loop:
    """One corpus on its way, in this process."""

    mill: render.Mill
    bench: assemble.Bench
    corpus_id: int
    stop: Event  # set it to drain: what is in flight is kept, and `run` returns
    plan: planner.Plan = field(default_factory=lambda: planner.Plan(workers=1, batches_ahead=RENDERERS + 1))
    assemblers: int = field(default_factory=lambda: os.cpu_count() or 1)
    rendered: Callable[[render.Report], None] = lambda report: None

    def __post_init__(self) -> None:
        self._bell = Condition()
        self._failure: BaseException | None = None
        self._sweep_at = 0.0  # on the monotonic clock
        self.mill = replace(self.mill, ring=self._ring)
        self.bench = replace(self.bench, ring=self._ring)

    def run(self) -> states.Corpus:
        """Work until the corpus has ended or `stop` is set: its state then. Raises what broke a thread."""
        self._sweep()
        threads = [
            Thread(target=self._guard, args=(self._render_next,), name=f"render-{n}") for n in range(RENDERERS)
        ]
        threads += [
            Thread(target=self._guard, args=(self._assemble_next,), name=f"assemble-{n}")
            for n in range(self.assemblers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(POLL)
        if self._failure is not None:
            raise self._failure
        return self._state()

    def _ring(self, _job_ids: Sequence[int] = ()) -> None:
        with self._bell:
            self._bell.notify_all()

    def _guard(self, step: Callable[[], bool]) -> None:
        """Repeat a step until the work is over; a step that finds nothing to do waits for the bell."""
        try:
            while not self.stop.is_set():
                if step():
                    self._ring()
                    continue
                if self._state() != states.Corpus.RUNNING:
                    break
                with self._bell:
                    self._bell.wait(POLL)
        except BaseException as error:
            self._failure = self._failure or error
            self.stop.set()
        finally:
            self._ring()

    def _render_next(self) -> bool:
        database = self.mill.database
        planner.plan(database, self.mill.spec.pool, self.plan)
        with database.read() as connection:
            batch_id = batches.next_ready(connection, self.mill.spec.pool)
        if batch_id is None:
            return self._sweep()
        report = render.run(self.mill, batch_id, self.stop)
        if report is not None:
            self.rendered(report)
        if (
            self.mill.fault.reason is not None
        ):  # a process has no other device: the same command goes on in a new one
            raise DeviceGoneError(reason=self.mill.fault.reason)
        return True

    def _sweep(self) -> bool:
        """Look for lost work, unless that was just done: whether any is back."""
        with self._bell:
            if time.monotonic() < self._sweep_at:
                return False
            self._sweep_at = time.monotonic() + SWEEP_EVERY
        swept = sweep.sweep(self.mill.database)
        return bool(swept.segments or swept.assemblies)

    def _assemble_next(self) -> bool:
        return assemble.run(self.bench, limit=ASSEMBLE_AT_ONCE, stop=self.stop) > 0

    def _state(self) -> states.Corpus:
        with self.mill.database.read() as connection:
            state = connection.execute(
                sa.select(Corpus.c.state).where(Corpus.c.id == self.corpus_id)
            ).scalar_one()
        return states.Corpus(state)
