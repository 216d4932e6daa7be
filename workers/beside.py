"""Takes results from a generator that runs in a thread of its own, so that a slow taker does not hold up the maker."""

import queue
from collections.abc import Generator, Iterator
from contextlib import suppress
from threading import Event, Thread
from typing import TypeVar

AHEAD = 64  # results that may wait for the taker

Result = TypeVar("Result")


def taken(results: Iterator[Result], patience: float, stop: Event) -> Generator[Result | None, None, None]:
    """The results as they come, and None whenever none came for `patience` seconds.

    What the generator raises is raised here. Close it where it is left early: that sets `stop`, which must end the
    generator, and waits until it has ended.
    """
    line: queue.Queue[Result | _End] = queue.Queue(AHEAD)

    def make() -> None:
        error: BaseException | None = None
        try:
            for result in results:
                line.put(result)
        except BaseException as raised:
            error = raised
        line.put(_End(error))

    maker = Thread(target=make, name="beside", daemon=True)
    maker.start()
    try:
        while True:
            try:
                item = line.get(timeout=patience)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        if maker.is_alive():
            stop.set()
        while maker.is_alive():
            with suppress(queue.Empty):
                line.get(timeout=0.05)


class _End:
    """The last thing in the line."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
