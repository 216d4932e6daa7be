"""What an engine has answered and the database does not know yet: takes on their way into the store, and the rest."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from storage import segments, takes
from workers.engines.engine import Failure, Partial, Result, Take
from workers.judge import Judgement

FLUSH_TAKES = 128  # takes recorded in one transaction ...
FLUSH_SECONDS = 1.0  # ... or after so long, whichever comes first


@dataclass(frozen=True, slots=True)
class Kept:
    """A take in the store, about to be recorded, and what came of it."""

    take: takes.NewTake
    judgement: Judgement


@dataclass(slots=True)
class Answers:
    """Answers that are recorded together."""

    done: list[segments.Done] = field(default_factory=list)
    taken: int = 0  # takes among them
    storing: list[Future[tuple[list[Kept], Exception | None]]] = field(default_factory=list)
    new: list[takes.NewTake] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    partials: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def sort(self, results: Sequence[Result]) -> list[Take]:
        """Write down what needs no storing: the takes, which do."""
        made = []
        for result in results:
            match result:
                case Take():
                    made.append(result)
                case Failure():
                    self.failures.append(result)
                case Partial() if result.state:
                    self.partials[result.key] = (result.state, result.tokens)
        self.taken += len(made)
        return made

    def stored(self) -> tuple[list[Kept], Exception | None]:
        """Wait until takes are stored, and write them down: those that are, and what went wrong.

        Where one could not be stored, those not begun are left out.
        """
        found: list[Kept] = []
        fault: Exception | None = None
        for storing in self.storing:
            if fault is not None and storing.cancel():
                continue
            kept, error = storing.result()
            fault = fault or error
            found += kept
        for each in found:
            self.new.append(each.take)
            self.take_in(each.judgement)
        self.storing.clear()
        return found, fault

    def take_in(self, judgement: Judgement) -> None:
        """Write down what came of a take."""
        self.done += judgement.done
        self.failures += [judgement.failure] if judgement.failure else []

    def __bool__(self) -> bool:
        return bool(self.done or self.new or self.failures or self.partials)

    def are_due(self) -> bool:
        """Whether it is time to record them."""
        return self.taken + len(self.failures) >= FLUSH_TAKES or time.monotonic() - self.since > FLUSH_SECONDS
