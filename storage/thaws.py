"""Thaws: jobs whose objects were asked for from an archive, until all of them can be read."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from storage import outbox, pools
from storage.database import now
from storage.models import Corpus, Job, Thaw
from storage.takes import chunks


class State(StrEnum):
    """A thaw."""

    PENDING = "pending"  # asked for; some of its objects cannot be read yet
    READY = "ready"  # all could be read when somebody last looked, and `job.thawed` was written


STEPS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.READY}),
    State.READY: frozenset({State.PENDING}),
}

# Spelled out, so that Postgres may use the partial index.
_IS_PENDING = Thaw.state == sa.literal_column("'pending'")


def ask(connection: sa.Connection, job_ids: Sequence[int], tier: str, days: int, *, anew: bool = True) -> None:
    """Write down that these jobs are asked for. Without `anew`, one that is on its way stays as it was asked for."""
    at = connection.scalar(sa.select(now()))
    insert = pools.upsert(connection, Thaw)
    rows = [
        {"job_id": job_id, "state": State.PENDING, "tier": tier, "days": days, "asked_at": at, "looked_at": at}
        for job_id in sorted(job_ids)
    ]
    for some in chunks(rows):
        names = ("state", "tier", "days", "asked_at", "looked_at")
        values = {name: insert.excluded[name] for name in names} | {"ready_at": None, "until": None}
        replaced = None if anew else Thaw.state != State.PENDING
        step = insert.on_conflict_do_update(index_elements=["job_id"], set_=values, where=replaced)
        connection.execute(step, some)


def take_up(connection: sa.Connection, poll_seconds: float, limit: int) -> list[sa.Row[Any]]:
    """Up to `limit` pending thaws that nobody has looked at for so long, with their jobs' columns; looked at now."""
    due = (
        sa.select(Thaw.id)
        .where(_IS_PENDING, Thaw.looked_at <= now() - poll_seconds)
        .order_by(Thaw.looked_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.scalars(due))
    connection.execute(sa.update(Thaw).where(Thaw.id.in_(ids)).values(looked_at=now()))
    columns = (Thaw.id.label("thaw_id"), Thaw.tier, Thaw.days, Job.__table__)
    query = sa.select(*columns).join(Job, Job.id == Thaw.job_id).where(Thaw.id.in_(ids)).order_by(Thaw.id)
    return list(connection.execute(query))


def any_pending(connection: sa.Connection) -> bool:
    """Whether anything is on its way."""
    return connection.execute(sa.select(Thaw.id).where(_IS_PENDING).limit(1)).first() is not None


def arrive(connection: sa.Connection, job_id: int, until: float | None) -> bool:
    """End a thaw whose objects can all be read, and tell of it. False: nobody had asked, or somebody was quicker."""
    step = (
        sa.update(Thaw)
        .where(Thaw.job_id == job_id, Thaw.state == State.PENDING)
        .values(state=State.READY, ready_at=now(), until=until)
    )
    if connection.execute(step).rowcount != 1:
        return False
    outbox.job_thawed(connection, job_id, until)
    return True


def withdraw(connection: sa.Connection, job_id: int) -> None:
    """Forget a thaw: its job has no finished audio any more."""
    connection.execute(sa.delete(Thaw).where(Thaw.job_id == job_id))


def each(connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
    """Thaws with their job's `custom_id` and its corpus' `corpus`: those on their way first, newest first."""
    query = (
        sa.select(Thaw.__table__, Job.custom_id, Corpus.name.label("corpus"))
        .join(Job, Job.id == Thaw.job_id)
        .join(Corpus, Corpus.id == Job.corpus_id)
        .order_by(Thaw.state, Thaw.asked_at.desc(), Thaw.id.desc())
        .limit(limit)
    )
    return list(connection.execute(query))
