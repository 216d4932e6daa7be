"""Segments: planned into batches, rendered, and done once their take is stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import given, states, takes
from storage.models import Corpus, Job, Segment, Take


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending segment as the planner sees it."""

    id: int
    tokens_estimate: int
    rank: int
    start_tag: int


@dataclass(frozen=True, slots=True)
class Work:
    """A segment as the worker that renders it sees it."""

    id: int
    job_id: int
    text: str
    tokens_estimate: int
    attempts: int
    options: Mapping[str, Any]  # of its job
    own_seed: int | None  # None: its job's
    corpus_id: int
    wanted: bool  # False: its corpus was cancelled meanwhile
    losses: int = 0  # of workers that vanished while they rendered it

    @property
    def seed(self) -> int:
        """What its attempts' seeds follow from."""
        return int(self.options["seed"]) if self.own_seed is None else self.own_seed


@dataclass(frozen=True, slots=True)
class Part:
    """A segment as assembly sees it: its take's length and the silence after it."""

    position: int
    text: str
    chapter: str | None
    pause_ms: int
    take_key: str
    samples: int
    sample_rate: int
    reason: str | None  # the check that its take failed, if any
    detail: str | None
    gone: bool = False  # the take's sound is not in the store any more
    precision: Mapping[str, Any] | None = None  # of the numbers that made its codes, where known


def rank(priority: int, *, interrupted: bool) -> int:
    """Its place before all fairness: priority first, within it those that were interrupted."""
    return 2 * priority + (0 if interrupted else 1)


