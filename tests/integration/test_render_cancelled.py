"""Cancelled while it is rendered: the engine stops when most of its batch is not wanted any more."""

from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import corpora, jobs
from storage.database import Database
from storage.models import Batch, Segment
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import render


@pytest.fixture
def mill(database_url, tmp_path):
    database = Database(database_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


def cancel(mill, name):
    with mill.database.write() as connection:
        jobs.cancel(connection, corpora.find(connection, name).id)


def begun(mill):
    """A batch on its way, which has come to a text that waits for the gate."""
    (batch_id,) = planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
    reports = []
    thread = Thread(target=lambda: reports.append(render.run(mill, batch_id, Event())))
    thread.start()
    assert mill.engine.waiting.wait(30)
    return thread, reports


def states_of(mill):
    with mill.database.read() as connection:
        return list(connection.scalars(sa.select(Segment.c.state).order_by(Segment.c.id)))


def test_the_engine_is_stopped_and_what_is_done_is_kept(mill):
    corpus_maker.accepted(mill.database, ["Before it.", "SLOW one.", "After it.", "And more."])
    thread, reports = begun(mill)
    cancel(mill, "corpus")
    thread.join(30)
    assert not thread.is_alive()
    assert (reports[0].outcome, reports[0].returned) == ("cancelled", 0)
    assert states_of(mill).count("cancelled") == 4 - states_of(mill).count("done")
    assert sum(mill.engine.rendered.values()) == 1


def test_what_is_still_wanted_of_a_stopped_batch_goes_first_in_another(mill):
    corpus_maker.accepted(mill.database, ["SLOW one.", "Two.", "Three.", "Four."], name="large")
    corpus_maker.accepted(mill.database, ["Wanted."], name="small")
    thread, reports = begun(mill)
    cancel(mill, "large")
    thread.join(30)
    assert (reports[0].outcome, reports[0].returned) == ("cancelled", 1)
    with mill.database.read() as connection:
        (row,) = connection.execute(sa.select(Segment).where(Segment.c.state == "pending"))
    assert (row.text, row.rank % 2, row.attempts) == ("Wanted.", 0, 0)


def test_a_batch_of_which_most_is_wanted_goes_on(mill):
    corpus_maker.accepted(mill.database, ["SLOW one.", "Two.", "Three.", "Four."], name="large")
    corpus_maker.accepted(mill.database, ["Unwanted."], name="small")
    thread, reports = begun(mill)
    cancel(mill, "small")
    looked = Event()
    wanted = render.segments.wanted

    def look(*arguments: Any) -> int:
        found = wanted(*arguments)
        looked.set()
        return found

    render.segments.wanted = look
    try:
        assert looked.wait(30)
    finally:
        render.segments.wanted = wanted
    mill.engine.gate.set()
    thread.join(30)
    assert reports[0].outcome == "done"
    assert states_of(mill).count("done") == 4


def test_a_batch_of_which_nothing_is_wanted_is_not_begun(mill):
    corpus_maker.accepted(mill.database, ["One.", "Two."])
    (batch_id,) = planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
    cancel(mill, "corpus")
    report = render.run(mill, batch_id, Event())
    assert report.line() == "0 of 2, cancelled"
    assert mill.engine.calls == 0
    with mill.database.read() as connection:
        assert connection.scalar(sa.select(Batch.c.outcome)) == "cancelled"
