"""Jobs: counted up segment by segment, assembled under a lease of their own, ended once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import sqlalchemy as sa

from storage import corpora, errors, given, outbox, seeds, states, takes
from storage.database import now
from storage.models import Corpus, Job, Segment


class UnknownJobError(errors.InputError):
    """There is no job {custom_id!r} in the corpus {corpus}."""


@dataclass(frozen=True, slots=True)
class AssemblyLease:
    """A worker's claim on the assembly of a job."""

    job_id: int
    number: int
    corpus_id: int
    custom_id: str
    options: Mapping[str, Any]
    attempts: int
    segments_total: int
    level: Mapping[str, Any] | None = None  # as it was measured before, which holds


@dataclass(frozen=True, slots=True)
class Audio:
    """A job's finished audio, already in the store. `deliverables` tells of every file, the first one included."""

    assembly_key: str
    audio_key: str
    audio_bytes: int
    audio_sha256: str
    samples: int
    sample_rate: int
    deliverables: Sequence[Mapping[str, Any]] = ()
    level: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a corpus is. `tokens` are estimates; lengths are of finished jobs."""

    jobs: Mapping[str, int]  # by state
    segments_total: int
    segments_done: int
    segments_failed: int
    tokens_total: int
    tokens_done: int
    characters: int
    audio_seconds: float
    audio_bytes: int


def insert(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Add jobs, as plain column values: their numbers, in the same order."""
    at = connection.scalar(sa.select(now()))
    statement = sa.insert(Job).returning(Job.c.id, sort_by_parameter_order=True)
    return [int(row.id) for row in connection.execute(statement, [{**row, "created_at": at} for row in rows])]


def count(connection: sa.Connection, done: Mapping[int, int], failed: Mapping[int, int]) -> list[int]:
    """Add ended segments to their jobs' counters. Jobs whose last segment it was are returned, rendered or failed.

    Rows are taken in order of their number, so that two workers never wait for each other.
    """
    ids = sorted(done.keys() | failed.keys())
    if not ids:
        return []
    for chunk in takes.chunks(ids):
        connection.execute(sa.select(Job.c.id).where(Job.c.id.in_(chunk)).order_by(Job.c.id).with_for_update())
    statement = sa.text(f"""
        UPDATE jobs SET segments_done = segments_done + given.done, segments_failed = segments_failed + given.failed,
               state = CASE WHEN state <> 'pending' OR segments_total <>
                                 segments_done + given.done + segments_failed + given.failed THEN state
                            WHEN segments_failed + given.failed > 0 THEN 'failed' ELSE 'rendered' END
        FROM {given.table(connection, {"id": "bigint", "done": "bigint", "failed": "bigint"})}
        WHERE jobs.id = given.id
        RETURNING jobs.id, jobs.state, jobs.corpus_id
    """)  # noqa: S608
    counts = given.rows([job_id, done.get(job_id, 0), failed.get(job_id, 0)] for job_id in ids)
    ended: list[int] = []
    for row in sorted(connection.execute(statement, counts)):
        if row.state in (states.Job.RENDERED, states.Job.FAILED):
            ended.append(row.id)
        if row.state == states.Job.FAILED:
            _explain(connection, row.id)
            outbox.job_ended(connection, row.id)
            corpora.finish(connection, row.corpus_id)
    return ended


