"""Batches and their leases: who may write what a batch rendered.

A lease has a number that grows with every claim. Whatever a worker writes for a batch first asks whether its number
is still the newest (`fence`), so a worker that slept through the end of its lease cannot write any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import errors, segments, states
from storage.database import now
from storage.models import Batch

SUSPECT_AFTER = 3  # losses: one or two may well be their machines' fault


class LeaseLostError(errors.VoicemillError):
    """The lease on batch {batch_id} is lost: another worker goes on with it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim on a batch."""

    batch_id: int
    number: int
    segments_total: int
    tokens_estimate: int


def create(
    connection: sa.Connection,
    pool: str,
    priority: int,
    chosen: Sequence[segments.Candidate | segments.Work],
    *,
    suspect: bool = False,
) -> int:
    """A batch of pending segments: its number."""
    batch_id = _insert(connection, pool, priority, chosen, suspect=suspect)
    segments.put_in_batch(connection, [item.id for item in chosen], batch_id)
    return batch_id


def claim(connection: sa.Connection, batch_id: int, owner: str, seconds: float) -> Lease | None:
    """Take the lease of a batch that is ready, or whose lease has run out. None: somebody has it, or it is finished."""
    free = sa.or_(
        Batch.c.state == states.Batch.READY,
        sa.and_(Batch.c.state == states.Batch.LEASED, Batch.c.lease_expires_at < now()),
    )
    step = (
        sa.update(Batch)
        .where(Batch.c.id == batch_id, free)
        .values(
            state=states.Batch.LEASED,
            lease_owner=owner,
            lease_number=Batch.c.lease_number + 1,
            lease_expires_at=now() + seconds,
        )
        .returning(Batch.c.id, Batch.c.lease_number, Batch.c.segments_total, Batch.c.tokens_estimate)
    )
    row = connection.execute(step).one_or_none()
    return None if row is None else Lease(*row)


def next_ready(connection: sa.Connection, pool: str, rather: int = 0) -> int | None:
    """The most urgent batch of a pool that waits for a worker: of equals `rather` that one, else the oldest."""
    query = (
        sa.select(Batch.c.id)
        .where(Batch.c.pool == pool, Batch.c.state == states.Batch.READY)
        .order_by(Batch.c.priority, Batch.c.id != rather, Batch.c.id)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def is_suspect(connection: sa.Connection, batch_id: int) -> bool:
    """Whether a batch is to be rendered with nothing beside it."""
    return bool(connection.scalar(sa.select(Batch.c.suspect).where(Batch.c.id == batch_id)))


def fence(connection: sa.Connection, lease: Lease) -> None:
    """Lock a batch's row if the lease still holds. Raises LeaseLostError."""
    query = (
        sa.select(Batch.c.id)
        .where(
            Batch.c.id == lease.batch_id,
            Batch.c.lease_number == lease.number,
            Batch.c.state == states.Batch.LEASED,
        )
        .with_for_update()
    )
    if connection.execute(query).one_or_none() is None:
        raise LeaseLostError(batch_id=lease.batch_id)


def renew(connection: sa.Connection, lease: Lease, seconds: float) -> None:
    """Keep a lease for so many more seconds. Raises LeaseLostError."""
    step = (
        sa.update(Batch)
        .where(
            Batch.c.id == lease.batch_id,
            Batch.c.lease_number == lease.number,
            Batch.c.state == states.Batch.LEASED,
        )
        .values(lease_expires_at=now() + seconds)
    )
    if connection.execute(step).rowcount != 1:
        raise LeaseLostError(batch_id=lease.batch_id)


def close(connection: sa.Connection, batch_id: int, outcome: states.Outcome) -> int:
    """Finish a batch; what is left in it is pending again: how many segments. The caller holds the fence."""
    interrupted = outcome in (states.Outcome.INTERRUPTED, states.Outcome.LOST, states.Outcome.CANCELLED)
    returned = segments.give_back(connection, batch_id, interrupted=interrupted)
    connection.execute(
        sa.update(Batch)
        .where(Batch.c.id == batch_id)
        .values(
            state=states.Batch.FINISHED,
            outcome=outcome,
            lease_owner=None,
            lease_expires_at=None,
            finished_at=now(),
        )
    )
    return returned


def lose(connection: sa.Connection, batch_id: int, losses_allowed: int) -> tuple[int, int | None]:
    """Finish a batch whose worker vanished: how many segments are pending again, and a job that failed with it, if any.

    Segments that were lost several times may hold one that takes its worker with it. They go on in batches of their own,
    two halves that are rendered with nothing beside them, and so on, until that segment is alone: lost then, and
    `losses_allowed` times in all, it fails for good.
    """
    segments.count_loss(connection, batch_id)
    row = connection.execute(sa.select(Batch).where(Batch.c.id == batch_id)).one()
    left = segments.of_batch(connection, batch_id)
    if row.suspect and len(left) == 1 and left[0].losses >= losses_allowed:
        detail = f"its worker vanished {left[0].losses} times while it was rendered"
        job_id = segments.fail(
            connection, batch_id, left[0].id, reason="crashed", detail=detail, attempts_allowed=0
        )
        return close(connection, batch_id, states.Outcome.LOST), job_id
    close(connection, batch_id, states.Outcome.LOST)
    for half in _halves([work for work in left if work.losses >= SUSPECT_AFTER]):
        create(connection, row.pool, row.priority, half, suspect=True)
    return len(left), None


