"""What a worker that was told to stop still does for takes that are made already."""

from threading import Event, Thread

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import errors, states
from storage.models import Segment
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import render


class Away:
    """A store that cannot be reached until it is let come back."""

    def __init__(self, store):
        self._store = store
        self.is_back, self.refused = Event(), Event()

    def together(self):
        return self

    at_once = 8

    def put(self, key, data, *, content_type):
        if not self.is_back.is_set():
            self.refused.set()
            raise errors.StoreUnreachableError(url=self._store.url, reason="503 SlowDown")
        return self._store.put(key, data, content_type=content_type)

    def flush(self):
        pass

    def close(self):
        pass


@pytest.fixture
def database(sqlite):
    return sqlite


class Running(Thread):
    """A batch of three texts that a worker renders into a store that is away, and then is told to stop."""

    def __init__(self, database, folder, drain_seconds):
        super().__init__()
        corpus_maker.accepted(database, ["One text.", "Another one.", "The third."])
        self.store, self.engine, self.stop = Away(open_store(str(folder))), tones.Tones(), Event()
        self.mill = render.Mill(
            database, self.store, tones.Spec(), self.engine, "me", drain_seconds=drain_seconds
        )
        (self.batch_id,) = planner.plan(database, "tones", planner.Plan(workers=1))
        self.report, self.error = None, None

    def run(self):
        try:
            self.report = render.run(self.mill, self.batch_id, self.stop)
        except errors.StoreUnreachableError as error:
            self.error = error

    def stop_while_the_store_is_away(self):
        self.start()
        assert self.store.refused.wait(30)
        self.store.refused.clear()
        self.stop.set()


def test_takes_wait_for_a_store_that_is_away_for_a_moment(database, tmp_path):
    """A notice costs nothing, even where it comes while S3 says 503."""
    running = Running(database, tmp_path, drain_seconds=30)
    running.stop_while_the_store_is_away()
    assert running.store.refused.wait(30)  # it has tried again
    running.store.is_back.set()
    running.join(30)
    assert (running.report.outcome, running.report.rendered) == (states.Outcome.DONE, 3)
    with database.read() as connection:
        assert set(connection.scalars(sa.select(Segment.c.state))) == {"done"}


def test_a_store_that_stays_away_does_not_hold_a_drain_up(database, tmp_path):
    """What is left is given back while there is time for that."""
    running = Running(database, tmp_path, drain_seconds=0.5)
    running.stop_while_the_store_is_away()
    running.join(30)
    assert running.error is not None
    with database.read() as connection:
        rows = list(connection.execute(sa.select(Segment.c.state, Segment.c.attempts)))
    assert {tuple(row) for row in rows} == {("pending", 0)}
