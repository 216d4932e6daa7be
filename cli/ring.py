"""Rings the scheduler's bell from the command line, where there is a broker."""

import importlib.util
import sys

from cli import show
from storage import errors, settings
from workers.settings import QueueSettings

LIBRARIES = ("celery", "kombu", "redis", "amqp")


class QueueMissingError(errors.InputError):
    """A broker needs {missing}, not installed here: pip install 'voicemill[queue]'."""


def check() -> None:
    """Find fault with the broker's settings while nothing is done yet. Raises SettingsError, QueueMissingError."""
    if settings.load(QueueSettings).broker_url is not None:
        need()


def need() -> None:
    """As `check`, where nothing goes without a broker. Raises NoBrokerError, too."""
    missing = [name for name in LIBRARIES if name not in sys.modules and importlib.util.find_spec(name) is None]
    if missing:
        raise QueueMissingError(missing=", ".join(missing))
    from workers import broker

    broker.url()


def plan(pool: str) -> None:
    """Ask for planning at once; without it the scheduler looks by itself within a second."""
    if settings.load(QueueSettings).broker_url is None:
        show.note(
            "No broker is set here (VOICEMILL_BROKER_URL), so the scheduler was not rung for; it looks by itself."
        )
        return
    from workers import bell
    from workers.app import app

    if not bell.plan(app, pool):
        show.note("The broker cannot be reached; the corpus is accepted, and work begins when it is back.")