def claim(
    connection: sa.Connection,
    owner: str,
    seconds: float,
    limit: int = 1,
    only: Sequence[int] = (),
    tokens: int | None = None,
) -> list[AssemblyLease]:
    """Take the assembly of up to `limit` jobs that are rendered, or whose assembler's lease ran out; `only` these.

    `tokens` bounds how much sound is taken at once, the first job apart: the rest is for others.
    """
    free = sa.or_(
        Job.c.state == states.Job.RENDERED,
        sa.and_(Job.c.state == states.Job.ASSEMBLING, Job.c.lease_expires_at < now()),
    )
    query = sa.select(Job.c.id, Job.c.tokens_estimate).where(
        free, Job.c.state.in_([states.Job.RENDERED, states.Job.ASSEMBLING])
    )
    if only:
        query = query.where(Job.c.id.in_(only))
    query = query.order_by(Job.c.priority, Job.c.id).limit(limit).with_for_update(skip_locked=True)
    found = list(connection.execute(query))
    if not found:
        return []
    sums = accumulate(row.tokens_estimate for row in found)
    ids = [
        row.id
        for at, (row, total) in enumerate(zip(found, sums, strict=True))
        if not at or tokens is None or total <= tokens
    ]
    step = (
        sa.update(Job)
        .where(Job.c.id.in_(ids))
        .values(
            state=states.Job.ASSEMBLING,
            lease_owner=owner,
            lease_number=Job.c.lease_number + 1,
            lease_expires_at=now() + seconds,
        )
        .returning(
            Job.c.id,
            Job.c.lease_number,
            Job.c.corpus_id,
            Job.c.custom_id,
            Job.c.options,
            Job.c.attempts,
            Job.c.segments_total,
            Job.c.level,
        )
    )
    return sorted((AssemblyLease(*row) for row in connection.execute(step)), key=lambda lease: lease.job_id)


def renew(connection: sa.Connection, leases: Sequence[AssemblyLease], seconds: float) -> set[int]:
    """Keep assembly leases for so many more seconds: jobs whose lease is lost, which stays so."""
    lost = set()
    for lease in leases:
        step = sa.update(Job).where(*_held(lease)).values(lease_expires_at=now() + seconds)
        if connection.execute(step).rowcount != 1:
            lost.add(lease.job_id)
    return lost


def complete(connection: sa.Connection, lease: AssemblyLease, audio: Audio, flagged: str | None = None) -> bool:
    """End a job whose audio is in the store; `flagged` says why it needs a listen. False: the lease was lost."""
    step = (
        sa.update(Job)
        .where(*_held(lease))
        .values(
            state=states.Job.NEEDS_REVIEW if flagged else states.Job.COMPLETED,
            assembly_key=audio.assembly_key,
            audio_key=audio.audio_key,
            audio_bytes=audio.audio_bytes,
            audio_sha256=audio.audio_sha256,
            samples=audio.samples,
            sample_rate=audio.sample_rate,
            deliverables=[dict(each) for each in audio.deliverables],
            level=None if audio.level is None else dict(audio.level),
            reason="needs_review" if flagged else None,
            detail=flagged,
            finished_at=now(),
            lease_owner=None,
            lease_expires_at=None,
        )
    )
    if connection.execute(step).rowcount != 1:
        return False
    outbox.job_ended(connection, lease.job_id)
    return True


def keep_level(connection: sa.Connection, lease: AssemblyLease, level: Mapping[str, Any]) -> None:
    """Write down how loud a programme is, so that nobody measures it again."""
    connection.execute(sa.update(Job).where(*_held(lease)).values(level=dict(level)))


def release(connection: sa.Connection, lease: AssemblyLease) -> None:
    """Give an assembly back, to be done by another."""
    step = sa.update(Job).where(*_held(lease))
    connection.execute(step.values(state=states.Job.RENDERED, lease_owner=None, lease_expires_at=None))


def fail(
    connection: sa.Connection, lease: AssemblyLease, *, reason: str, detail: str, attempts_allowed: int
) -> None:
    """Count an error of an assembly: to be tried again, or failed for good."""
    final = lease.attempts + 1 >= attempts_allowed
    step = (
        sa.update(Job)
        .where(*_held(lease))
        .values(
            state=states.Job.FAILED if final else states.Job.RENDERED,
            attempts=Job.c.attempts + 1,
            reason=reason,
            detail=detail,
            finished_at=now() if final else None,
            lease_owner=None,
            lease_expires_at=None,
        )
    )
    if connection.execute(step).rowcount == 1 and final:
        outbox.job_ended(connection, lease.job_id)


def release_of_owners(connection: sa.Connection, owners: Sequence[str]) -> int:
    """Give back the assemblies of owners who are known to be gone: how many."""
    if not owners:
        return 0
    return connection.execute(
        sa.update(Job)
        .where(Job.c.state == states.Job.ASSEMBLING, Job.c.lease_owner.in_(owners))
        .values(state=states.Job.RENDERED, lease_owner=None, lease_expires_at=None)
    ).rowcount


