"""Which segments go first: priority, then interrupted ones, then fair shares."""

import sqlalchemy as sa

from scheduler import planner
from storage import batches, segments, states
from storage.models import Batch, Corpus, Job, Segment
from tests import corpus_maker

TEXT = "This sentence has about forty characters."


def plan_all(database, how):
    """Corpus names of the segments, in the order in which batches take them."""
    order = []
    while True:
        batch_id = database.run(lambda connection: planner.plan_one(connection, "tones", how))
        if batch_id is None:
            return order
        with database.write() as connection:
            names = (
                sa.select(Corpus.c.name)
                .join(Job, Job.c.corpus_id == Corpus.c.id)
                .join(Segment, Segment.c.job_id == Job.c.id)
                .where(Segment.c.batch_id == batch_id)
                .order_by(Segment.c.rank, Segment.c.start_tag, Segment.c.id)
            )
            order.append(list(connection.scalars(names)))
            connection.execute(sa.update(Segment).where(Segment.c.batch_id == batch_id).values(state="done"))
            connection.execute(sa.update(Batch).where(Batch.c.id == batch_id).values(state="finished"))


HOW = planner.Plan(workers=1, batch_segments=10, batches_ahead=2, linger_seconds=0)


def test_priority_goes_first(database):
    corpus_maker.accepted(database, [TEXT] * 20, name="common")
    corpus_maker.accepted(database, [TEXT] * 15, name="urgent", priority="high")
    corpus_maker.accepted(database, [TEXT] * 5, name="idle", priority="low")
    order = [name for batch in plan_all(database, HOW) for name in batch]
    assert order == ["urgent"] * 15 + ["common"] * 20 + ["idle"] * 5


def test_equal_priority_shares_fairly_whoever_came_first_and_however_large(database):
    corpus_maker.accepted(database, [TEXT] * 100, name="large")
    database.run(lambda connection: planner.plan_one(connection, "tones", HOW))
    corpus_maker.accepted(database, [TEXT] * 20, name="late")
    order = plan_all(database, planner.Plan(workers=1, batch_segments=10, batches_ahead=9, linger_seconds=0))
    shares = [batch.count("late") for batch in order[:4]]
    assert all(4 <= share <= 6 for share in shares), order


def test_interrupted_segments_go_first_within_their_priority(database):
    corpus_maker.accepted(database, [TEXT] * 30, name="common")
    batch_id = database.run(lambda connection: planner.plan_one(connection, "tones", HOW))
    with database.write() as connection:
        lease = batches.claim(connection, batch_id, "me", 60)
        first = [work.id for work in segments.of_batch(connection, lease.batch_id)]
        batches.close(connection, lease.batch_id, states.Outcome.INTERRUPTED)
    corpus_maker.accepted(database, [TEXT] * 10, name="urgent", priority="high")
    with database.write() as connection:
        waiting = segments.pending(connection, "tones", 40)
    ids = [item.id for item in waiting]
    assert set(ids[10:20]) == set(first)
    assert all(item.rank == segments.rank(states.Priority.HIGH, interrupted=False) for item in waiting[:10])


def test_a_batch_fits_its_token_budget(database):
    corpus_maker.accepted(database, [TEXT] * 500, name="common")
    how = planner.Plan(workers=1, batch_segments=1000, linger_seconds=0)
    database.run(lambda connection: planner.plan_one(connection, "tones", how))
    with database.read() as connection:
        batch = connection.execute(sa.select(Batch)).one()
    assert planner.FIRST_BATCH_TOKENS * 0.9 < batch.tokens_estimate <= planner.FIRST_BATCH_TOKENS


def test_small_work_waits_for_nothing_and_is_spread_over_idle_workers(database):
    corpus_maker.accepted(database, [TEXT] * 64, name="common")
    planned = planner.plan(database, "tones", planner.Plan(workers=4, linger_seconds=60))
    assert len(planned) == 4
    with database.read() as connection:
        sizes = list(connection.scalars(sa.select(Batch.c.segments_total)))
    assert sum(sizes) == 64
    assert max(sizes) - min(sizes) <= 10, sizes


def test_a_part_full_batch_lingers_while_everybody_is_busy(database):
    corpus_maker.accepted(database, [TEXT] * 10, name="first")
    how = planner.Plan(workers=1, linger_seconds=60)
    assert len(planner.plan(database, "tones", how)) == 1
    corpus_maker.accepted(database, [TEXT] * 10, name="second")
    assert planner.plan(database, "tones", how) == []
    eager = planner.Plan(workers=1, linger_seconds=0)
    assert len(planner.plan(database, "tones", eager)) == 1


def test_no_more_is_planned_than_workers_need(database):
    corpus_maker.accepted(database, [TEXT] * 300, name="common")
    how = planner.Plan(workers=2, batch_segments=10, batches_ahead=2, linger_seconds=0)
    assert len(planner.plan(database, "tones", how)) == 4
    assert planner.plan(database, "tones", how) == []
