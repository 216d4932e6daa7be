"""What an engine answers, and the two ways in which it may break: on one of its items, or with its device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from workers.engines.engine import DeviceFaultError, Engine, Request, Result


class EngineBrokeError(Exception):
    """The engine raised instead of answering: one of the batch's items broke it."""


@dataclass(slots=True)
class Fault:
    """Whether a process may go on using its device, and why not."""

    reason: str | None = None


def results(engine: Engine, fault: Fault, requests: Sequence[Request], stop: Event) -> Iterator[Result]:
    """What `Engine.render` gives. Raises EngineBrokeError; a fault of the device is written down before."""
    answers = engine.render(requests, stop)
    while True:
        try:
            answer = next(answers)
        except StopIteration:
            return
        except (Exception, SystemExit) as error:  # some libraries leave where they should raise
            if isinstance(error, DeviceFaultError):
                fault.reason = str(error)  # first of all: writing anything down may fail, too
            raise EngineBrokeError(f"{type(error).__name__}: {error}") from error
        yield answer
