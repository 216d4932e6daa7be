"""What a report tells, as the tables have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import jobs, results, segments, states
from storage.models import Job, Segment, Take

BARS = 60  # columns of the chart, at most
WIDTHS = (
    60,
    300,
    600,
    1800,
    3600,
    3 * 3600,
    6 * 3600,
    24 * 3600,
    7 * 24 * 3600,
)  # seconds; an hour where it fits
POINTS = 1200  # takes in the chart of lengths
JOBS = 200  # lines of the table
FAILURES = 50


@dataclass(frozen=True, slots=True)
class Column:
    """What was rendered in one stretch of time."""

    at: float  # seconds since 1970: where it begins
    takes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Point:
    """A take in the chart of lengths."""

    characters: int
    seconds: float
    flagged: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """One corpus in numbers. Lengths in seconds; times in seconds since 1970."""

    summary: Mapping[str, Any]  # as `status --json` prints it
    as_of: float
    columns: Sequence[Column]
    column_seconds: int
    rendered_takes: int  # for this corpus
    rendered_seconds: float  # of audio, without pauses
    known_takes: int  # rendered before it came, for another one
    span_seconds: float  # from its first take to its last
    worker_seconds: float
    retried_segments: int  # rendered again because an attempt failed
    retries: int  # such attempts
    interruptions: int  # attempts that a lost or stopped worker had begun
    redone: int  # had again by a person
    flags: Mapping[str, int]  # takes that need a listen, by reason
    price_per_hour: float | None
    points: Sequence[Point]
    jobs: Sequence[Mapping[str, Any]]
    jobs_left_out: int
    failures: Sequence[Mapping[str, Any]]

    @property
    def real_time(self) -> float | None:
        """Seconds of audio that one worker rendered in a second; None where nothing was."""
        return self.rendered_seconds / self.worker_seconds if self.worker_seconds else None

    @property
    def cost(self) -> float | None:
        """What rendering took, in the currency of the price; None where there is none."""
        return None if self.price_per_hour is None else self.price_per_hour * self.worker_seconds / 3600

    @property
    def cost_per_audio_hour(self) -> float | None:
        """The cost by the audio that came of it, what failed and was interrupted included."""
        seconds = self.summary["audio_seconds"]
        return None if self.cost is None or not seconds else self.cost / seconds * 3600


def gather(
    connection: sa.Connection, corpus: sa.Row[Any], *, as_of: float, price_per_hour: float | None
) -> Facts:
    """Everything about a corpus that a report needs, the sound apart."""
    mine = _takes(corpus.id).where(Take.c.created_at >= corpus.created_at - 1).subquery()
    totals = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(mine.c.seconds), 0.0),
            sa.func.min(mine.c.created_at),
            sa.func.max(mine.c.created_at),
        )
    ).one()
    takes, seconds, first, last = totals
    everything = connection.scalar(sa.select(sa.func.count()).select_from(_takes(corpus.id).subquery())) or 0
    width, columns = _columns(connection, mine, first, last)
    counts = connection.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(sa.case((Segment.c.attempts > 0, 1), else_=0)), 0),
            sa.func.coalesce(sa.func.sum(Segment.c.attempts), 0),
            sa.func.coalesce(sa.func.sum(Segment.c.interruptions), 0),
            sa.func.coalesce(sa.func.sum(Segment.c.redone), 0),
        )
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(Job.c.corpus_id == corpus.id)
    ).one()
    listed = list(_jobs(connection, corpus.id))
    return Facts(
        summary=results.corpus_summary(connection, corpus),
        as_of=as_of,
        columns=columns,
        column_seconds=width,
        rendered_takes=takes,
        rendered_seconds=float(seconds),
        known_takes=everything - takes,
        span_seconds=float(last - first) if takes else 0.0,
        worker_seconds=corpus.worker_seconds,
        retried_segments=int(counts[0]),
        retries=int(counts[1]),
        interruptions=int(counts[2]),
        redone=int(counts[3]),
        flags=_flags(connection, corpus.id),
        price_per_hour=price_per_hour,
        points=_points(connection, corpus.id),
        jobs=listed[:JOBS],
        jobs_left_out=max(0, len(listed) - JOBS),
        failures=_failures(connection, corpus.id),
    )


def _takes(corpus_id: int) -> sa.Select[Any]:
    """Each take that a corpus' segments have, once."""
    query: Any = (
        sa.select(
            Take.c.take_key,
            Take.c.created_at,
            (sa.cast(Take.c.samples, sa.Double()) / Take.c.sample_rate).label("seconds"),
        )
        .join(Segment, Segment.c.take_key == Take.c.take_key)
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(Job.c.corpus_id == corpus_id)
        .distinct()
    )
    return query  # type: ignore[no-any-return]


