"""A generator in a thread of its own."""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from threading import Event, current_thread

import pytest

from workers import beside

PATIENCE = 0.01  # seconds


def test_results_come_in_order_from_another_thread() -> None:
    def made() -> Iterator[tuple[int, str]]:
        for number in range(200):  # more than wait in the line
            yield number, current_thread().name

    found = list(beside.taken(made(), 5, Event()))
    assert list(chain(*found)) == [(number, "beside") for number in range(200)]
    assert all(0 < len(some) <= beside.AHEAD for some in found)


def test_an_empty_list_says_that_nothing_came_for_a_while() -> None:
    go_on = Event()

    def made() -> Iterator[str]:
        yield "first"
        go_on.wait()
        yield "second"

    results = beside.taken(made(), PATIENCE, Event())
    assert next(results) == ["first"]
    assert next(results) == []
    go_on.set()
    assert list(chain(*results)) == ["second"]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), MemoryError()])
def test_what_the_generator_raises_is_raised_here_after_its_results(error: BaseException) -> None:
    def made() -> Iterator[int]:
        yield 1
        raise error

    results = beside.taken(made(), 5, Event())
    assert next(results) == [1]
    with pytest.raises(type(error)):
        next(results)


def test_leaving_early_stops_the_generator_and_waits_for_its_end() -> None:
    stop, ended = Event(), Event()

    def made() -> Iterator[int]:
        while not stop.is_set():
            yield 1  # without end, and faster than anybody takes it
        ended.set()

    with closing(beside.taken(made(), 5, stop)) as results:
        assert set(next(results)) == {1}
    assert ended.is_set()
