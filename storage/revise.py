"""One segment of a job is rendered again because a person wants it; the rest of the job stays as it is."""

from typing import Any

import sqlalchemy as sa

from storage import corpora, errors, segments, states
from storage.models import Job, Segment
from storage.review import BusyJobError

OPEN_TO_IT = (states.Job.PENDING, states.Job.COMPLETED, states.Job.NEEDS_REVIEW, states.Job.FAILED)


class UnknownSegmentError(errors.InputError):
    """The job {custom_id!r} has no segment {position}: they are numbered from 0 to {last}."""


class BusySegmentError(errors.InputError):
    """Segment {position} of the job {custom_id!r} waits to be rendered already. `voicemill status` shows how far it is."""


class CancelledJobError(errors.InputError):
    """The job {custom_id!r} was cancelled. `voicemill retry --job {custom_id}` takes it up again."""


def find(connection: sa.Connection, job: sa.Row[Any], position: int) -> sa.Row[Any]:
    """A job's segment by its number. Raises UnknownSegmentError."""
    query = sa.select(Segment).where(Segment.c.job_id == job.id, Segment.c.position == position)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownSegmentError(
            custom_id=job.custom_id, position=position, last=max(0, job.segments_total - 1)
        )
    return row


def revise(
    connection: sa.Connection, corpus: sa.Row[Any], segment: sa.Row[Any], *, text: str, tokens: int, seed: int
) -> None:
    """Have a segment rendered anew, ahead of fresh work, and its job assembled again after that.

    Raises BusyJobError, BusySegmentError, CancelledJobError; then nothing has changed.
    """
    corpora.locked(connection, corpus.name)
    query = (
        sa.select(Job.c.custom_id, Job.c.state, Job.c.priority)
        .where(Job.c.id == segment.job_id)
        .with_for_update()
    )
    job = connection.execute(query).one()
    if job.state == states.Job.CANCELLED:
        raise CancelledJobError(custom_id=job.custom_id)
    if job.state not in OPEN_TO_IT:
        raise BusyJobError(custom_id=job.custom_id)
    step = (
        sa.update(Segment)
        .where(
            Segment.c.id == segment.id,
            Segment.c.state == segment.state,
            Segment.c.redone == segment.redone,
            Segment.c.state.in_([states.Segment.DONE, states.Segment.FAILED]),
        )
        .values(
            state=states.Segment.PENDING,
            text=text,
            tokens_estimate=tokens,
            seed=seed,
            redone=Segment.c.redone + 1,
            rank=segments.rank(job.priority, interrupted=True),
            attempts=0,
            batch_id=None,
            take_key=None,
            reason=None,
            detail=None,
        )
    )
    if connection.execute(step).rowcount != 1:
        raise BusySegmentError(custom_id=job.custom_id, position=segment.position)
    was_done = segment.state == states.Segment.DONE
    connection.execute(
        sa.update(Job)
        .where(Job.c.id == segment.job_id)
        .values(
            state=states.Job.PENDING,
            segments_done=Job.c.segments_done - int(was_done),
            segments_failed=Job.c.segments_failed - int(not was_done),
            tokens_estimate=Job.c.tokens_estimate + tokens - segment.tokens_estimate,
            characters=Job.c.characters + len(text) - len(segment.text),
            attempts=0,
            reason=None,
            detail=None,
            finished_at=None,
        )
    )
    corpora.move(connection, corpus.id, states.Corpus.RUNNING)
