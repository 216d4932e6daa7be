"""The whole way in one process: the loop that calls what the Celery tasks call.

Two threads render, so that the tail of one batch overlaps the head of the next; one thread a core assembles. State and
bytes are where every other way of running has them, so whatever ends this process, the next one goes on from there.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Event, Thread

import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, states
from storage.models import Corpus
from workers import assemble, render

log = logging.getLogger(__name__)

RENDERERS = 2  # threads that feed the one engine
ASSEMBLE_AT_ONCE = 16  # short jobs that a thread takes up together
POLL = 0.5  # seconds after which a thread looks again, should it ever miss the bell


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
        self._rendering = 0
        self.mill = replace(self.mill, ring=self._ring)
        self.bench = replace(self.bench, ring=self._ring)

    def run(self) -> states.Corpus:
        """Work until the corpus has ended or `stop` is set: its state then. Raises what broke a thread."""
        sweep.sweep(self.mill.database)
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
            return False
        report = render.run(self.mill, batch_id, self.stop)
        if report is not None:
            self.rendered(report)
        return True

    def _assemble_next(self) -> bool:
        return assemble.run(self.bench, limit=ASSEMBLE_AT_ONCE, stop=self.stop) > 0

    def _state(self) -> states.Corpus:
        with self.mill.database.read() as connection:
            state = connection.execute(sa.select(Corpus.state).where(Corpus.id == self.corpus_id)).scalar_one()
        return states.Corpus(state)
