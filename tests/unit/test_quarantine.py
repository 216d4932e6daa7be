"""Suspect batches have the process to themselves; all others share it."""

from contextlib import ExitStack
from threading import Event, Thread

import pytest

from workers.quarantine import Quarantine

SECONDS = 10.0  # for what must happen


class Visitor:
    """A batch in a thread of its own: inside until it is told to leave."""

    def __init__(self, quarantine: Quarantine, alone: bool) -> None:
        self.stop, self.inside, self.leave, self.refused = Event(), Event(), Event(), Event()
        self._quarantine, self._alone = quarantine, alone
        self._thread = Thread(target=self._visit)
        self._thread.start()

    def _visit(self) -> None:
        with self._quarantine.turn(self._alone, self.stop) as entered:
            (self.inside if entered else self.refused).set()
            assert not entered or self.leave.wait(SECONDS)

    def end(self) -> None:
        self.stop.set()
        self.leave.set()
        self._thread.join(SECONDS)


@pytest.fixture
def visit():
    quarantine = Quarantine()
    with ExitStack() as stack:

        def make(*, alone: bool) -> Visitor:
            visitor = Visitor(quarantine, alone)
            stack.callback(visitor.end)
            return visitor

        yield make


def test_ordinary_batches_share(visit):
    assert all(visit(alone=False).inside.wait(SECONDS) for _ in range(3))


def test_a_suspect_waits_for_the_others_and_the_others_for_it(visit):
    first = visit(alone=False)
    assert first.inside.wait(SECONDS)
    suspect = visit(alone=True)
    assert not suspect.inside.wait(0.3)
    late = visit(alone=False)
    assert not late.inside.wait(0.3)  # or the suspect's turn might never come
    first.end()
    assert suspect.inside.wait(SECONDS)
    assert not late.inside.wait(0.3)
    suspect.end()
    assert late.inside.wait(SECONDS)


def test_two_suspects_take_turns(visit):
    first, second = visit(alone=True), visit(alone=True)
    inside = first if first.inside.wait(1) else second
    other = second if inside is first else first
    assert inside.inside.wait(SECONDS)
    assert not other.inside.wait(0.3)
    inside.end()
    assert other.inside.wait(SECONDS)


def test_who_is_told_to_stop_does_not_begin_and_holds_up_nobody(visit):
    first = visit(alone=False)
    assert first.inside.wait(SECONDS)
    suspect = visit(alone=True)
    suspect.stop.set()
    assert suspect.refused.wait(SECONDS)
    assert visit(alone=False).inside.wait(SECONDS)