def assemblers(connection: sa.Connection) -> list[str]:
    """Everybody who holds a lease on an assembly."""
    query = sa.select(Job.c.lease_owner).where(Job.c.state == states.Job.ASSEMBLING).distinct()
    return [owner for owner in connection.scalars(query) if owner]


def to_assemble(connection: sa.Connection, limit: int = 1000) -> list[int]:
    """Jobs that wait for assembly, or whose assembler's lease ran out."""
    query = (
        sa.select(Job.c.id)
        .where(
            Job.c.state.in_([states.Job.RENDERED, states.Job.ASSEMBLING]),
            sa.or_(Job.c.state == states.Job.RENDERED, Job.c.lease_expires_at < now()),
        )
        .order_by(Job.c.priority, Job.c.id)
        .limit(limit)
    )
    return list(connection.scalars(query))


def progress(connection: sa.Connection, corpus_id: int) -> Progress:
    """How far a corpus is, from its jobs' counters."""
    tokens_done = sa.func.sum(
        Job.c.tokens_estimate * Job.c.segments_done / sa.func.max(Job.c.segments_total, 1)
    )
    if connection.dialect.name == "postgresql":
        tokens_done = sa.func.sum(
            Job.c.tokens_estimate * Job.c.segments_done / sa.func.greatest(Job.c.segments_total, 1)
        )
    query = sa.select(
        Job.c.state,
        sa.func.count(),
        sa.func.sum(Job.c.segments_total),
        sa.func.sum(Job.c.segments_done),
        sa.func.sum(Job.c.segments_failed),
        sa.func.sum(Job.c.tokens_estimate),
        tokens_done,
        sa.func.sum(Job.c.characters),
        sa.func.coalesce(sa.func.sum(sa.cast(Job.c.samples, sa.Double()) / Job.c.sample_rate), 0.0),
        sa.func.coalesce(sa.func.sum(Job.c.audio_bytes), 0),
    )
    rows: list[Any] = list(connection.execute(query.where(Job.c.corpus_id == corpus_id).group_by(Job.c.state)))
    sums = [sum(row[column] for row in rows) for column in range(2, 10)]
    counts = {row[0]: row[1] for row in rows}
    return Progress(
        jobs={state.value: counts.get(state.value, 0) for state in states.Job},
        segments_total=int(sums[0]),
        segments_done=int(sums[1]),
        segments_failed=int(sums[2]),
        tokens_total=int(sums[3]),
        tokens_done=int(sums[4]),
        characters=int(sums[5]),
        audio_seconds=float(sums[6]),
        audio_bytes=int(sums[7]),
    )


def each(
    connection: sa.Connection, corpus_id: int, only: Sequence[states.Job] = (), chunk: int = 1000
) -> Iterator[sa.Row[Any]]:
    """A corpus' jobs in its own order, as a stream."""
    position = 0
    while True:
        query = sa.select(Job).where(Job.c.corpus_id == corpus_id, Job.c.position > position)
        if only:
            query = query.where(Job.c.state.in_(only))
        rows = list(connection.execute(query.order_by(Job.c.position).limit(chunk)))
        yield from rows
        if len(rows) < chunk:
            return
        position = rows[-1].position


def by_custom_id(connection: sa.Connection, corpus_id: int, custom_id: str) -> sa.Row[Any] | None:
    """One job by the producer's own name for it."""
    query = sa.select(Job).where(Job.c.corpus_id == corpus_id, Job.c.custom_id == custom_id)
    return connection.execute(query).one_or_none()


def corpora_with(connection: sa.Connection, custom_id: str) -> list[sa.Row[Any]]:
    """The corpora, `id` and `name`, that have a job of that name."""
    query = (
        sa.select(Corpus.c.id, Corpus.c.name)
        .join(Job, Job.c.corpus_id == Corpus.c.id)
        .where(Job.c.custom_id == custom_id)
        .order_by(Corpus.c.id)
    )
    return list(connection.execute(query))


