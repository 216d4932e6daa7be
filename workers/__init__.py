"""Work becomes sound. `celery -A workers` finds the Celery app as `workers.celery`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The Celery app with its tasks, imported only where somebody asks for it: the base install has no Celery."""
    if name == "celery":
        from workers import app, tasks  # noqa: F401 - registers the tasks

        return app.app
    raise AttributeError(f"module 'workers' has no attribute {name!r}")