def split(connection: sa.Connection, lease: Lease) -> list[int]:
    """Finish a batch on which the engine broke and put its two halves in new ones: a poisonous item is found by halving.

    They are rendered with nothing beside them: two batches on one engine break together. The caller holds the fence.
    """
    row = connection.execute(sa.select(Batch).where(Batch.c.id == lease.batch_id)).one()
    made = []
    for half in _halves(segments.of_batch(connection, lease.batch_id)):
        new = _insert(connection, row.pool, row.priority, half, suspect=True)
        segments.move_to_batch(connection, [item.id for item in half], lease.batch_id, new)
        made.append(new)
    close(connection, lease.batch_id, states.Outcome.SPLIT)
    return made


def _halves(works: Sequence[segments.Work]) -> list[Sequence[segments.Work]]:
    middle = (len(works) + 1) // 2
    return [half for half in (works[:middle], works[middle:]) if half]


def outstanding(connection: sa.Connection, pool: str) -> int:
    """Batches of a pool that are not finished."""
    query = sa.select(sa.func.count()).where(Batch.c.pool == pool, Batch.c.state != states.Batch.FINISHED)
    return int(connection.execute(query).scalar_one())


def last_planned(connection: sa.Connection, pool: str) -> float | None:
    """When the newest unfinished batch of a pool was planned, in seconds ago."""
    query = sa.select(now() - sa.func.max(Batch.c.created_at)).where(
        Batch.c.pool == pool, Batch.c.state != states.Batch.FINISHED
    )
    return connection.execute(query).scalar_one_or_none()


def expired(connection: sa.Connection, *, of_owners: Sequence[str] = (), limit: int = 1000) -> list[int]:
    """Batches whose lease has run out, or is held by one of these owners, who are known to be gone. Locked, on Postgres."""
    gone = Batch.c.lease_expires_at < now()
    if of_owners:
        gone = sa.or_(gone, Batch.c.lease_owner.in_(of_owners))
    query = (
        sa.select(Batch.c.id)
        .where(Batch.c.state == states.Batch.LEASED, gone)
        .order_by(Batch.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(connection.scalars(query))


def owners(connection: sa.Connection) -> list[str]:
    """Everybody who holds a lease on a batch."""
    query = sa.select(Batch.c.lease_owner).where(Batch.c.state == states.Batch.LEASED).distinct()
    return [owner for owner in connection.scalars(query) if owner]


def unpublished(connection: sa.Connection, older_than: float, limit: int = 1000) -> list[sa.Row[Any]]:
    """Batches that are ready and whose message was not handed over in the last so many seconds: id, pool, priority."""
    query = (
        sa.select(Batch.c.id, Batch.c.pool, Batch.c.priority)
        .where(
            Batch.c.state == states.Batch.READY,
            sa.or_(Batch.c.published_at.is_(None), Batch.c.published_at < now() - older_than),
        )
        .order_by(Batch.c.priority, Batch.c.id)
        .limit(limit)
    )
    return list(connection.execute(query))


def published(connection: sa.Connection, batch_ids: Sequence[int]) -> None:
    """Note that messages for these batches are with the broker."""
    connection.execute(sa.update(Batch).where(Batch.c.id.in_(batch_ids)).values(published_at=now()))


def prune(connection: sa.Connection, older_than: float) -> int:
    """Forget batches that were finished so many seconds ago: how many."""
    return connection.execute(
        sa.delete(Batch).where(Batch.c.state == states.Batch.FINISHED, Batch.c.finished_at < now() - older_than)
    ).rowcount


def _insert(
    connection: sa.Connection,
    pool: str,
    priority: int,
    chosen: Sequence[segments.Candidate | segments.Work],
    *,
    suspect: bool,
) -> int:
    values = {
        "pool": pool,
        "priority": priority,
        "suspect": suspect,
        "segments_total": len(chosen),
        "tokens_estimate": sum(item.tokens_estimate for item in chosen),
        "created_at": now(),
    }
    return int(connection.execute(sa.insert(Batch).values(**values).returning(Batch.c.id)).scalar_one())


def described(connection: sa.Connection, batch_ids: Sequence[int]) -> list[sa.Row[Any]]:
    """Those of these batches that wait for a worker: id, pool, segments_total, tokens_estimate."""
    query = (
        sa.select(Batch.c.id, Batch.c.pool, Batch.c.segments_total, Batch.c.tokens_estimate)
        .where(Batch.c.id.in_(batch_ids), Batch.c.state == states.Batch.READY)
        .order_by(Batch.c.priority, Batch.c.id)
    )
    return list(connection.execute(query))
