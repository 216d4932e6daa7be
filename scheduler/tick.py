"""The scheduler's Celery tasks and their clock. Safe to run several at once: whoever comes second finds nothing to do.

celery -A scheduler.tick worker -P threads -c 3 -Q plan,deliver

The clock is Celery beat, in a thread of this process: a process of its own would outlive ours when we are killed.
"""

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import beat, bootsteps, schedules, signals

from scheduler import house, planner, ringing, sweep, thawing
from scheduler.settings import SchedulerSettings
from scheduler.submissions import Submissions
from storage import errors, settings
from storage.database import Database
from storage.objects import Store, open_store
from storage.settings import StorageSettings
from workers import bell, broker
from workers.app import app
from workers.exit_codes import WorkerExit
from workers.settings import WorkerSettings
from workers.webhooks import deliver as delivering
from workers.webhooks.settings import WebhookSettings

__all__ = ["app"]

log = logging.getLogger(__name__)

PLAN_EVERY = 2.0  # seconds; a ring plans at once, this catches what was not rung for
SWEEP_EVERY = settings.load(SchedulerSettings).sweep_seconds
THAWS_EVERY = 30.0  # seconds; each thaw is looked at less often than that
CHATTER = ("celery.beat", "celery.worker.strategy", "celery.app.trace")  # loggers that tell of each tick

_database: Database | None = None
_store: Store | None = None
_looking = threading.Lock()
_delivering = threading.Lock()
_stopping = threading.Event()
_ringing = threading.Lock()  # held from a batch's commit to its ring: the sweep would ring for it, too
_hold_until = 0.0  # on the monotonic clock: before it no lease is taken back

_STARTED, _STARTED_TICKS = datetime.now(UTC), time.monotonic()


def steady_now() -> datetime:
    """The time as it would be had nobody set the clock since the start: set back by an hour, it would stop ours for one."""
    return _STARTED + timedelta(seconds=time.monotonic() - _STARTED_TICKS)


app.conf.beat_schedule = {
    "plan": {
        "task": "plan",
        "schedule": schedules.schedule(PLAN_EVERY, nowfun=steady_now),
        "options": {"queue": broker.PLAN, "exchange_type": "direct", "expires": 5 * PLAN_EVERY},
    },
    "sweep": {
        "task": "sweep",
        "schedule": schedules.schedule(SWEEP_EVERY, nowfun=steady_now),
        "options": {"queue": broker.PLAN, "exchange_type": "direct", "expires": SWEEP_EVERY},
    },
    "thaws": {
        "task": "thaws",
        "schedule": schedules.schedule(THAWS_EVERY, nowfun=steady_now),
        "options": {"queue": broker.PLAN, "exchange_type": "direct", "expires": THAWS_EVERY},
    },
}


@app.task(name="plan", send_events=False)
def plan(pool: str | None = None) -> str:
    """Plan batches for a pool, or for every pool that has work, and ring for them."""
    database = _open()
    planned = 0
    for name in [pool] if pool else ringing.pools_with_work(database):
        with _ringing:
            batch_ids = planner.plan(database, name, ringing.plan_of(database, name))
            ringing.ring_for_batches(app, database, batch_ids)
        planned += len(batch_ids)
        if batch_ids:
            log.info("pool %s: %d batches planned", name, len(batch_ids))
    return f"{planned} batches planned" if planned else "nothing to plan"


@app.task(name="sweep", send_events=False)
def run_sweep() -> str:
    """Return what was lost, and ring again for what nobody came for.

    While the database is away nobody can renew a lease. So for a lease's time after that none is taken back.
    """
    global _hold_until
    database, swept = _open(), sweep.Swept()
    try:
        if time.monotonic() >= _hold_until:
            mine = settings.load(SchedulerSettings)
            swept = sweep.sweep(database, mine.losses_allowed, mine.keep_events_days * 86_400)
    except errors.DatabaseUnreachableError:
        _hold_until = time.monotonic() + settings.load(WorkerSettings).lease_seconds
        raise
    with _ringing:
        rung = ringing.ring_again(app, database)
    told = [f"{swept.batches} batches lost, {swept.segments} segments pending again"] if swept.batches else []
    told += [f"rang again for {rung}"] if rung else []
    if told:
        log.info("%s", ", ".join(told))
    return ", ".join(told) or "nothing was lost"


@app.task(name="thaws", send_events=False)
def look_after_thaws() -> str:
    """See to the jobs on their way out of an archive. One look at a time: a store that hangs holds up nothing else."""
    if _store is None or not _looking.acquire(blocking=False):
        return "another look is under way"
    try:
        ready = thawing.settle(_open(), _store, settings.load(SchedulerSettings).thaw_poll_seconds)
    finally:
        _looking.release()
    if ready:
        log.info("%d jobs are thawed", ready)
    return f"{ready} jobs are thawed" if ready else "nothing has thawed"


# Acknowledged at once, as it may take long: the sweep rings for what is lost.
@app.task(name="deliver", acks_late=False)
def deliver() -> str:
    """Send the webhooks that are due, one task at a time: it sends several at once, and sees what falls due meanwhile."""
    database = _open()
    if not _delivering.acquire(blocking=False):
        return "another task is at it"
    try:
        tally = delivering.due(database, settings.load(WebhookSettings), stop=_stopping)
    finally:
        _delivering.release()
    if not _stopping.is_set():
        bell.deliver_if_due(app, database)  # those too whose rings came in vain
    return f"{tally.delivered} delivered, {tally.failed} failed"


def _open() -> Database:
    if _database is None:
        raise errors.DatabaseUnreachableError(url="(not opened)", reason="this process does not schedule")
    return _database


class Schedule(bootsteps.StartStopStep):
    """Opens the database, checks the settings, and listens to producers."""

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._submissions: Submissions | None = None
        self._clock: Any = None

    def start(self, worker: Any) -> None:
        """Open what the queues that this process reads call for."""
        global _database, _store
        if {broker.PLAN, broker.DELIVER}.isdisjoint(worker.app.amqp.queues.consume_from):
            return
        try:
            house.check_settings()
        except errors.InputError as error:
            log.critical("%s", error)
            raise SystemExit(WorkerExit.BAD_INPUT) from error
        storage = settings.load(StorageSettings)
        _database = Database(storage.database(), pool_size=storage.database_pool_size)
        _store = open_store(storage.store())
        self._submissions = Submissions(app, _database, _store)
        self._submissions.start()
        for name in CHATTER:
            logging.getLogger(name).setLevel(logging.WARNING)
        # in memory: by default it would keep a file in the current folder, and go on from what that says
        self._clock = beat.EmbeddedService(worker.app, thread=True, scheduler_cls=beat.Scheduler)
        self._clock.start()

    def stop(self, worker: Any) -> None:
        """Stop the clock and stop listening."""
        if self._clock is not None:
            self._clock.service.stop()  # without waiting: it may be busy looking for a broker that is away
        if self._submissions is not None:
            self._submissions.close()


app.steps["worker"].add(Schedule)


@signals.worker_shutting_down.connect(weak=False)
def _stop(**_: Any) -> None:
    _stopping.set()


@signals.worker_shutdown.connect(weak=False)
def _close(**_: Any) -> None:
    if _database is not None:
        _database.close()
