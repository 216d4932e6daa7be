"""What a worker process has open: database, store, engine; made once before it takes any work, closed after the last.

Celery's own soft and cold shutdown do not work with threads. The drain is ours: SIGTERM sets one event, engines hand back
partials, leases are given back, and a watchdog ends the process should a thread hang.
"""

import faulthandler
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage import errors, fleet, owners, settings, takes
from storage.database import Database
from storage.objects import open_store
from storage.objects.store import Store
from storage.settings import StorageSettings
from workers import assemble, render, scratch
from workers.engines.engine import Checkpointing, EngineSpec, EngineUnavailableError, Partial
from workers.exit_codes import WorkerExit
from workers.health import LOOK_SECONDS, Endpoint, Health, Heartbeat, Report, Watchdog
from workers.idle import IdleTimer, Mark, Marker
from workers.quality import recogniser
from workers.settings import WorkerSettings
from workers.spot import door
from workers.spot import leave as leaving
from workers.spot.settings import LifeSettings

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0  # how often a worker says that it lives
TELLING_SECONDS = 1.0  # that a process which ends itself tries to say why
PATIENCE = {"assembly": 12.0}  # times as long: the upload of a book says nothing while it goes on


@dataclass
class Station:
    """One worker process."""

    database: Database
    store: Store
    owner: str
    bench: assemble.Bench
    mill: render.Mill | None  # None: this process only assembles
    health: Health
    idle: IdleTimer | Marker
    drain_seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    closing: ExitStack = field(default_factory=ExitStack)

    def drain(self, seconds: float) -> None:
        """Stop taking work and give back what is in flight; whatever hangs is ended after so many seconds."""
        if self.stop.is_set():
            return
        self.stop.set()
        self.health.draining()
        watchdog = threading.Timer(seconds, _end, [f"still at work {seconds:g} s after it was told to leave"])
        watchdog.daemon = True
        watchdog.start()

    @contextmanager
    def at_work(self, what: str) -> Iterator[None]:
        """Something is being done: neither idle nor, for a while, stuck."""
        with self.idle.busy(), self.health.at_work(what, PATIENCE.get(what, 1.0)):
            yield

    def close(self) -> None:
        """Give everything back. Safe to call twice."""
        self.stop.set()
        self.closing.close()


def open_station(
    spec: EngineSpec | None,
    *,
    ring: Callable[[Sequence[int]], None],
    ended: Callable[[Sequence[int]], None],
    leave: Callable[[], None],
    scratch_root: Path | None = None,
) -> Station:
    """Open everything that a worker needs; with a spec it loads the engine. Raises a VoicemillError.

    `leave` is called, in another thread, when the machine is about to be taken away or there was no work for too long.
    """
    storage, worker, life = (
        settings.load(StorageSettings),
        settings.load(WorkerSettings),
        settings.load(LifeSettings),
    )
    owner = owners.this_process()
    with ExitStack() as stack:
        stack.callback(door.Door(life.spot_lock).close)
        health = _tell_health(life, stack)
        timer = _idle_timer(life, leave)
        stack.callback(timer.close)
        database = Database(storage.database(), pool_size=storage.database_pool_size)
        stack.callback(database.close)
        store = open_store(storage.store())
        folder = stack.enter_context(scratch.folder(scratch_root))
        bench = assemble.Bench(
            database,
            store,
            owner,
            folder,
            worker.lease_seconds,
            worker.assembly_attempts,
            ended,
            encoding=lambda _job_id, _share: health.progress(),
            ring=ring,
        )
        mill = None
        if spec is not None:
            unavailable = spec.unavailable()
            if unavailable is not None:
                raise EngineUnavailableError(engine=spec.name, reason=unavailable)
            with timer.busy():
                engine = spec.load()
            stack.callback(engine.close)
            listening = recogniser.listening()
            if isinstance(engine, Checkpointing):
                engine.checkpoint_interval = worker.checkpoint_seconds
                engine.on_checkpoint = functools.partial(_keep_partials, database, health)
            mill = render.Mill(
                database,
                store,
                spec,
                engine,
                owner,
                worker.lease_seconds,
                worker.segment_attempts,
                life.drain_seconds / 2,
                ring,
                hear=listening.hear,
                hear_share=listening.share,
                progress=health.progress,
            )
        stack.callback(leaving.watch(life, leave).close)
        station = Station(database, store, owner, bench, mill, health, timer, life.drain_seconds)
        health.ready()
        Watchdog(health, station.stop, _end_stuck, every=min(LOOK_SECONDS, life.stuck_seconds / 4))
        if spec is not None:
            _beat_while_open(station, spec.pool, stack)
        station.closing = stack.pop_all()
    return station


def _tell_health(life: LifeSettings, stack: ExitStack) -> Health:
    health = Health(life.stuck_seconds)
    if life.health_port is not None:
        stack.callback(Endpoint(health, life.health_host, life.health_port).close)
    if life.heartbeat_file is not None:
        stack.callback(Heartbeat(health, life.heartbeat_file).close)
    return health


def _idle_timer(life: LifeSettings, leave: Callable[[], None]) -> IdleTimer | Marker:
    """Who leaves when there is no work: all processes of a worker together, or this one, where nobody keeps it."""
    mark = Mark.of_keeper()
    if mark is None or life.max_idle is None:
        return IdleTimer(life.max_idle, leave)
    mark.touch()
    return Marker(mark, life.max_idle / 4)


def _end(why: str) -> None:
    """End this process, whatever hangs in it, be it its log, and show where. What it held is found as after a kill."""

    def tell() -> None:
        log.critical("%s: this process ends; its supervisor starts a fresh one", why)
        faulthandler.dump_traceback(2)  # Celery has put a logger in the place of sys.stderr

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    teller.join(TELLING_SECONDS)
    os._exit(WorkerExit.WATCHDOG)


def _end_stuck(report: Report) -> None:
    _end(f"no progress for {report.seconds_since_progress:.0f} s in {' and '.join(report.batches)}")


def _keep_partials(database: Database, health: Health, partials: Sequence[Partial]) -> None:
    """Store how far sequences in flight are, so that a kill without notice costs no more than since then.

    It is a sign of life, too: on a slow device no sequence may come to its end for longer than a worker may be silent.
    """
    health.progress()
    try:
        database.run(
            lambda connection: takes.keep_partials(
                connection, {partial.key: (partial.state, partial.tokens) for partial in partials}
            )
        )
    except errors.VoicemillError as error:
        log.warning("cannot keep a checkpoint: %s", error)


def _beat_while_open(station: Station, pool: str, stack: ExitStack) -> None:
    """Say every few seconds that this worker lives, until it is closed; planning counts the living."""
    closed = threading.Event()

    def beat() -> None:
        while True:
            try:
                with station.database.write() as connection:
                    if station.stop.is_set():
                        fleet.leave(connection, station.owner)
                        return
                    fleet.beat(connection, station.owner, pool)
            except errors.VoicemillError as error:
                log.warning("cannot say that I live: %s", error)
            if closed.wait(BEAT_SECONDS):
                return

    def leave() -> None:
        closed.set()
        thread.join()
        try:
            with station.database.write() as connection:
                fleet.leave(connection, station.owner)
        except errors.VoicemillError as error:
            log.warning("cannot say goodbye: %s", error)

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    stack.callback(leave)
