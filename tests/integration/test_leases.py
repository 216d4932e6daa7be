"""Who may write: leases, their numbers, and what the sweep returns."""

import pytest
import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, jobs, segments, states
from storage.database import Database
from storage.models import Batch, Job, Segment
from tests import corpus_maker


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    corpus_maker.accepted(database, ["One sentence here.", "Another sentence there."])
    yield database
    database.close()


def planned(database):
    return planner.plan(database, "tones", planner.Plan(workers=1))[0]


def claim(database, batch_id, owner="me", seconds=60.0):
    with database.write() as connection:
        return batches.claim(connection, batch_id, owner, seconds)


def test_only_one_worker_gets_a_lease(database):
    batch_id = planned(database)
    assert claim(database, batch_id) is not None
    assert claim(database, batch_id, "you") is None


def test_of_equally_urgent_batches_the_one_that_was_rung_for_is_next(database):
    with database.write() as connection:
        made = [batches.create(connection, "tones", priority, []) for priority in (1, 1, 2)]
    with database.read() as connection:
        assert batches.next_ready(connection, "tones") == made[0]
        assert batches.next_ready(connection, "tones", rather=made[1]) == made[1]
        assert batches.next_ready(connection, "tones", rather=made[2]) == made[0]
        assert batches.next_ready(connection, "tones", rather=99) == made[0]


def test_an_expired_lease_can_be_taken_over_and_the_first_owner_cannot_write_any_more(database):
    batch_id = planned(database)
    mine = claim(database, batch_id, seconds=-1)
    theirs = claim(database, batch_id, "you")
    assert theirs.number == mine.number + 1
    with pytest.raises(batches.LeaseLostError), database.write() as connection:
        batches.fence(connection, mine)
    with pytest.raises(batches.LeaseLostError), database.write() as connection:
        batches.renew(connection, mine, 60)
    with database.write() as connection:
        batches.fence(connection, theirs)
        batches.renew(connection, theirs, 60)


def test_the_sweep_returns_what_an_expired_lease_held_without_counting_it_as_an_error(database):
    batch_id = planned(database)
    claim(database, batch_id, seconds=-1)
    swept = sweep.sweep(database)
    assert (swept.batches, swept.segments) == (1, 2)
    with database.read() as connection:
        rows = list(connection.execute(sa.select(Segment)))
        batch = connection.execute(sa.select(Batch)).one()
    assert all(
        (row.state, row.attempts, row.interruptions, row.batch_id) == ("pending", 0, 1, None) for row in rows
    )
    assert (batch.state, batch.outcome) == ("finished", "lost")


def test_the_sweep_leaves_a_live_lease_alone(database):
    claim(database, planned(database))
    assert sweep.sweep(database) == sweep.Swept()


def test_a_finished_segment_is_counted_once(database):
    batch_id = planned(database)
    lease = claim(database, batch_id)
    with database.write() as connection:
        works = segments.of_batch(connection, lease.batch_id)
        done = [segments.Done(work.id, "0" * 64) for work in works]
        assert sum(segments.finish(connection, batch_id, done).values()) == 2
        assert segments.finish(connection, batch_id, done) == {}


def test_errors_are_bounded_and_the_job_says_why(database):
    with database.read() as connection:
        first = connection.scalar(sa.select(Segment.c.id).order_by(Segment.c.id).limit(1))
    for _ in range(3):
        batch_id = planned(database)
        claim(database, batch_id)
        with database.write() as connection:
            job_id = segments.fail(
                connection, batch_id, first, reason="loop", detail="again and again", attempts_allowed=3
            )
            if job_id is not None:
                assert jobs.count(connection, {}, {job_id: 1}) == [job_id]
            batches.close(connection, batch_id, states.Outcome.DONE)
    assert job_id is not None
    with database.read() as connection:
        job = connection.execute(sa.select(Job).where(Job.c.id == job_id)).one()
    assert (job.state, job.reason, job.segments_failed) == ("failed", "loop", 1)


def test_a_broken_batch_is_halved(database):
    batch_id = planned(database)
    lease = claim(database, batch_id)
    with database.write() as connection:
        batches.fence(connection, lease)
        halves = batches.split(connection, lease)
    with database.read() as connection:
        sizes = [len(segments.of_batch(connection, half)) for half in halves]
    assert sizes == [1, 1]
    assert claim(database, batch_id) is None
