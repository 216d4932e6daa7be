"""Which engine a command means."""

from cli import show
from scheduler.settings import SchedulerSettings
from storage import settings
from workers.engines import registry
from workers.engines.engine import EngineSpec


def choose(name: str | None) -> EngineSpec:
    """The engine named, or set, or the best that can run here; says which and why. Raises an InputError."""
    name = name or settings.load(SchedulerSettings).engine
    if name is not None:
        return registry.spec(name)
    spec, why = registry.default()
    show.note(f"Engine: {spec.name} ({why}).")
    return spec