def insert(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add segments, as plain column values, the same columns in each.

    Past SQLAlchemy, which takes as long for a row as Postgres with COPY and SQLite do.
    """
    names = ", ".join(rows[0])
    values = [tuple(row.values()) for row in rows]
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(rows[0]))
        connection.exec_driver_sql(f"INSERT INTO segments ({names}) VALUES ({marks})", values)  # noqa: S608
    else:
        _copy(connection, f"COPY segments ({names}) FROM STDIN", values)


def _copy(connection: sa.Connection, statement: str, values: Iterable[Sequence[Any]]) -> None:
    import psycopg

    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    try:
        with raw.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in values:
                copy.write_row(row)
    except psycopg.Error as error:  # as SQLAlchemy tells of every other one
        raise sa.exc.DBAPIError.instance(
            statement, None, error, psycopg.Error, connection_invalidated=raw.closed, dialect=connection.dialect
        ) from error


def pending(connection: sa.Connection, pool: str, limit: int) -> list[Candidate]:
    """The next segments to be planned, in order: one index range however deep the backlog.

    On Postgres they are locked, and those another planner holds are passed over.
    """
    query = (
        sa.select(Segment.c.id, Segment.c.tokens_estimate, Segment.c.rank, Segment.c.start_tag)
        .where(Segment.c.pool == pool, Segment.c.state == sa.literal_column("'pending'"))
        .order_by(Segment.c.rank, Segment.c.start_tag, Segment.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [Candidate(*row) for row in connection.execute(query)]


def put_in_batch(connection: sa.Connection, ids: Sequence[int], batch_id: int) -> None:
    """Move pending segments into a batch."""
    for chunk in takes.chunks(ids):
        connection.execute(
            sa.update(Segment)
            .where(Segment.c.id.in_(chunk), Segment.c.state == states.Segment.PENDING)
            .values(state=states.Segment.BATCHED, batch_id=batch_id)
        )


def of_batch(connection: sa.Connection, batch_id: int) -> list[Work]:
    """What is left to render of a batch, in planning order."""
    query = (
        sa.select(
            Segment.c.id,
            Segment.c.job_id,
            Segment.c.text,
            Segment.c.tokens_estimate,
            Segment.c.attempts,
            Job.c.options,
            Segment.c.seed,
            Job.c.corpus_id,
            Corpus.c.state != states.Corpus.CANCELLED,
            Segment.c.losses,
        )
        .join(Job, Job.c.id == Segment.c.job_id)
        .join(Corpus, Corpus.c.id == Job.c.corpus_id)
        .where(Segment.c.batch_id == batch_id, Segment.c.state == states.Segment.BATCHED)
        .order_by(Segment.c.rank, Segment.c.start_tag, Segment.c.id)
    )
    return [Work(*row) for row in connection.execute(query)]


# Segments that are given and still in their batch. Postgres does not estimate a CASE. Without one, and without statistics,
# it expects one segment in the batch, and holds each that there is against every one given.
_STILL_THERE = """
    segments.id = given.id AND CASE WHEN segments.batch_id = :batch_id THEN segments.state = 'batched' ELSE false END
"""
_DONE = {"id": "bigint", "take_key": "text", "reason": "text", "detail": "text"}


@dataclass(frozen=True, slots=True)
class Done:
    """A segment whose take is stored; with a reason where the take failed a check and needs a listen."""

    id: int
    take_key: str
    reason: str | None = None
    detail: str | None = None


def finish(connection: sa.Connection, batch_id: int, done: Sequence[Done]) -> dict[int, int]:
    """Mark segments of a batch as done: how many by job. Those cancelled meanwhile, or done before, are passed over.

    The caller holds the batch's row lock and has checked its lease (`batches.fence`).
    """
    if not done:
        return {}
    statement = sa.text(f"""
        UPDATE segments SET state = 'done', take_key = given.take_key, reason = given.reason, detail = given.detail,
               batch_id = NULL
        FROM {given.table(connection, _DONE)}
        WHERE {_STILL_THERE}
        RETURNING segments.job_id
    """)  # noqa: S608
    parameters = given.rows([item.id, item.take_key, item.reason, item.detail] for item in done)
    counts: dict[int, int] = {}
    for (job_id,) in connection.execute(statement, {**parameters, "batch_id": batch_id}):
        counts[job_id] = counts.get(job_id, 0) + 1
    return counts


_REFUSED = {"id": "bigint", "attempts": "bigint", "reason": "text", "detail": "text"}


@dataclass(frozen=True, slots=True)
class Refused:
    """A segment whose rendering gave no take that could be used; `attempts` is how often that was so before."""

    id: int
    attempts: int
    reason: str
    detail: str


def hold(connection: sa.Connection, batch_id: int, refused: Sequence[Refused]) -> None:
    """Count an error of each of these and leave them in their batch until it ends: then they go on together.

    Doing it twice is doing it once. The caller holds the batch's row lock and has checked its lease.
    """
    if not refused:
        return
    statement = sa.text(f"""
        UPDATE segments SET attempts = given.attempts + 1, reason = given.reason, detail = given.detail
        FROM {given.table(connection, _REFUSED)}
        WHERE {_STILL_THERE} AND segments.attempts = given.attempts
    """)  # noqa: S608
    parameters = given.rows([item.id, item.attempts, item.reason, item.detail] for item in refused)
    connection.execute(statement, {**parameters, "batch_id": batch_id})


def fail(
    connection: sa.Connection,
    batch_id: int,
    segment_id: int,
    *,
    reason: str,
    detail: str,
    attempts_allowed: int,
) -> int | None:
    """Count an error of the item itself: pending again, or failed for good, where its job's number is returned."""
    mine = (
        Segment.c.id == segment_id,
        Segment.c.batch_id == batch_id,
        Segment.c.state == states.Segment.BATCHED,
    )
    again = (
        sa.update(Segment)
        .where(*mine, Segment.c.attempts + 1 < attempts_allowed)
        .values(
            state=states.Segment.PENDING,
            batch_id=None,
            attempts=Segment.c.attempts + 1,
            reason=reason,
            detail=detail,
        )
    )
    if connection.execute(again).rowcount:
        return None
    for_good = (
        sa.update(Segment)
        .where(*mine)
        .values(
            state=states.Segment.FAILED,
            batch_id=None,
            attempts=Segment.c.attempts + 1,
            reason=reason,
            detail=detail,
        )
        .returning(Segment.c.job_id)
    )
    return connection.execute(for_good).scalar_one_or_none()


def give_back(connection: sa.Connection, batch_id: int, *, interrupted: bool) -> int:
    """Return what is left of a batch to the pending segments: how many. An interruption puts them first."""
    values: dict[str, Any] = {"state": states.Segment.PENDING, "batch_id": None}
    if interrupted:
        values["interruptions"] = Segment.c.interruptions + 1
        values["rank"] = Segment.c.rank - Segment.c.rank % 2
    step = (
        sa.update(Segment)
        .where(Segment.c.batch_id == batch_id, Segment.c.state == states.Segment.BATCHED)
        .values(**values)
    )
    return connection.execute(step).rowcount


def count_loss(connection: sa.Connection, batch_id: int) -> None:
    """Note on what is left of a batch that its worker vanished."""
    mine = (Segment.c.batch_id == batch_id, Segment.c.state == states.Segment.BATCHED)
    connection.execute(sa.update(Segment).where(*mine).values(losses=Segment.c.losses + 1))


def move_to_batch(connection: sa.Connection, ids: Sequence[int], source: int, target: int) -> None:
    """Move what is left of one batch into another."""
    for chunk in takes.chunks(ids):
        connection.execute(
            sa.update(Segment)
            .where(
                Segment.c.id.in_(chunk), Segment.c.batch_id == source, Segment.c.state == states.Segment.BATCHED
            )
            .values(batch_id=target)
        )


def parts(connection: sa.Connection, job_id: int) -> list[Part]:
    """A job's segments with their takes, in the order in which they are heard."""
    query = (
        sa.select(
            Segment.c.position,
            Segment.c.text,
            Segment.c.chapter,
            Segment.c.pause_ms,
            Segment.c.take_key,
            Take.c.samples,
            Take.c.sample_rate,
            Segment.c.reason,
            Segment.c.detail,
            Take.c.gone,
            Take.c.recipe["precision"],
        )
        .join(Take, Take.c.take_key == Segment.c.take_key)
        .where(Segment.c.job_id == job_id)
        .order_by(Segment.c.position)
    )
    return [Part(*row) for row in connection.execute(query)]


def without_sound(connection: sa.Connection, job_id: int) -> list[str]:
    """Takes that segments of a job are done with, and that are known to be gone or not known at all."""
    query = (
        sa.select(Segment.c.take_key)
        .join(Take, Take.c.take_key == Segment.c.take_key, isouter=True)
        .where(Segment.c.job_id == job_id, Segment.c.take_key.is_not(None), Take.c.gone.is_not(False))
        .distinct()
    )
    return sorted(key for key in connection.scalars(query) if key is not None)


def failed(connection: sa.Connection, corpus_id: int) -> Iterator[sa.Row[Any]]:
    """Segments of a corpus that failed for good or need a listen: custom_id, position, text, reason, detail, state."""
    query = (
        sa.select(
            Job.c.custom_id,
            Segment.c.position,
            Segment.c.text,
            Segment.c.reason,
            Segment.c.detail,
            Segment.c.state,
        )
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(
            Job.c.corpus_id == corpus_id,
            sa.or_(
                Segment.c.state == states.Segment.FAILED,
                sa.and_(Segment.c.state == states.Segment.DONE, Segment.c.reason.is_not(None)),
            ),
        )
        .order_by(Job.c.position, Segment.c.position)
    )
    yield from connection.execute(query)  # type: ignore[misc]


def any_pending(connection: sa.Connection, pool: str) -> bool:
    """Whether a pool has segments to be planned."""
    query = sa.select(Segment.c.id).where(
        Segment.c.pool == pool, Segment.c.state == sa.literal_column("'pending'")
    )
    return connection.execute(query.limit(1)).first() is not None


def wanted(connection: sa.Connection, batch_id: int) -> int:
    """How many segments of a batch are still to be rendered; those that were cancelled are not."""
    query = sa.select(sa.func.count()).where(
        Segment.c.batch_id == batch_id, Segment.c.state == states.Segment.BATCHED
    )
    return int(connection.execute(query).scalar_one())
