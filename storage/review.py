"""Takes and files that failed a check and were delivered all the same: what a person says of them."""

from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a person found good, and the jobs that are completed with it."""

    segments: int
    files: int
    jobs: int


ACCEPTED = "accepted"  # among what is told of a file: a person takes it with its problem

_FLAGGED = (Segment.c.state == states.Segment.DONE, Segment.c.reason.is_not(None))


def flagged(connection: sa.Connection, corpus_id: int, limit: int | None = None) -> list[sa.Row[Any]]:
    """What needs a listen in a corpus, in its order: job, position, text, reason, detail, take and its metrics."""
    query = (
        sa.select(
            Job.c.id.label("job_id"),
            Job.c.custom_id,
            Job.c.state.label("job_state"),
            Segment.c.position,
            Segment.c.text,
            Segment.c.reason,
            Segment.c.detail,
            Segment.c.redone,
            Segment.c.take_key,
            Take.c.samples,
            Take.c.sample_rate,
            Take.c.metrics,
        )
        .join(Job, Job.c.id == Segment.c.job_id)
        .join(Take, Take.c.take_key == Segment.c.take_key)
        .where(Job.c.corpus_id == corpus_id, *_FLAGGED)
        .order_by(Job.c.position, Segment.c.position)
        .limit(limit)
    )
    return list(connection.execute(query))


def files(
    connection: sa.Connection, corpus_id: int, custom_id: str | None = None
) -> Iterator[tuple[sa.Row[Any], Mapping[str, Any]]]:
    """Files of a corpus, or of one job, that failed a check of their own: the job, and what `deliverables` tells of each.

    Of jobs that wait for a listen; the files of all others are as they should be, or are being made again.
    """
    query = sa.select(Job.c.id, Job.c.custom_id, Job.c.deliverables).where(
        Job.c.corpus_id == corpus_id, Job.c.state == states.Job.NEEDS_REVIEW
    )
    if custom_id is not None:
        query = query.where(Job.c.custom_id == custom_id)
    for row in connection.execute(query.order_by(Job.c.position)):
        for made in filter(stands, row.deliverables or ()):
            yield row, made


def count(connection: sa.Connection, corpus_id: int) -> int:
    """How many segments and files of a corpus need a listen."""
    query = sa.select(sa.func.count()).select_from(Segment).join(Job, Job.c.id == Segment.c.job_id)
    segments = connection.execute(query.where(Job.c.corpus_id == corpus_id, *_FLAGGED)).scalar_one()
    return int(segments) + sum(1 for _ in files(connection, corpus_id))


def accept(connection: sa.Connection, corpus: sa.Row[Any], wanted: Sequence[Wanted] = ()) -> Accepted:
    """Note that a person found these good, all of the corpus where nothing is named. A job is its takes and its files.

    Raises NothingToReviewError, BusyJobError; then nothing is noted.
    """
    corpora.locked(connection, corpus.name)
    chosen = [_chosen(connection, corpus, each) for each in wanted] or [_chosen(connection, corpus, None)]
    found = {row.id: row for rows, _ in chosen for row in rows}
    with_files = {job_id for _, ids in chosen for job_id in ids}
    job_ids = sorted(with_files.union(row.job_id for row in found.values()))
    held = [job for chunk in takes.chunks(job_ids) for job in _held(connection, chunk)]
    file_count = sum(_accept_files(connection, job) for job in held if job.id in with_files)
    for ids in takes.chunks(sorted(found)):
        connection.execute(sa.update(Segment).where(Segment.c.id.in_(ids)).values(reason=None, detail=None))
    for keys in takes.chunks(sorted({row.take_key for row in found.values()})):
        takes.approve(connection, keys)
    completed = sum(_settle(connection, job_id) for job_id in job_ids)
    _settle_corpus(connection, corpus.id)
    return Accepted(len(found), file_count, completed)


def told(flags: Sequence[Any], made: Sequence[Mapping[str, Any]] = ()) -> str | None:
    """Why a job needs a listen, from its segments with `position`, `reason` and `detail` and from what is told of its
    files; None where it does not."""
    bad = [flag for flag in flags if flag.reason]
    found = []
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        found.append(f"segment {bad[0].position}: {bad[0].reason} ({bad[0].detail}){more}")
    found += [str(each["problem"]) for each in made if stands(each)]
    return "; ".join(found) or None


def stands(made: Mapping[str, Any]) -> bool:
    """Whether a file has a problem that nobody has accepted."""
    return bool(made.get("problem")) and not made.get(ACCEPTED)


def remembered(
    connection: sa.Connection, job_id: int, made: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """What is told of a job's files, made anew: who accepted one is not asked again where its bytes are the same."""
    before = connection.scalar(sa.select(Job.c.deliverables).where(Job.c.id == job_id)) or ()
    known = {(each["sha256"], each["problem"]) for each in before if each.get(ACCEPTED)}
    return [
        {**each, ACCEPTED: True} if (each["sha256"], each.get("problem")) in known else each for each in made
    ]


