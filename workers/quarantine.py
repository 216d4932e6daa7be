"""A batch that may take its worker with it is rendered alone: whatever happens then is that batch's doing.

A process renders two batches at once. Were a suspect beside an innocent one, the loss of the process would count against
both, as often as the one meets the other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Event

LOOK_SECONDS = 0.1  # how often who waits looks whether it is told to stop


class Quarantine:
    """Lets in any number of batches at once, or one that is to be alone. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside = 0
        self._alone = False  # whether the one inside is to have no company
        self._waiting_alone = 0  # nobody else is let in meanwhile, or their turn might never come

    @contextmanager
    def turn(self, alone: bool, stop: Event, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Wait for a batch's turn, before its lease is claimed. False: `stop` was set first, and it must not begin."""
        entered = self._enter(alone, stop, waiting)
        try:
            yield entered
        finally:
            if entered:
                self._leave(alone)

    def _enter(self, alone: bool, stop: Event, waiting: Callable[[], None]) -> bool:
        with self._changed:
            self._waiting_alone += alone
            try:
                while not self._may_enter(alone):
                    if stop.is_set():
                        return False
                    waiting()
                    self._changed.wait(LOOK_SECONDS)
            finally:
                self._waiting_alone -= alone
            self._inside += 1
            self._alone = alone
            return True

    def _may_enter(self, alone: bool) -> bool:
        if alone:
            return self._inside == 0
        return not self._alone and self._waiting_alone == 0

    def _leave(self, alone: bool) -> None:
        with self._changed:
            self._inside -= 1
            self._alone = self._alone and not alone
            self._changed.notify_all()