def cancel(connection: sa.Connection, corpus_id: int) -> int | None:
    """Cancel a corpus and what is not ended of it: how many jobs, None where it had ended. What is done stays."""
    if not corpora.move(connection, corpus_id, states.Corpus.CANCELLED):
        return None
    jobs_open = sa.select(Job.c.id).where(Job.c.corpus_id == corpus_id, Job.c.state.in_(states.UNFINISHED_JOBS))
    connection.execute(
        sa.update(Segment)
        .where(
            Segment.c.job_id.in_(jobs_open),
            Segment.c.state.in_([states.Segment.PENDING, states.Segment.BATCHED]),
        )
        .values(state=states.Segment.CANCELLED, batch_id=None)
    )
    count = connection.execute(
        sa.update(Job)
        .where(Job.c.corpus_id == corpus_id, Job.c.state.in_(states.UNFINISHED_JOBS))
        .values(state=states.Job.CANCELLED, finished_at=now(), lease_owner=None, lease_expires_at=None)
    ).rowcount
    outbox.corpus_ended(connection, corpus_id)
    return count


def retry(connection: sa.Connection, corpus_id: int, custom_ids: Sequence[str] = ()) -> tuple[int, int]:
    """Take failed and cancelled work up again with fresh attempts: how many jobs, how many segments.

    A corpus that was cancelled when all of its jobs had ended is taken up again too: its producer may send more.
    """
    stopped = sa.and_(
        Job.c.corpus_id == corpus_id,
        Job.c.state.in_([states.Job.FAILED, states.Job.CANCELLED, states.Job.NEEDS_REVIEW]),
    )
    if custom_ids:
        stopped = sa.and_(stopped, Job.c.custom_id.in_(custom_ids))
    ids = list(connection.scalars(sa.select(Job.c.id).where(stopped)))
    if not ids:
        state = connection.scalar(sa.select(Corpus.c.state).where(Corpus.c.id == corpus_id))
        if not custom_ids and state == states.Corpus.CANCELLED:
            corpora.move(connection, corpus_id, states.Corpus.RUNNING)
            corpora.finish(connection, corpus_id)
        return 0, 0
    segments_again = 0
    for start in range(0, len(ids), 1000):
        segments_again += _again(connection, ids[start : start + 1000])
    connection.execute(
        sa.update(Corpus).where(Corpus.c.id == corpus_id).values(state=states.Corpus.RUNNING, finished_at=None)
    )
    return len(ids), segments_again


def _again(connection: sa.Connection, ids: Sequence[int]) -> int:
    unheard = sa.or_(
        Segment.c.state.in_([states.Segment.FAILED, states.Segment.CANCELLED]),
        sa.and_(Segment.c.state == states.Segment.DONE, Segment.c.reason.is_not(None)),
    )
    _reseed(connection, ids, unheard)
    again = connection.execute(
        sa.update(Segment)
        .where(Segment.c.job_id.in_(ids), unheard)
        .values(
            state=states.Segment.PENDING, batch_id=None, attempts=0, reason=None, detail=None, take_key=None
        )
    ).rowcount
    done = (
        sa.select(sa.func.count())
        .where(Segment.c.job_id == Job.c.id, Segment.c.state == states.Segment.DONE)
        .scalar_subquery()
    )
    state = sa.case((done == Job.c.segments_total, states.Job.RENDERED.value), else_=states.Job.PENDING.value)
    connection.execute(
        sa.update(Job)
        .where(Job.c.id.in_(ids))
        .values(
            state=state,
            segments_done=done,
            segments_failed=0,
            attempts=0,
            reason=None,
            detail=None,
            finished_at=None,
        )
    )
    return again


