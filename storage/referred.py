"""What rows refer to in the object store, as streams: for holding the two against each other."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from storage import states
from storage.models import Corpus, Job, Take
from storage.takes import chunks

CHUNK = 5000  # rows read at once


def takes(connection: sa.Connection, since: float | None = None) -> Iterator[sa.Row[Any]]:
    """Takes as take_key, samples, tokens, has_codes, created_at; of some time on where that is given."""
    columns = (Take.c.take_key, Take.c.samples, Take.c.tokens, Take.c.has_codes, Take.c.created_at)
    last = ""
    while True:
        query = sa.select(*columns).where(Take.c.take_key > last)
        if since is not None:
            query = query.where(Take.c.created_at >= since)
        rows: list[sa.Row[Any]] = list(connection.execute(query.order_by(Take.c.take_key).limit(CHUNK)))
        yield from rows
        if len(rows) < CHUNK:
            return
        last = rows[-1].take_key


def jobs(connection: sa.Connection, since: float | None = None) -> Iterator[sa.Row[Any]]:
    """Jobs that have, or had, audio, whatever their state; those that ended from some time on where that is given."""
    last = 0
    while True:
        query = sa.select(Job).where(Job.c.id > last, Job.c.audio_key.is_not(None))
        if since is not None:
            query = query.where(Job.c.finished_at >= since)
        rows = list(connection.execute(query.order_by(Job.c.id).limit(CHUNK)))
        yield from rows
        if len(rows) < CHUNK:
            return
        last = rows[-1].id


def covers(connection: sa.Connection) -> set[str]:
    """The keys of all cover pictures that jobs name."""
    named = Job.c.options["cover"].as_string()
    return {key for key in connection.scalars(sa.select(named).where(named.is_not(None)).distinct()) if key}


def corpora(connection: sa.Connection) -> set[str]:
    """The names of all corpora."""
    return set(connection.scalars(sa.select(Corpus.c.name)))


def twins(connection: sa.Connection, job_ids: Sequence[int]) -> list[int]:
    """These jobs, and those whose audio is the same to the byte and therefore the same object."""
    found: set[int] = set(job_ids)
    for chunk in chunks(list(job_ids)):
        same = sa.select(Job.c.assembly_key).where(Job.c.id.in_(chunk), Job.c.assembly_key.is_not(None))
        found.update(connection.scalars(sa.select(Job.c.id).where(Job.c.assembly_key.in_(same))))
    return sorted(found)


def reopen(connection: sa.Connection, job_ids: Sequence[int]) -> None:
    """Let the corpora of these jobs run again, where they had ended by themselves."""
    for chunk in chunks(list(job_ids)):
        connection.execute(
            sa.update(Corpus)
            .where(
                Corpus.c.id.in_(sa.select(Job.c.corpus_id).where(Job.c.id.in_(chunk))),
                Corpus.c.state.in_([states.Corpus.COMPLETED, states.Corpus.COMPLETED_WITH_ERRORS]),
            )
            .values(state=states.Corpus.RUNNING, finished_at=None)
        )
