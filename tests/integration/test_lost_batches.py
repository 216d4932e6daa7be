"""A batch that is lost again and again is halved until the item that takes its worker with it is alone."""

import pytest
import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, segments, states
from storage.database import Database
from storage.models import Corpus, Job, Segment
from tests import corpus_maker

WORDS = ["One thing.", "DIE here.", "Another thing.", "A third thing.", "The last thing."]


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    corpus_maker.accepted(database, WORDS)
    yield database
    database.close()


def lose_or_finish(database: Database) -> list[int]:
    """A worker takes each batch that waits: it vanishes with those that hold the bad item. The sizes of those."""
    planner.plan(database, "tones", planner.Plan(workers=1, linger_seconds=0))
    sizes = []
    while True:
        with database.write() as connection:
            batch_id = batches.next_ready(connection, "tones")
            if batch_id is None:
                return sizes
            works = segments.of_batch(connection, batch_id)
            bad = any("DIE" in work.text for work in works)
            lease = batches.claim(connection, batch_id, "me", -1 if bad else 60)
            if bad:
                sizes.append(len(works))
            else:
                segments.finish(
                    connection, lease.batch_id, [segments.Done(work.id, "0" * 64) for work in works]
                )
                batches.close(connection, lease.batch_id, states.Outcome.DONE)


def test_the_item_fails_alone_and_the_others_go_on(database):
    seen = []
    for _ in range(8):
        seen += lose_or_finish(database)
        sweep.sweep(database, losses_allowed=6)
    assert seen == [5, 5, 5, 3, 2, 1]
    with database.read() as connection:
        rows = list(connection.execute(sa.select(Segment.c.text, Segment.c.state, Segment.c.attempts)))
        job = connection.execute(sa.select(Job).where(Job.c.state == states.Job.FAILED)).one()
    assert {row.text for row in rows if row.state == "done"} == {text for text in WORDS if "DIE" not in text}
    assert (job.reason, job.detail) == ("crashed", "its worker vanished 6 times while it was rendered")


def test_alone_it_is_tried_again_with_the_same_seed_until_its_losses_are_used_up(database):
    seen = []
    for _ in range(12):
        seen += lose_or_finish(database)
        sweep.sweep(database, losses_allowed=10)
    assert seen == [5, 5, 5, 3, 2, 1, 1, 1, 1, 1]
    with database.read() as connection:
        attempts = connection.scalar(sa.select(Segment.c.attempts).where(Segment.c.text == "DIE here."))
        assert connection.scalar(sa.select(Corpus.c.state)) == "running"  # the others wait for assembly
    assert attempts == 1


def test_it_is_found_however_deep_the_backlog_is(database):
    """Each time a few others are done before the worker dies, and as many fresh ones take their places."""
    corpus_maker.accepted(database, [f"Backlog number {number}." for number in range(120)], name="backlog")
    deaths = 0
    while True:
        planner.plan(database, "tones", planner.Plan(workers=1, linger_seconds=0, batch_segments=8))
        with database.write() as connection:
            batch_id = batches.next_ready(connection, "tones")
            if batch_id is None:
                break
            works = segments.of_batch(connection, batch_id)
            bad = any("DIE" in work.text for work in works)
            deaths += bad
            lease = batches.claim(connection, batch_id, "me", -1 if bad else 60)
            good = [segments.Done(work.id, "0" * 64) for work in works if "DIE" not in work.text]
            segments.finish(connection, lease.batch_id, good[: len(good) // 2] if bad else good)
            if not bad:
                batches.close(connection, lease.batch_id, states.Outcome.DONE)
        sweep.sweep(database, losses_allowed=8)
        assert deaths <= 8
    with database.read() as connection:
        rows = list(connection.execute(sa.select(Segment.c.text, Segment.c.state)))
    assert [row.text for row in rows if row.state != "done"] == ["DIE here."]
