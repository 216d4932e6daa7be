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


def test_it_fires_once_when_nothing_came():
    fired, calls = threading.Event(), []
    timer = idle.IdleTimer(0.01, lambda: (calls.append(1), fired.set()))
    assert fired.wait(PATIENCE)
    timer._thread.join()
    with timer.busy():
        pass
    timer.close()
    assert calls == [1]


def test_it_does_not_fire_while_there_is_work():
    fired = threading.Event()
    timer = idle.IdleTimer(0.1, fired.set)
    with timer.busy():
        with timer.busy():
            assert not fired.wait(0.2)
        assert not fired.wait(0.2)
    assert fired.wait(PATIENCE)
    timer.close()


def test_closed_it_never_fires():
    fired = threading.Event()
    timer = idle.IdleTimer(0.2, fired.set)
    timer.close()
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


def test_a_worker_leaves_when_none_of_its_processes_has_work():
    """One that waits for its turn does not go while another is at work."""
    mark, fired = idle.Mark.new(), threading.Event()
    assert mark.seconds() < 0  # nobody has begun
    watch = idle.Watch(mark, 0.2, fired.set)
    assert not fired.wait(0.4)
    marker, other = idle.Marker(mark, 0.05), idle.Marker(idle.Mark(mark.file), 0.05)
    with marker.busy():
        with other.busy():
            pass
        assert not fired.wait(0.6)
    assert fired.wait(PATIENCE)
    assert mark.seconds() >= 0.2
    for each in (marker, other, watch, mark):
        each.close()


def test_closed_a_watch_never_fires():
    mark, fired = idle.Mark.new(), threading.Event()
    mark.touch()
    watch = idle.Watch(mark, 0.3, fired.set)
    watch.close()
    mark.close()
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
