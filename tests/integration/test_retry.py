"""What `retry` takes up of a corpus that was cancelled."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from storage import corpora, jobs, states
from storage.database import Database
from storage.models import Corpus, Job
from tests import corpus_maker


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as database:
        corpus_maker.accepted(database, ["One sentence here.", "Another sentence there."])
        yield database


def end(database: Database, *ended: states.Job, is_open: bool) -> None:
    with database.write() as connection:
        for position, state in enumerate(ended, 1):
            connection.execute(sa.update(Job).where(Job.c.position == position).values(state=state))
        connection.execute(sa.update(Corpus).values(is_open=is_open))
        assert jobs.cancel(connection, 1) == 0, "nothing is left to be cancelled"


def retry(database: Database, *custom_ids: str) -> tuple[int, int]:
    return database.run(lambda connection: jobs.retry(connection, 1, custom_ids))


def state(database: Database) -> tuple[str, bool]:
    with database.read() as connection:
        row = connection.execute(corpora.by_id(1)).one()
    return row.state, row.finished_at is not None


DONE = states.Job.COMPLETED


def test_one_whose_jobs_are_all_done_goes_on_where_more_were_announced(database: Database) -> None:
    end(database, DONE, DONE, is_open=True)
    assert retry(database, "job-0000") == (0, 0)
    assert state(database) == ("cancelled", True)
    assert retry(database) == (0, 0)
    assert state(database) == ("running", False)
    assert retry(database) == (0, 0)
    assert state(database) == ("running", False)


def test_one_whose_jobs_are_all_done_ends_where_no_more_can_come(database: Database) -> None:
    end(database, DONE, DONE, is_open=False)
    assert retry(database) == (0, 0)
    assert state(database) == ("completed", True)
    assert retry(database) == (0, 0)
    assert state(database) == ("completed", True)


def test_one_with_a_failed_job_is_taken_up_with_it(database: Database) -> None:
    end(database, DONE, states.Job.FAILED, is_open=True)
    assert retry(database)[0] == 1
    assert state(database) == ("running", False)
