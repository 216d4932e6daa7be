"""Durations, and the worker that leaves when there is nothing to do."""

import threading

import click.testing
import pydantic
import pytest

from cli import main
from workers import idle

PATIENCE = 30.0  # seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1h1m1s", 3661), ("0.5h", 1800), (" 5M ", 300)],
)
def test_durations(text, seconds):
    assert idle.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10 m", "5m2h", "-5m", "1d", "٣m", "1.m", "ten minutes", "10mm"]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="like 90s, 10m or 2h"):
        idle.seconds(text)


@pytest.mark.parametrize("text", ["0s", "0h0m"])
def test_no_time_at_all(text):
    with pytest.raises(ValueError, match="no time at all"):
        idle.seconds(text)


def test_durations_in_settings():
    adapter = pydantic.TypeAdapter(idle.Duration)
    assert adapter.validate_python("10m") == 600
    assert adapter.validate_python(90) == 90
    with pytest.raises(pydantic.ValidationError, match="no duration"):
        adapter.validate_python("soon")
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(-1)


class Clock:
    """A clock that stands still but for what a test adds, and tells how often somebody has looked at it."""

    def __init__(self):
        self.now = 1000.0
        self._looks = threading.Semaphore(0)

    def __call__(self):
        self._looks.release()
        return self.now

    def forget(self):
        while self._looks.acquire(blocking=False):
            pass

    def wait(self, count=1):
        """Until so many looks have come."""
        for _ in range(count):
            assert self._looks.acquire(timeout=PATIENCE)


@pytest.fixture
def clock():
    return Clock()


def look(timer, clock):
    """Have a timer look at its clock, and again: then the first look has led to nothing."""
    for _ in range(2):
        with timer._change:
            clock.forget()
            timer._change.notify()
        clock.wait()


def test_it_fires_once_when_nothing_came():
    fired, calls = threading.Event(), []
    timer = idle.IdleTimer(0.01, lambda: (calls.append(1), fired.set()))
    assert fired.wait(PATIENCE)
    timer._thread.join()
    with timer.busy():
        pass
    timer.close()
    assert calls == [1]


def test_it_does_not_fire_while_there_is_work(clock):
    fired = threading.Event()
    timer = idle.IdleTimer(100, fired.set, clock=clock)
    with timer.busy():
        with timer.busy():
            clock.now += 1000
            look(timer, clock)
        clock.now += 1000
        look(timer, clock)
    clock.now += 99
    look(timer, clock)
    assert not fired.is_set()
    clock.now += 1
    with timer._change:
        timer._change.notify()
    assert fired.wait(PATIENCE)
    timer.close()


def test_closed_it_never_fires(clock):
    fired = threading.Event()
    timer = idle.IdleTimer(100, fired.set, clock=clock)
    timer.close()
    clock.now += 1000
    timer._thread.join(PATIENCE)
    assert not timer._thread.is_alive()
    assert not fired.is_set()
    timer.close()


def test_without_a_limit_it_needs_no_thread():
    timer = idle.IdleTimer(None, lambda: pytest.fail("never"))
    with timer.busy():
        pass
    assert not timer._thread.is_alive()
    timer.close()


def test_a_worker_leaves_when_none_of_its_processes_has_work(clock):
    """One that waits for its turn does not go while another is at work."""
    mark, fired = idle.Mark.new(clock=clock), threading.Event()
    assert mark.seconds() < 0  # nobody has begun
    watch = idle.Watch(mark, 0.01, fired.set)  # it looks as often as that, and none of this time passes
    clock.wait(3)
    mark.touch()
    clock.forget()
    clock.wait(3)
    assert not fired.is_set()
    clock.now += 1
    assert fired.wait(PATIENCE)
    for each in (watch, mark):
        each.close()


def test_a_process_with_work_keeps_the_mark_fresh_and_one_without_leaves_it_alone(clock):
    mark = idle.Mark.new(clock=clock)
    at_work = idle.Marker(mark, 0.01)
    without = idle.Marker(idle.Mark(mark.file, clock=clock), 0.01)
    with at_work.busy():
        with without.busy():
            pass
        clock.now += 100
        clock.forget()
        clock.wait(2)  # the first touch is done when it looks for the second
        assert mark.seconds() == 0
    clock.now += 100
    for each in (at_work, without):
        each.close()
        each._thread.join()
    assert mark.seconds() == 100
    mark.close()


def test_closed_a_watch_never_fires(clock):
    mark, fired = idle.Mark.new(clock=clock), threading.Event()
    mark.touch()
    watch = idle.Watch(mark, 0.01, fired.set)
    watch.close()
    clock.now += 1000
    mark.close()
    assert not watch._thread.is_alive()
    assert not fired.is_set()


def test_a_process_that_nobody_keeps_has_no_mark(monkeypatch):
    monkeypatch.delenv(idle.MARK, raising=False)
    assert idle.Mark.of_keeper() is None
    monkeypatch.setenv(idle.MARK, "7")
    assert idle.Mark.of_keeper().file == 7


def test_a_time_that_is_none_is_said_in_one_line():
    told = click.testing.CliRunner().invoke(main.cli, ["worker", "--max-idle", "soon"])
    assert told.exit_code == 2
    assert "'soon' is no duration: write it like 90s, 10m or 2h" in told.output
