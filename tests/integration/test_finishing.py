"""Finishing segments costs what is finished, however large their batch, in a database that has no statistics yet, too."""

import re
from contextlib import closing

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches, segments
from storage.database import Database
from tests import corpus_maker

MANY, SOME = 2000, 100
WORDS = "goes on for so long and says so little that no other sentence can share a segment with it, as in most books."
HOW = planner.Plan(workers=1, batch_segments=MANY, linger_seconds=0)


@pytest.fixture
def database(postgres_url):
    with closing(Database(postgres_url)) as opened:
        yield opened


def test_no_segment_of_a_batch_is_held_against_each_that_is_finished(database, monkeypatch):
    monkeypatch.setattr(planner, "FIRST_BATCH_TOKENS", 10**9)
    corpus_maker.accepted(database, [f"{number} {WORDS}" for number in range(7 * MANY)])
    batch_id = database.run(lambda connection: planner.plan_one(connection, "tones", HOW))
    with database.write() as connection:
        assert batches.claim(connection, batch_id, "me", 60) is not None
        ids = [work.id for work in segments.of_batch(connection, batch_id)]
    assert len(ids) == MANY
    plans = []
    database.engine.dispose()  # of connections that do not explain themselves
    sa.event.listen(database.engine, "connect", lambda connection, *_: explain(connection, plans))
    for start in range(0, MANY, 2 * SOME):
        done = [segments.Done(number, f"{number:064x}") for number in ids[start : start + SOME]]
        refused = [segments.Refused(number, 0, "loop", "") for number in ids[start + SOME : start + 2 * SOME]]
        with database.write() as connection:
            assert sum(segments.finish(connection, batch_id, done).values()) == SOME
            segments.hold(connection, batch_id, refused)
    updates = [plan for plan in plans if "UPDATE segments" in plan]
    assert len(updates) == MANY // SOME
    in_vain = [int(rows) for rows in re.findall(r"Rows Removed by Join Filter: (\d+)", "".join(updates))]
    assert sum(in_vain) <= MANY, updates[0]


def explain(connection, plans):
    """Let Postgres tell of every plan and what came of it."""
    connection.add_notice_handler(lambda notice: plans.append(notice.message_primary))
    connection.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;"
        " SET client_min_messages = log"
    )