def _held(connection: sa.Connection, job_ids: Sequence[int]) -> list[sa.Row[Any]]:
    """Jobs that nobody changes until we are done, as they are now."""
    query = sa.select(Job.c.id, Job.c.custom_id, Job.c.state, Job.c.deliverables).where(Job.c.id.in_(job_ids))
    held: list[sa.Row[Any]] = list(connection.execute(query.order_by(Job.c.id).with_for_update()))
    for job in held:
        if job.state == states.Job.ASSEMBLING:
            raise BusyJobError(custom_id=job.custom_id)
    return held


def _accept_files(connection: sa.Connection, job: sa.Row[Any]) -> int:
    if job.state != states.Job.NEEDS_REVIEW:  # being made again, and to be judged anew
        return 0
    made = job.deliverables or ()
    accepted = [{**each, ACCEPTED: True} if stands(each) else each for each in made]
    connection.execute(sa.update(Job).where(Job.c.id == job.id).values(deliverables=accepted))
    return sum(map(stands, made))


def _chosen(
    connection: sa.Connection, corpus: sa.Row[Any], wanted: Wanted | None
) -> tuple[Sequence[sa.Row[Any]], set[int]]:
    """The segments that are meant, and the jobs whose files are."""
    query = (
        sa.select(Segment.c.id, Segment.c.job_id, Segment.c.take_key)
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(Job.c.corpus_id == corpus.id, *_FLAGGED)
    )
    if wanted is not None:
        query = query.where(Job.c.custom_id == wanted.custom_id)
        if wanted.position is not None:
            query = query.where(Segment.c.position == wanted.position)
    rows: list[sa.Row[Any]] = list(connection.execute(query))
    with_files: set[int] = set()
    if wanted is None or wanted.position is None:
        custom_id = None if wanted is None else wanted.custom_id
        with_files = {job.id for job, _ in files(connection, corpus.id, custom_id)}
    if not rows and not with_files:
        raise NothingToReviewError(what=wanted or corpus.name, corpus=corpus.name)
    return rows, with_files


def _settle(connection: sa.Connection, job_id: int) -> bool:
    """Complete a job that waited for a listen, or say what is left: whether it is completed."""
    query = (
        sa.select(Segment.c.position, Segment.c.reason, Segment.c.detail)
        .where(Segment.c.job_id == job_id, *_FLAGGED)
        .order_by(Segment.c.position)
    )
    made = connection.scalar(sa.select(Job.c.deliverables).where(Job.c.id == job_id))
    left = told(list(connection.execute(query)), made or ())
    step = sa.update(Job).where(Job.c.id == job_id, Job.c.state == states.Job.NEEDS_REVIEW)
    if left is not None:
        connection.execute(step.values(detail=left))
        return False
    done = step.values(state=states.Job.COMPLETED, reason=None, detail=None, finished_at=now())
    if connection.execute(done).rowcount != 1:
        return False
    outbox.job_ended(connection, job_id)
    return True


def _settle_corpus(connection: sa.Connection, corpus_id: int) -> None:
    """A corpus that had nothing but takes and files to listen to is completed with the last of them."""
    imperfect = (
        sa.select(Job.c.id).where(Job.c.corpus_id == corpus_id, Job.c.state != states.Job.COMPLETED).limit(1)
    )
    row = connection.execute(corpora.by_id(corpus_id)).one()
    if row.state != states.Corpus.COMPLETED_WITH_ERRORS or connection.execute(imperfect).first():
        return
    if corpora.move(connection, corpus_id, states.Corpus.COMPLETED):
        outbox.corpus_ended(connection, corpus_id)
