"""Partials that come while a sequence goes on, and device faults."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, takes
from storage.database import now
from storage.models import Partial, Segment
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import health, render, station
from workers.engines.engine import DeviceFaultError, Request
from workers.engines.engine import Partial as CheckpointOf

PATIENCE = 5.0  # seconds


def kept(database):
    with database.read() as connection:
        rows = connection.execute(sa.select(Partial.c.take_key, Partial.c.state))
        return {row.take_key: row.state for row in rows}


def test_a_partial_that_came_in_the_moment_of_its_take_is_swept_away(database):
    """A check and a write of one worker may have the whole record of another between them."""
    new = [takes.NewTake(key, "tones", 8000, 8000, 7, False, {}, None) for key in ("done", "gone")]
    with database.write() as connection:
        takes.record(connection, new)
        takes.lose(connection, ["gone"])
        at = connection.scalar(sa.select(now()))
        times = {"done": at, "gone": at, "new": at, "old": at - 31 * 86_400}
        values = [
            {"take_key": key, "state": b"x", "tokens": 7, "updated_at": moment} for key, moment in times.items()
        ]
        connection.execute(sa.insert(Partial), values)
    sweep.sweep(database)
    assert kept(database) == {"gone": b"x", "new": b"x"}


def keep(database, states):
    with database.write() as connection:
        takes.keep_partials(connection, states)


def test_a_partial_that_is_further_on_is_never_replaced(database):
    keep(database, {"a": (b"long", 70), "b": (b"short", 7)})
    keep(database, {"a": (b"older", 35), "b": (b"newer", 14)})
    assert kept(database) == {"a": b"long", "b": b"newer"}


def test_a_checkpoint_that_comes_after_its_take_is_dropped(database):
    new = takes.NewTake("a", "tones", 8000, 10, 70, False, {})
    keep(database, {"a": (b"half", 35)})
    with database.write() as connection:
        takes.record(connection, [new])
    keep(database, {"a": (b"late", 63)})
    assert kept(database) == {}


class Faulty(tones.Tones):
    """Its device fails for good when it meets a certain text."""

    def render(self, requests, stop):
        for request in requests:
            if "FAULT" in request.text:
                raise DeviceFaultError(reason="device-side assert")
            yield from super().render([request], stop)


class Checkpointing(tones.Tones):
    """Lets a test do something before each take."""

    on_checkpoint = None
    checkpoint_interval = 0.0

    def __init__(self):
        super().__init__()
        self.before = lambda request: None

    def render(self, requests, stop):
        for request in requests:
            self.before(request)
            yield from super().render([request], stop)


class Spec(tones.Spec):
    def load(self):
        return Checkpointing()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock by which a worker's health goes. Nobody ends this process for it."""
    clock = Clock()
    monkeypatch.setattr(station, "Health", functools.partial(health.Health, clock=clock))
    monkeypatch.setattr(station, "Watchdog", lambda *_, **__: None)
    return clock


@pytest.fixture
def opened(database, tmp_path, monkeypatch):
    monkeypatch.setenv("VOICEMILL_DATABASE_URL", database.full_url)
    monkeypatch.setenv("VOICEMILL_STORE_URL", str(tmp_path / "store"))
    monkeypatch.setenv("VOICEMILL_CHECKPOINT_SECONDS", "7.5")
    monkeypatch.setenv("VOICEMILL_SPOT_LOCK", str(tmp_path / "lock"))
    nothing = dict.fromkeys(("ring", "ended"), lambda numbers: None)
    opened = station.open_station(Spec(), **nothing, leave=lambda: None, scratch_root=tmp_path)
    yield opened
    opened.close()


def test_how_often_an_engine_hands_out_checkpoints_is_a_setting(database, opened):
    """And what it hands out is kept while it goes on."""
    engine = opened.mill.engine
    assert engine.checkpoint_interval == 7.5
    engine.on_checkpoint([CheckpointOf("a", b"half", 35)])
    assert kept(database) == {"a": b"half"}


def test_a_batch_that_takes_long_is_healthy_while_something_comes_of_it(database, clock, opened):
    """A kubelet would end the pod of a worker that says otherwise."""
    corpus_maker.accepted(database, ["One text.", "Another one.", "The third.", "The last."])
    said = []

    def take_long(request):
        deadline = time.monotonic() + PATIENCE
        while opened.health.report().seconds_since_progress and time.monotonic() < deadline:
            time.sleep(0.01)  # until what came before has been taken note of
        clock.now += 299
        said.append(opened.health.report().state)

    opened.mill.engine.before = take_long
    (batch_id,) = planner.plan(database, "tones", planner.Plan(workers=1))
    with opened.at_work(f"batch {batch_id}"):
        report = render.run(opened.mill, batch_id, opened.stop)
    assert report.rendered == 4
    assert said == ["working"] * 4
    assert opened.health.report().state == "idle"


def test_a_checkpoint_is_a_sign_of_life(clock, opened):
    """On a slow device no sequence may end for as long as a worker may say nothing."""
    with opened.at_work("batch 1"):
        clock.now += 299
        checkpoint = opened.mill.engine.on_checkpoint
        with ThreadPoolExecutor(1) as engine:
            engine.submit(checkpoint, [CheckpointOf("a", b"half", 35)]).result()
        clock.now += 2
        assert opened.health.report().healthy


def test_a_device_fault_keeps_what_was_done_and_says_that_the_process_must_end(database, tmp_path):
    corpus_maker.accepted(database, ["Good text.", "Another one.", "A FAULT is here.", "The last text."])
    engine = Faulty()
    mill = render.Mill(database, open_store(str(tmp_path)), tones.Spec(), engine, "me")
    faults = 0
    for _ in range(20):
        planner.plan(database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            break
        render.run(mill, batch_id, Event())
        faults += mill.fault.reason is not None
        mill.fault.reason = None  # as in a fresh process
    with database.read() as connection:
        rows = list(connection.execute(sa.select(Segment.c.state, Segment.c.reason).order_by(Segment.c.id)))
    assert [row.state for row in rows] == ["done", "done", "failed", "done"]
    assert rows[2].reason == "crashed"
    assert faults >= 3  # each time the process would have ended, and a fresh one gone on
    assert max(engine.rendered.values()) == 1


def test_a_request_carries_its_partial(database, tmp_path):
    seen: list[Request] = []

    class Noting(tones.Tones):
        def render(self, requests, stop):
            seen.extend(requests := list(requests))
            yield from super().render(requests, stop)

    corpus_maker.accepted(database, ["Some text."])
    engine = Noting()
    mill = render.Mill(database, open_store(str(tmp_path)), tones.Spec(), engine, "me")
    key = render.take_key(engine.identity, "narrator", "Some text.", 0, {"pitch": 440})
    keep(database, {key: (b"half", 7)})
    (batch_id,) = planner.plan(database, "tones", planner.Plan(workers=1))
    render.run(mill, batch_id, Event())
    assert [request.partial for request in seen] == [b"half"]
    assert kept(database) == {}
