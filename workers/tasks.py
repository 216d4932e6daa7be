"""The workers' Celery tasks: thin. Each looks for work, does it as the embedded loop would, and tells of it."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

from celery import bootsteps, signals
from celery.exceptions import Reject

from storage import batches, errors
from workers import assemble as assembling
from workers import bell, broker
from workers import render as rendering
from workers.app import app
from workers.engines import registry
from workers.engines.engine import DeviceFaultError
from workers.exit_codes import WorkerExit
from workers.station import Station, open_station

log = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0  # after a batch that could not be finished
ASSEMBLE_AT_ONCE = 16  # short jobs that one task takes up together

_station: Station | None = None
_opening = False


@app.task(name="render")
def render(batch_id: int, pool: str) -> str:
    """Render the most urgent batch that waits in the pool; the message says that there is one."""
    station = _open()
    mill = station.mill
    if mill is None or mill.spec.pool != pool:
        raise Reject(f"this worker does not render for the pool {pool}", requeue=False)
    with station.database.read() as connection:
        urgent = batches.next_ready(connection, pool, rather=batch_id)
    chosen = batch_id if urgent is None else urgent
    try:
        with station.at_work(f"batch {chosen}"):
            report = rendering.run(mill, chosen, station.stop)
    except errors.VoicemillError:
        _end_if_broken(mill)
        station.stop.wait(PAUSE_SECONDS)  # a full store, say, would fail the next batch as well
        raise
    for half in report.halves if report is not None else []:
        bell.render(app, half, pool, "half of a batch that broke the engine")
    _end_if_broken(mill)
    bell.plan(app, pool)
    bell.deliver_if_due(app, station.database)
    if report is None:
        return "nothing to do: another worker has it, or it is finished"
    return f"batch {report.batch_id}: {report.line()}"


def _end_if_broken(mill: rendering.Mill) -> None:
    """End this process after a fault of its device: no acknowledgement, no clean-up, nothing here can be trusted now."""
    if mill.fault.reason is not None:
        log.critical("%s This process ends; its supervisor starts a fresh one.", mill.fault.reason)
        os._exit(WorkerExit.DEVICE_FAULT)


# Acknowledged at once: a book may take longer than any broker waits, and the sweep rings for what is lost.
@app.task(name="assemble", acks_late=False)
def assemble() -> str:
    """Assemble jobs that are rendered, as long as there are any; what has ended is told of meanwhile."""
    station = _open()
    done = 0
    with station.at_work("assembly"):
        while not station.stop.is_set():
            found = assembling.run(station.bench, limit=ASSEMBLE_AT_ONCE, stop=station.stop)
            station.health.progress()
            done += found
            if not found:
                break
            bell.deliver_if_due(app, station.database)
    return f"{done} jobs assembled" if done else "nothing to do"


def _open() -> Station:
    """This process' station. Before it stops, a message goes back to the broker instead of being begun."""
    if _station is None or _station.stop.is_set():
        raise Reject("this worker is stopping", requeue=True)
    return _station


def _leave() -> None:
    """Leave as on SIGTERM: a notice has come, or there was no work for too long."""
    os.kill(os.getpid(), signal.SIGTERM)


def _ring_for_assembly(job_ids: Sequence[int]) -> None:
    bell.assemble(app, len(job_ids))


class OpenStation(bootsteps.StartStopStep):
    """Loads the engine before the worker takes any message; a failure here ends the worker."""

    def start(self, worker: Any) -> None:
        """Open what the queues that this worker reads call for."""
        global _station, _opening
        reads = set(worker.app.amqp.queues.consume_from)
        spec = next(
            (spec for spec in registry.specs().values() if broker.render_queue(spec.pool) in reads), None
        )
        if spec is None and broker.ASSEMBLE not in reads:
            return
        _opening = True
        try:
            _station = open_station(spec, ring=_ring_for_assembly, ended=lambda corpora: None, leave=_leave)
        except errors.InputError as error:  # settings, weights: a new process would fail in the same way
            log.critical("%s", error)
            raise SystemExit(WorkerExit.MODEL_FAILED) from error
        except DeviceFaultError as error:  # a new one may find it well
            log.critical("%s", error)
            raise SystemExit(WorkerExit.DEVICE_FAULT) from error
        log.info("ready: %s", ", ".join(sorted(reads)) if spec is None else f"engine {spec.name}")


app.steps["worker"].add(OpenStation)


@signals.worker_shutting_down.connect(weak=False)
def _drain(**_: Any) -> None:
    if _station is not None:
        _station.drain(_station.drain_seconds)
    elif _opening:  # there is nothing in hand yet
        os._exit(WorkerExit.DRAINED)


@signals.worker_shutdown.connect(weak=False)
def _close(**_: Any) -> None:
    if _station is not None:
        _station.close()
