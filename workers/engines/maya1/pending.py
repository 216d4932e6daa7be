"""Sequences that wait for a slot, the longest first: so the last ones to be decoded are short ones."""

import heapq
import itertools
from collections.abc import Callable

from workers.engines.maya1.sequence import Sequence


class Pending:
    """A heap by the tokens still to be expected, equals in the order of their coming."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Sequence]] = []
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, one: Sequence) -> None:
        """Adds a sequence."""
        heapq.heappush(self._heap, (-one.remaining, next(self._count), one))

    def pop(self, most: int) -> list[Sequence]:
        """Takes out the longest."""
        return [heapq.heappop(self._heap)[-1] for _ in range(min(most, len(self._heap)))]

    def remove(self, unwanted: Callable[[Sequence], bool]) -> list[Sequence]:
        """Takes out those that are unwanted."""
        removed = [entry[-1] for entry in self._heap if unwanted(entry[-1])]
        self._heap = [entry for entry in self._heap if not unwanted(entry[-1])]
        heapq.heapify(self._heap)
        return removed
