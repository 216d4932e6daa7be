"""Takes results from a generator that runs in a thread of its own, so that a slow taker does not hold up the maker."""

from collections.abc import Generator, Iterator
from threading import Condition, Event, Thread
from typing import Generic, TypeVar

AHEAD = 64  # results that may wait for the taker

Result = TypeVar("Result")


def taken(results: Iterator[Result], patience: float, stop: Event) -> Generator[list[Result], None, None]:
    """All results that have come since the last look, in order; an empty list whenever none came for `patience` seconds.

    What the generator raises is raised here. Close it where it is left early: that sets `stop`, which must end the
    generator, and waits until it has ended.
    """
    line: _Line[Result] = _Line()

    def make() -> None:
        error: BaseException | None = None
        try:
            for result in results:
                line.put(result)
        except BaseException as raised:
            error = raised
        line.end(error)

    maker = Thread(target=make, name="beside", daemon=True)
    maker.start()
    try:
        while (found := line.take(patience)) is not None:
            yield found
    finally:
        if maker.is_alive():
            stop.set()
        line.leave()
        maker.join()


class _Line(Generic[Result]):
    """Results on their way from one thread to another. Both wake each other once a handful, not once a result."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: list[Result] = []
        self._error: BaseException | None = None
        self._ended = self._left = False

    def put(self, result: Result) -> None:
        """Add a result, as soon as there is room."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < AHEAD or self._left)
            if not self._left:
                self._waiting.append(result)
                self._changed.notify()

    def end(self, error: BaseException | None) -> None:
        """There will be no more of them, maybe because of an error."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def take(self, patience: float) -> list[Result] | None:
        """All that wait, None after the last. Raises the error that they ended with."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, patience)
            found, self._waiting = self._waiting, []
            self._changed.notify()
            if found or not self._ended:
                return found
            if self._error is not None:
                raise self._error
            return None

    def leave(self) -> None:
        """Nobody takes any more: whatever is put is lost, and nothing waits for room."""
        with self._changed:
            self._left = True
            self._changed.notify()
