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
_IS_PENDING = Thaw.c.state == sa.literal_column("'pending'")


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
        replaced = None if anew else Thaw.c.state != State.PENDING
        step = insert.on_conflict_do_update(index_elements=["job_id"], set_=values, where=replaced)
        connection.execute(step, some)


def take_up(connection: sa.Connection, poll_seconds: float, limit: int) -> list[sa.Row[Any]]:
    """Up to `limit` pending thaws that nobody has looked at for so long, with their jobs' columns; looked at now."""
    due = (
        sa.select(Thaw.c.id)
        .where(_IS_PENDING, Thaw.c.looked_at <= now() - poll_seconds)
        .order_by(Thaw.c.looked_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.scalars(due))
    connection.execute(sa.update(Thaw).where(Thaw.c.id.in_(ids)).values(looked_at=now()))
    columns = (Thaw.c.id.label("thaw_id"), Thaw.c.tier, Thaw.c.days, Job)
    query = (
        sa.select(*columns).join(Job, Job.c.id == Thaw.c.job_id).where(Thaw.c.id.in_(ids)).order_by(Thaw.c.id)
    )
    return list(connection.execute(query))


def any_pending(connection: sa.Connection) -> bool:
    """Whether anything is on its way."""
    return connection.execute(sa.select(Thaw.c.id).where(_IS_PENDING).limit(1)).first() is not None


def arrive(connection: sa.Connection, job_id: int, until: float | None) -> bool:
    """End a thaw whose objects can all be read, and tell of it. False: nobody had asked, or somebody was quicker."""
    step = (
        sa.update(Thaw)
        .where(Thaw.c.job_id == job_id, Thaw.c.state == State.PENDING)
        .values(state=State.READY, ready_at=now(), until=until)
    )
    if connection.execute(step).rowcount != 1:
        return False
    outbox.job_thawed(connection, job_id, until)
    return True


def withdraw(connection: sa.Connection, job_id: int) -> None:
    """Forget a thaw: its job has no finished audio any more."""
    connection.execute(sa.delete(Thaw).where(Thaw.c.job_id == job_id))


def each(connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
    """Thaws with their job's `custom_id` and its corpus' `corpus`: those on their way first, newest first."""
    query = (
        sa.select(Thaw, Job.c.custom_id, Corpus.c.name.label("corpus"))
        .join(Job, Job.c.id == Thaw.c.job_id)
        .join(Corpus, Corpus.c.id == Job.c.corpus_id)
        .order_by(Thaw.c.state, Thaw.c.asked_at.desc(), Thaw.c.id.desc())
        .limit(limit)
    )
    return list(connection.execute(query))
