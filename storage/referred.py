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
    columns = (Take.take_key, Take.samples, Take.tokens, Take.has_codes, Take.created_at)
    last = ""
    while True:
        query = sa.select(*columns).where(Take.take_key > last)
        if since is not None:
            query = query.where(Take.created_at >= since)
        rows: list[sa.Row[Any]] = list(connection.execute(query.order_by(Take.take_key).limit(CHUNK)))
        yield from rows
        if len(rows) < CHUNK:
            return
        last = rows[-1].take_key


def jobs(connection: sa.Connection, since: float | None = None) -> Iterator[sa.Row[Any]]:
    """Jobs that have, or had, audio, whatever their state; those that ended from some time on where that is given."""
    last = 0
    while True:
        query = sa.select(Job.__table__).where(Job.id > last, Job.audio_key.is_not(None))
        if since is not None:
            query = query.where(Job.finished_at >= since)
        rows = list(connection.execute(query.order_by(Job.id).limit(CHUNK)))
        yield from rows
        if len(rows) < CHUNK:
            return
        last = rows[-1].id


def covers(connection: sa.Connection) -> set[str]:
    """The keys of all cover pictures that jobs name."""
    named = Job.options["cover"].as_string()
    return {key for key in connection.scalars(sa.select(named).where(named.is_not(None)).distinct()) if key}


def corpora(connection: sa.Connection) -> set[str]:
    """The names of all corpora."""
    return set(connection.scalars(sa.select(Corpus.name)))


def twins(connection: sa.Connection, job_ids: Sequence[int]) -> list[int]:
    """These jobs, and those whose audio is the same to the byte and therefore the same object."""
    found: set[int] = set(job_ids)
    for chunk in chunks(list(job_ids)):
        same = sa.select(Job.assembly_key).where(Job.id.in_(chunk), Job.assembly_key.is_not(None))
        found.update(connection.scalars(sa.select(Job.id).where(Job.assembly_key.in_(same))))
    return sorted(found)


def reopen(connection: sa.Connection, job_ids: Sequence[int]) -> None:
    """Let the corpora of these jobs run again, where they had ended by themselves."""
    for chunk in chunks(list(job_ids)):
        connection.execute(
            sa.update(Corpus)
            .where(
                Corpus.id.in_(sa.select(Job.corpus_id).where(Job.id.in_(chunk))),
                Corpus.state.in_([states.Corpus.COMPLETED, states.Corpus.COMPLETED_WITH_ERRORS]),
            )
            .values(state=states.Corpus.RUNNING, finished_at=None)
        )
