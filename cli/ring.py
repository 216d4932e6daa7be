"""Rings the scheduler's bell from the command line, where there is a broker."""

from cli import show
from storage import settings
from workers.settings import QueueSettings


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
