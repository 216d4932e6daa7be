"""An embedded home works on one corpus at a time: the one that was asked for last."""

import sqlalchemy as sa

from storage import corpora, jobs, states
from storage.database import Database


def make_way(database: Database, name: str, fingerprint: str) -> str | None:
    """Let a corpus take the name of an earlier one with other content, which is called otherwise from now on: how.

    Whoever changes a line and gives the same command again means the same corpus. None where nobody has that name.
    """

    def step(connection: sa.Connection) -> str | None:
        there = corpora.by_name(connection, name)
        if there is None or there.fingerprint == fingerprint:
            return None
        former = f"{name}-{there.fingerprint[:8]}"
        return former if corpora.rename(connection, there.id, former) else None

    return database.run(step)


def make_current(database: Database, corpus_id: int) -> int:
    """Cancel every other running corpus, and take this one up again if it was cancelled so: how many were cancelled.

    What they have finished is kept, takes above all, so going back to one of them costs only what it lacked.
    """

    def step(connection: sa.Connection) -> int:
        others = [row.id for row in corpora.running(connection) if row.id != corpus_id]
        for other in others:
            jobs.cancel(connection, other)
        row = connection.execute(corpora.by_id(corpus_id)).one()
        if row.state == states.Corpus.CANCELLED:
            jobs.retry(connection, corpus_id)
        return len(others)

    return database.run(step)
