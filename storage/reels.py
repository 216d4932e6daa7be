"""Reels: stretches of a long programme, encoded by whoever is free and joined by whoever assembles the job.

A reel's key follows from everything that shapes it and its bytes are written once, so leases here only save work: two
workers at one reel write the same object, and marking it done twice is marking it done once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import states
from storage.database import now
from storage.models import Job, Reel


@dataclass(frozen=True, slots=True)
class Claimed:
    """A reel that is ours to make for a while."""

    job_id: int
    deliverable: int
    position: int
    reel_key: str
    recipe: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewReel:
    """A reel that is to be made."""

    deliverable: int  # which of the job's
    position: int  # in the programme
    reel_key: str
    recipe: Mapping[str, Any]


def lay_out(connection: sa.Connection, job_id: int, wanted: Sequence[NewReel]) -> None:
    """Have exactly these reels of a job: what is done of them stays done, whatever else there was is forgotten."""
    query = sa.select(Reel.c.deliverable, Reel.c.position, Reel.c.reel_key).where(Reel.c.job_id == job_id)
    there = {(row.deliverable, row.position): row.reel_key for row in connection.execute(query)}
    if there == {(reel.deliverable, reel.position): reel.reel_key for reel in wanted}:
        return
    forget(connection, job_id)
    rows = [
        {
            "job_id": job_id,
            "deliverable": reel.deliverable,
            "position": reel.position,
            "reel_key": reel.reel_key,
            "recipe": dict(reel.recipe),
            "is_done": False,
        }
        for reel in wanted
    ]
    connection.execute(sa.insert(Reel), rows)


def claim(connection: sa.Connection, owner: str, seconds: float, job_id: int | None = None) -> Claimed | None:
    """Take a reel that nobody is at, of this job or of any that is being assembled; None where there is none."""
    query = (
        sa.select(Reel.c.job_id, Reel.c.deliverable, Reel.c.position, Reel.c.reel_key, Reel.c.recipe)
        .where(~Reel.c.is_done, sa.or_(Reel.c.lease_expires_at.is_(None), Reel.c.lease_expires_at < now()))
        .order_by(Reel.c.job_id, Reel.c.deliverable, Reel.c.position)
        .limit(1)
        .with_for_update(skip_locked=True, of=Reel)
    )
    if job_id is not None:
        query = query.where(Reel.c.job_id == job_id)
    else:
        query = query.join(Job, Job.c.id == Reel.c.job_id).where(Job.c.state == states.Job.ASSEMBLING)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    claimed = Claimed(*row)
    step = sa.update(Reel).where(*_this(claimed))
    connection.execute(step.values(lease_owner=owner, lease_expires_at=now() + seconds))
    return claimed


def renew(connection: sa.Connection, reel: Claimed, owner: str, seconds: float) -> None:
    """Keep a reel for so many more seconds."""
    step = sa.update(Reel).where(*_this(reel), Reel.c.lease_owner == owner)
    connection.execute(step.values(lease_expires_at=now() + seconds))


def finish(connection: sa.Connection, reel: Claimed) -> None:
    """Note that a reel's bytes are in the store."""
    step = sa.update(Reel).where(*_this(reel), Reel.c.reel_key == reel.reel_key)
    connection.execute(step.values(is_done=True, lease_owner=None, lease_expires_at=None))


def release(connection: sa.Connection, reel: Claimed, owner: str) -> None:
    """Give a reel back."""
    step = sa.update(Reel).where(*_this(reel), Reel.c.lease_owner == owner)
    connection.execute(step.values(lease_owner=None, lease_expires_at=None))


def release_of_owners(connection: sa.Connection, owners: Sequence[str]) -> None:
    """Give back the reels of owners who are known to be gone."""
    step = sa.update(Reel).where(Reel.c.lease_owner.in_(owners))
    connection.execute(step.values(lease_owner=None, lease_expires_at=None))


def owners(connection: sa.Connection) -> list[str]:
    """Everybody who is at a reel."""
    return [owner for owner in connection.scalars(sa.select(Reel.c.lease_owner).distinct()) if owner]


def is_any_free(connection: sa.Connection) -> bool:
    """Whether there is a reel that nobody is at: asked often, and without a lock."""
    free = sa.or_(Reel.c.lease_expires_at.is_(None), Reel.c.lease_expires_at < now())
    return (
        connection.execute(sa.select(Reel.c.position).where(~Reel.c.is_done, free).limit(1)).first() is not None
    )


def undone(connection: sa.Connection, job_id: int) -> int:
    """How many of a job's reels are not done."""
    query = sa.select(sa.func.count()).where(Reel.c.job_id == job_id, ~Reel.c.is_done)
    return int(connection.execute(query).scalar_one())


def undo(connection: sa.Connection, job_id: int, reel_keys: Sequence[str]) -> None:
    """Have reels made again whose bytes are gone."""
    step = sa.update(Reel).where(Reel.c.job_id == job_id, Reel.c.reel_key.in_(reel_keys))
    connection.execute(step.values(is_done=False, lease_owner=None, lease_expires_at=None))


def forget(connection: sa.Connection, job_id: int) -> list[str]:
    """Drop a job's reels, which are joined or not wanted any more: their keys."""
    return list(connection.scalars(sa.delete(Reel).where(Reel.c.job_id == job_id).returning(Reel.c.reel_key)))


def keys_in_use(connection: sa.Connection) -> set[str]:
    """The keys of all reels that a job is waiting for."""
    return set(connection.scalars(sa.select(Reel.c.reel_key)))


def prune(connection: sa.Connection) -> int:
    """Drop the reels of jobs that are not on their way to be assembled any more: how many."""
    on_their_way = sa.select(Job.c.id).where(
        Job.c.id == Reel.c.job_id, Job.c.state.in_([states.Job.RENDERED, states.Job.ASSEMBLING])
    )
    return connection.execute(sa.delete(Reel).where(~on_their_way.exists())).rowcount


def _this(reel: Claimed) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        Reel.c.job_id == reel.job_id,
        Reel.c.deliverable == reel.deliverable,
        Reel.c.position == reel.position,
    )
