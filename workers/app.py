"""The Celery app. `celery -A workers` finds it; `scheduler.tick` adds the scheduler's tasks to it."""

import logging
import warnings
from typing import Any

from celery import Celery, Task, bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.request import Request

from storage import errors, settings
from workers import broker
from workers.exit_codes import WorkerExit
from workers.settings import BatchSettings

log = logging.getLogger(__name__)

# At each loss of its connection Celery explains a setting that is set (workers/broker.py).
warnings.simplefilter("ignore", CPendingDeprecationWarning)


class Forgiving(Request):
    """A message in hand. The broker may restart meanwhile; then it cannot be acknowledged, and need not be.

    kombu's Redis transport raises AttributeError for a connection that is closed, and Celery would end the worker.
    """

    def __init__(
        self, *args: Any, connection_errors: tuple[type[BaseException], ...] = (), **given: Any
    ) -> None:
        super().__init__(*args, connection_errors=(*connection_errors, AttributeError), **given)


class Quiet(Task):
    """A task that never lets the worse kinds of exception reach Celery, which would neither acknowledge nor go on."""

    abstract = True
    Request = Forgiving
    throws = (errors.VoicemillError,)  # a line in the log, no trace: a database that is away, say

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run it; SystemExit and MemoryError become failures like any other."""
        try:
            return super().__call__(*args, **kwargs)
        except (MemoryError, SystemExit) as error:
            raise TaskBrokeError(f"{type(error).__name__}: {error}") from error


class TaskBrokeError(Exception):
    """What a task raised that Celery cannot handle."""


class CheckTimes(bootsteps.Step):
    """Ends a worker whose batches could outlast the broker's patience, however it was started, before it does anything."""

    def create(self, parent: Any) -> None:
        """Check. The worker makes all of its steps before it starts the first."""
        try:
            broker.check_times(settings.load(BatchSettings).batch_seconds)
        except errors.InputError as error:
            log.critical("%s", error)
            raise SystemExit(WorkerExit.BAD_INPUT) from error


def make() -> Celery:
    """A Celery app with Voicemill's settings. Raises an InputError where a setting is missing or wrong."""
    made = Celery("voicemill", task_cls=Quiet)
    made.conf.update(broker.celery_settings())
    made.steps["worker"].add(CheckTimes)
    return made


app = make()