def _columns(
    connection: sa.Connection, mine: sa.Subquery, first: float | None, last: float | None
) -> tuple[int, list[Column]]:
    """Audio by hour; by less where all of it took less than three, by more where it took days. Empty ones included."""
    if first is None or last is None:
        return 3600, []
    width = next(
        (width for width in WIDTHS if last - first <= 3 * 3600 and (last - first) / width <= BARS), None
    )
    if width is None:
        width = next((w for w in WIDTHS if w >= 3600 and (last - first) / w <= BARS), WIDTHS[-1])
    origin = int(first // width * width)
    number = (sa.cast(mine.c.created_at - origin - 0.5, sa.BigInteger()) // width).label("number")
    query = sa.select(number, sa.func.count(), sa.func.sum(mine.c.seconds)).group_by(number)
    found = {int(row[0]): (int(row[1]), float(row[2])) for row in connection.execute(query)}
    return width, [
        Column(origin + at * width, *found.get(at, (0, 0.0))) for at in range(min(found), max(found) + 1)
    ]


def _flags(connection: sa.Connection, corpus_id: int) -> dict[str, int]:
    query = (
        sa.select(Segment.c.reason, sa.func.count())
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(
            Job.c.corpus_id == corpus_id, Segment.c.state == states.Segment.DONE, Segment.c.reason.is_not(None)
        )
        .group_by(Segment.c.reason)
        .order_by(sa.func.count().desc(), Segment.c.reason)
    )
    return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def _points(connection: sa.Connection, corpus_id: int) -> list[Point]:
    """Takes to be drawn: all that need a listen, and of the others every so-manieth."""
    query = (
        sa.select(
            sa.func.length(Segment.c.text),
            sa.cast(Take.c.samples, sa.Double()) / Take.c.sample_rate,
            Segment.c.reason.is_not(None),
        )
        .join(Take, Take.c.take_key == Segment.c.take_key)
        .join(Job, Job.c.id == Segment.c.job_id)
        .where(Job.c.corpus_id == corpus_id)
    )
    total = sa.select(sa.func.coalesce(sa.func.sum(Job.c.segments_total), 0)).where(
        Job.c.corpus_id == corpus_id
    )
    every = max(1, -(-int(connection.execute(total).scalar_one()) // POINTS))
    thinned = query.where(sa.or_(Segment.c.reason.is_not(None), Segment.c.id % every == 0))
    rows = connection.execute(thinned.order_by(Segment.c.reason.is_(None), Segment.c.id).limit(2 * POINTS))
    return [Point(int(row[0]), float(row[1]), bool(row[2])) for row in rows]


def _jobs(connection: sa.Connection, corpus_id: int) -> list[Mapping[str, Any]]:
    """The jobs, those that a person should look at first."""
    urgent = (states.Job.FAILED, states.Job.NEEDS_REVIEW, states.Job.CANCELLED)
    rows = sorted(jobs.each(connection, corpus_id), key=lambda row: row.state not in urgent)
    return [
        {
            "id": row.custom_id,
            "title": row.options.get("title"),
            "state": row.state,
            "segments": row.segments_total,
            "segments_done": row.segments_done,
            "seconds": row.samples / row.sample_rate if row.samples else None,
            "detail": row.detail,
        }
        for row in rows
    ]


def _failures(connection: sa.Connection, corpus_id: int) -> list[Mapping[str, Any]]:
    found = [row for row in segments.failed(connection, corpus_id) if row.state == states.Segment.FAILED]
    return [dict(row._mapping) for row in found[:FAILURES]]
