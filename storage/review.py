"""Segments whose takes failed a check and were delivered all the same: what a person says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import corpora, errors, outbox, states, takes
from storage.database import now
from storage.models import Job, Segment, Take


class NothingToReviewError(errors.InputError):
    """Nothing in {what} needs a listen. `voicemill review {corpus}` lists what does."""


class BusyJobError(errors.InputError):
    """The job {custom_id!r} is being assembled at this moment. Run the same command again when it is done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is meant: a job, or one segment of it."""

    custom_id: str
    position: int | None = None

    def __str__(self) -> str:
        return self.custom_id if self.position is None else f"{self.custom_id}:{self.position}"


_FLAGGED = (Segment.state == states.Segment.DONE, Segment.reason.is_not(None))


def flagged(connection: sa.Connection, corpus_id: int, limit: int | None = None) -> list[sa.Row[Any]]:
    """What needs a listen in a corpus, in its order: job, position, text, reason, detail, take and its metrics."""
    query = (
        sa.select(
            Job.id.label("job_id"),
            Job.custom_id,
            Job.state.label("job_state"),
            Segment.position,
            Segment.text,
            Segment.reason,
            Segment.detail,
            Segment.redone,
            Segment.take_key,
            Take.samples,
            Take.sample_rate,
            Take.metrics,
        )
        .join(Job, Job.id == Segment.job_id)
        .join(Take, Take.take_key == Segment.take_key)
        .where(Job.corpus_id == corpus_id, *_FLAGGED)
        .order_by(Job.position, Segment.position)
        .limit(limit)
    )
    return list(connection.execute(query))


def count(connection: sa.Connection, corpus_id: int) -> int:
    """How many segments of a corpus need a listen."""
    query = sa.select(sa.func.count()).select_from(Segment).join(Job, Job.id == Segment.job_id)
    return int(connection.execute(query.where(Job.corpus_id == corpus_id, *_FLAGGED)).scalar_one())


def accept(connection: sa.Connection, corpus: sa.Row[Any], wanted: Sequence[Wanted] = ()) -> tuple[int, int]:
    """Note that a person found these takes good, all of the corpus where none is named: how many segments, and jobs
    that are completed with it.

    Raises NothingToReviewError, BusyJobError; then nothing is noted.
    """
    corpora.locked(connection, corpus.name)
    chosen = [_chosen(connection, corpus, each) for each in wanted] or [_chosen(connection, corpus, None)]
    found = {row.id: row for rows in chosen for row in rows}
    job_ids = sorted({row.job_id for row in found.values()})
    for chunk in takes.chunks(job_ids):
        held = sa.select(Job.custom_id, Job.state).where(Job.id.in_(chunk)).order_by(Job.id).with_for_update()
        for job in connection.execute(held):
            if job.state == states.Job.ASSEMBLING:
                raise BusyJobError(custom_id=job.custom_id)
    for ids in takes.chunks(sorted(found)):
        connection.execute(sa.update(Segment).where(Segment.id.in_(ids)).values(reason=None, detail=None))
    for keys in takes.chunks(sorted({row.take_key for row in found.values()})):
        takes.approve(connection, keys)
    completed = sum(_settle(connection, job_id) for job_id in job_ids)
    _settle_corpus(connection, corpus.id)
    return len(found), completed


def told(flags: Sequence[Any]) -> str | None:
    """Why a job needs a listen, from its segments with `position`, `reason` and `detail`; None where it does not."""
    bad = [flag for flag in flags if flag.reason]
    if not bad:
        return None
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"segment {bad[0].position}: {bad[0].reason} ({bad[0].detail}){more}"


def _chosen(connection: sa.Connection, corpus: sa.Row[Any], wanted: Wanted | None) -> Sequence[sa.Row[Any]]:
    query = (
        sa.select(Segment.id, Segment.job_id, Segment.take_key)
        .join(Job, Job.id == Segment.job_id)
        .where(Job.corpus_id == corpus.id, *_FLAGGED)
    )
    if wanted is not None:
        query = query.where(Job.custom_id == wanted.custom_id)
        if wanted.position is not None:
            query = query.where(Segment.position == wanted.position)
    rows: list[sa.Row[Any]] = list(connection.execute(query))
    if not rows:
        raise NothingToReviewError(what=wanted or corpus.name, corpus=corpus.name)
    return rows


def _settle(connection: sa.Connection, job_id: int) -> bool:
    """Complete a job that waited for a listen, or say what is left: whether it is completed."""
    query = (
        sa.select(Segment.position, Segment.reason, Segment.detail)
        .where(Segment.job_id == job_id, *_FLAGGED)
        .order_by(Segment.position)
    )
    left = told(list(connection.execute(query)))
    step = sa.update(Job).where(Job.id == job_id, Job.state == states.Job.NEEDS_REVIEW)
    if left is not None:
        connection.execute(step.values(detail=left))
        return False
    done = step.values(state=states.Job.COMPLETED, reason=None, detail=None, finished_at=now())
    if connection.execute(done).rowcount != 1:
        return False
    outbox.job_ended(connection, job_id)
    return True


def _settle_corpus(connection: sa.Connection, corpus_id: int) -> None:
    """A corpus that had nothing but takes to listen to is completed with the last of them."""
    imperfect = sa.select(Job.id).where(Job.corpus_id == corpus_id, Job.state != states.Job.COMPLETED).limit(1)
    row = connection.execute(corpora.by_id(corpus_id)).one()
    if row.state != states.Corpus.COMPLETED_WITH_ERRORS or connection.execute(imperfect).first():
        return
    if corpora.move(connection, corpus_id, states.Corpus.COMPLETED):
        outbox.corpus_ended(connection, corpus_id)
