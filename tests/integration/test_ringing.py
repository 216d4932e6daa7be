"""What is rung for again, and how little of it waits in a queue that nobody reads."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from celery import Celery

from scheduler import planner, ringing
from storage import batches
from storage.database import Database
from storage.models import Batch, Job
from tests import corpus_maker
from workers import bell, broker
from workers.engines import espeak

NIGHT = 100  # sweeps
QUEUE = broker.render_queue("espeak")


@pytest.fixture(params=["redis", "rabbitmq"])
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The Celery app on a broker of its own."""
    request.node.add_marker("server")
    monkeypatch.setenv("VOICEMILL_BROKER_URL", request.getfixturevalue(f"{request.param}_url"))
    from workers import app as apps

    broker.declare()
    with closing(apps.make()) as made:
        yield made


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """Two batches that were rung for, and what is left of a corpus."""
    with closing(Database(sqlite_url)) as database:
        corpus_maker.accepted(database, [f"Sentence {n}." for n in range(9)], spec=espeak.SPEC)
        yield database


def plan(app: Celery, database: Database, ahead: int = 2) -> list[int]:
    how = planner.Plan(workers=1, batch_segments=3, batches_ahead=ahead, linger_seconds=0)
    planned = planner.plan(database, "espeak", how)
    assert ringing.ring_for_batches(app, database, planned) == len(planned)
    return planned


def a_night(app: Celery, database: Database) -> int:
    """Sweeps, each of which finds every batch left for longer than anybody's patience: how many rings."""
    rung = 0
    for _ in range(NIGHT):
        with database.write() as connection:
            connection.execute(sa.update(Batch).values(published_at=0.0))
        rung += ringing.ring_again(app, database)
    return rung


def drop(app: Celery, queue: str, count: int) -> None:
    """Take so many messages out of a queue."""
    with app.connection_for_read() as connection, connection.channel() as channel:
        for _ in range(count):
            message = app.amqp.queues[queue](channel).get(no_ack=False)
            assert message is not None
            message.ack()


def test_in_a_night_without_workers_nothing_piles_up(app: Celery, database: Database) -> None:
    plan(app, database)
    with database.write() as connection:  # as if others had rendered these
        connection.execute(sa.update(Job).where(Job.c.position > 6).values(state="rendered"))
    assert a_night(app, database) == 1, "the jobs to be assembled; the batches were rung for before"
    assert (bell.waiting(app, QUEUE), bell.waiting(app, broker.ASSEMBLE)) == (2, 1)


def test_as_many_are_rung_for_as_are_missing(app: Celery, database: Database) -> None:
    plan(app, database, ahead=3)
    drop(app, QUEUE, 2)
    assert a_night(app, database) == 2
    assert bell.waiting(app, QUEUE) == 3
    drop(app, QUEUE, 3)
    with database.write() as connection:
        for batch_id in connection.scalars(sa.select(Batch.c.id).limit(2)):
            assert batches.claim(connection, batch_id, "somebody", 60)
    assert a_night(app, database) == 1
    assert bell.waiting(app, QUEUE) == 1


def test_whoever_rings_for_a_queue_that_nobody_reads_stops_at_some_point(app: Celery) -> None:
    for queue, ring in {
        broker.ASSEMBLE: lambda: bell.assemble(app, 1),
        broker.PLAN: lambda: bell.plan(app, "espeak"),
        broker.DELIVER: lambda: bell.deliver(app),
    }.items():
        assert all(ring() for _ in range(2 * bell.ENOUGH)), "it is as good as rung for"
        assert bell.waiting(app, queue) == bell.ENOUGH
        drop(app, queue, 1)
        assert ring()
        assert bell.waiting(app, queue) == bell.ENOUGH
