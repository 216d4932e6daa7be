"""Partials that come while a sequence goes on, and device faults."""

from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches, takes
from storage.database import Database
from storage.models import Partial, Segment
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import render, station
from workers.engines.engine import DeviceFaultError, Request
from workers.engines.engine import Partial as CheckpointOf


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    yield database
    database.close()


def kept(database):
    with database.read() as connection:
        rows = connection.execute(sa.select(Partial.take_key, Partial.state))
        return {row.take_key: row.state for row in rows}


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


def test_how_often_an_engine_hands_out_checkpoints_is_a_setting(database, tmp_path, monkeypatch):
    """And what it hands out is kept while it goes on."""

    class Slow(tones.Tones):
        on_checkpoint = None
        checkpoint_interval = 0.0

    class Spec(tones.Spec):
        def load(self):
            return Slow()

    monkeypatch.setenv("VOICEMILL_DATABASE_URL", database.full_url)
    monkeypatch.setenv("VOICEMILL_STORE_URL", str(tmp_path / "store"))
    monkeypatch.setenv("VOICEMILL_CHECKPOINT_SECONDS", "7.5")
    nothing = dict.fromkeys(("ring", "ended"), lambda numbers: None)
    opened = station.open_station(Spec(), **nothing, leave=lambda: None, scratch_root=tmp_path)
    try:
        engine = opened.mill.engine
        assert engine.checkpoint_interval == 7.5
        engine.on_checkpoint([CheckpointOf("a", b"half", 35)])
        assert kept(database) == {"a": b"half"}
    finally:
        opened.close()


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
        report = render.run(mill, batch_id, Event())
        faults += mill.fault.reason is not None
        mill.fault.reason = None  # as in a fresh process
    with database.read() as connection:
        rows = list(connection.execute(sa.select(Segment.state, Segment.reason).order_by(Segment.id)))
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
