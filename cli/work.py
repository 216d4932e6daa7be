"""Renders a corpus in this process, with progress, until it has ended or a person stops it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from cli import progress, show
from cli.exit_codes import ExitCode
from cli.place import Place
from scheduler import embedded, planner
from scheduler.settings import SchedulerSettings
from storage import corpora, owners, settings, states
from storage.database import Database
from storage.objects.store import Store
from workers import assemble, render, scratch
from workers.engines.engine import EngineSpec
from workers.quality import recogniser
from workers.settings import WorkerSettings


def work(
    place: Place,
    database: Database,
    store: Store,
    spec: EngineSpec,
    name: str,
    *,
    going_on: bool,
    quiet: bool,
) -> ExitCode:
    """Render a corpus in this process until it has ended or a signal comes."""
    with database.read() as connection:
        corpus = corpora.find(connection, name)
    if corpus.state != states.Corpus.RUNNING:
        return ExitCode.OK
    if going_on:
        show.note(f"Going on with {name}.")
    worker, scheduler = settings.load(WorkerSettings), settings.load(SchedulerSettings)
    listening = recogniser.listening()
    engine = spec.load()
    owner = owners.this_process()
    stop = Event()
    try:
        with scratch.folder(place.scratch()) as folder, _signals(stop) as seen:
            encoding: dict[int, float] = {}  # long jobs on their way, by number
            mill = render.Mill(
                database,
                store,
                spec,
                engine,
                owner,
                worker.lease_seconds,
                worker.segment_attempts,
                hear=listening.hear,
                hear_share=listening.share,
            )
            bench = assemble.Bench(
                database,
                store,
                owner,
                folder,
                worker.lease_seconds,
                worker.assembly_attempts,
                encoding=encoding.__setitem__,
            )
            loop = embedded.Loop(mill, bench, corpus.id, stop)
            loop.plan = planner.Plan(
                workers=1,
                batch_seconds=scheduler.batch_seconds,
                batch_segments=scheduler.batch_segments,
                batches_ahead=embedded.RENDERERS + 1,
                linger_seconds=0,
            )
            with progress.shown(database, corpus, spec, quiet=quiet, encoding=encoding):
                state = loop.run()
            return ExitCode.INTERRUPTED if seen and state == states.Corpus.RUNNING else ExitCode.OK
    finally:
        engine.close()


@contextmanager
def _signals(stop: Event) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM drains, the second one ends the process at once: both are safe."""
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if seen:
            os._exit(ExitCode.INTERRUPTED)
        seen.append(number)
        stop.set()
        os.write(2, b"\nFinishing what is in flight; once more to end at once.\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
