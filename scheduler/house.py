"""What holds where a producer's message is silent, and whether this scheduler may run at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from scheduler import options
from scheduler.lexicon import Lexicon
from scheduler.settings import SchedulerSettings
from storage import errors, settings
from workers import broker, voices
from workers.engines import registry
from workers.engines.engine import EngineSpec
from workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class House:
    """The scheduler's own settings and files. What is wrong in it is our fault, not a message's."""

    spec: EngineSpec
    scheduler: SchedulerSettings
    voices: Mapping[str, voices.Voice]
    lexicon: Lexicon

    @classmethod
    def load(cls) -> "House":
        """As it is now. Raises an InputError that says which setting or file is wrong."""
        scheduler = settings.load(SchedulerSettings)
        with _setting("engine"):
            spec = registry.spec(scheduler.engine) if scheduler.engine else registry.default()[0]
        table = voices.load(settings.load(WorkerSettings).voices)
        with _setting("voice"):
            options.Resolver(spec, options.CorpusOptions(voice=scheduler.voice), table).resolve({})
        with _setting("format"):
            options.Resolver(spec, options.CorpusOptions(format=scheduler.format), table).resolve({})
        lexicon = Lexicon.load(scheduler.lexicon) if scheduler.lexicon is not None else Lexicon()
        return cls(spec, scheduler, table, lexicon)


@contextmanager
def _setting(name: str) -> Iterator[None]:
    """What is found wrong here is the fault of a setting."""
    try:
        yield
    except errors.InputError as error:
        reason = str(error).removesuffix(".")
        raise settings.SettingsError(name=name, origin=settings.origin(name), reason=reason) from error


def check_settings() -> None:
    """Refuse settings under which batches could outlast the broker's patience, or no message could be accepted.

    Raises an InputError.
    """
    broker.check_times(settings.load(SchedulerSettings).batch_seconds)
    House.load()