def _reseed(connection: sa.Connection, ids: Sequence[int], unheard: sa.ColumnElement[bool]) -> None:
    """Give segments whose attempts all came to nothing other seeds: with the same ones they would come to the same."""
    query = (
        sa.select(Segment.c.id, Segment.c.seed, Segment.c.redone, Job.c.options)
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(Segment.c.job_id.in_(ids), unheard, Segment.c.reason.is_not(None), Segment.c.reason != "crashed")
    )
    rows = [
        [row.id, seeds.another(row.options["seed"] if row.seed is None else row.seed, row.redone)]
        for row in connection.execute(query)
    ]
    for chunk in takes.chunks(rows):
        statement = sa.text(f"""
            UPDATE segments SET seed = given.seed, redone = redone + 1
            FROM {given.table(connection, {"id": "bigint", "seed": "bigint"})} WHERE segments.id = given.id
        """)  # noqa: S608
        connection.execute(statement, given.rows(chunk))


def _held(lease: AssemblyLease) -> tuple[sa.ColumnElement[bool], ...]:
    return Job.c.id == lease.job_id, Job.c.lease_number == lease.number, Job.c.state == states.Job.ASSEMBLING


def _explain(connection: sa.Connection, job_id: int) -> None:
    """Copy the first failed segment's reason to its job, where `list` and `errors.jsonl` show it."""
    query = (
        sa.select(Segment.c.reason, Segment.c.detail)
        .where(Segment.c.job_id == job_id, Segment.c.state == states.Segment.FAILED)
        .order_by(Segment.c.position)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is not None:
        step = sa.update(Job).where(Job.c.id == job_id)
        connection.execute(step.values(reason=row.reason, detail=row.detail, finished_at=now()))


def rewind(connection: sa.Connection, lease: AssemblyLease, missing: Sequence[str]) -> bool:
    """Have takes made again whose sound is gone from the store. False: the lease was lost."""
    step = sa.update(Job).where(*_held(lease))
    if connection.execute(step.values(lease_owner=None, lease_expires_at=None)).rowcount != 1:
        return False
    takes.lose(connection, missing)
    for chunk in takes.chunks(missing):
        connection.execute(
            sa.update(Segment)
            .where(Segment.c.job_id == lease.job_id, Segment.c.take_key.in_(chunk))
            .values(state=states.Segment.PENDING, take_key=None, batch_id=None)
        )
    done = (
        sa.select(sa.func.count())
        .where(Segment.c.job_id == lease.job_id, Segment.c.state == states.Segment.DONE)
        .scalar_subquery()
    )
    connection.execute(
        sa.update(Job).where(Job.c.id == lease.job_id).values(state=states.Job.PENDING, segments_done=done)
    )
    return True


def twin(connection: sa.Connection, assembly_key: str) -> Audio | None:
    """The audio of another job that is the same to the byte, if there is one."""
    query = (
        sa.select(
            Job.c.assembly_key,
            Job.c.audio_key,
            Job.c.audio_bytes,
            Job.c.audio_sha256,
            Job.c.samples,
            Job.c.sample_rate,
            Job.c.deliverables,
            Job.c.level,
        )
        .where(Job.c.assembly_key == assembly_key, Job.c.state.in_(states.AUDIBLE_JOBS))
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Audio(*row)


def last_position(connection: sa.Connection, corpus_id: int) -> int:
    """The position of a corpus' last job, 0 where it has none."""
    return connection.scalar(sa.select(sa.func.max(Job.c.position)).where(Job.c.corpus_id == corpus_id)) or 0


def fingerprints(connection: sa.Connection, corpus_id: int, custom_ids: Sequence[str]) -> dict[str, str]:
    """The fingerprints of those of these jobs that are in the corpus."""
    query = sa.select(Job.c.custom_id, Job.c.fingerprint).where(
        Job.c.corpus_id == corpus_id, Job.c.custom_id.in_(custom_ids)
    )
    return {row.custom_id: row.fingerprint for row in connection.execute(query)}


def assemble_again(connection: sa.Connection, job_ids: Sequence[int]) -> int:
    """Have finished jobs assembled once more from their takes: how many."""
    count = 0
    for chunk in takes.chunks(job_ids):
        count += connection.execute(
            sa.update(Job)
            .where(Job.c.id.in_(chunk), Job.c.state.in_(states.AUDIBLE_JOBS))
            .values(state=states.Job.RENDERED, assembly_key=None, finished_at=None)
        ).rowcount
    return count
