"""Takes and partials: what has been rendered, and how far what was interrupted had got."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from storage import given, pools
from storage.database import now
from storage.models import Partial, Take

CHUNK = 1000  # keys asked for in one query
APPROVED = "approved"  # among a take's metrics: a person has found it good

Item = TypeVar("Item")

_COLUMNS = {
    "take_key": "text",
    "engine": "text",
    "sample_rate": "bigint",
    "samples": "bigint",
    "tokens": "bigint",
    "has_codes": "boolean",
    "metrics": "json",
    "recipe": "json",
}


class TakesGoneError(Exception):
    """Takes that segments are done with are not in the store, or not as they were recorded."""

    def __init__(self, take_keys: Sequence[str]) -> None:
        super().__init__(f"{len(take_keys)} takes are gone from the store")
        self.take_keys = take_keys


@dataclass(frozen=True, slots=True)
class NewTake:
    """A take whose bytes are in the store already, about to be recorded."""

    take_key: str
    engine: str
    sample_rate: int
    samples: int
    tokens: int
    has_codes: bool
    metrics: Mapping[str, Any]
    recipe: Mapping[str, Any] | None = None  # what its codes need besides to become the same sound again


@dataclass(frozen=True, slots=True)
class Gone:
    """A take that was rendered once and whose sound is gone from the store; its codes may be there."""

    take_key: str
    sample_rate: int
    tokens: int
    has_codes: bool
    recipe: Mapping[str, Any] | None


def known(connection: sa.Connection, keys: Iterable[str]) -> set[str]:
    """Which of these takes exist."""
    query = sa.select(Take.c.take_key).where(_among(connection, keys), Take.c.gone.is_(False))
    return set(connection.scalars(query))


def lose(connection: sa.Connection, keys: Sequence[str]) -> None:
    """Note that the sound of these takes is gone. The rows stay: others refer to them, and know how to make it again."""
    connection.execute(sa.update(Take).where(_among(connection, keys)).values(gone=True))


def gone(connection: sa.Connection, keys: Iterable[str]) -> list[Gone]:
    """Those of these takes whose sound is gone."""
    columns = (Take.c.take_key, Take.c.sample_rate, Take.c.tokens, Take.c.has_codes, Take.c.recipe)
    query = sa.select(*columns).where(_among(connection, keys), Take.c.gone.is_(True)).order_by(Take.c.take_key)
    return [Gone(*row) for row in connection.execute(query)]


def metrics(connection: sa.Connection, keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """What was measured of those of these takes that exist, by take key."""
    query = sa.select(Take.c.take_key, Take.c.metrics).where(_among(connection, keys), Take.c.gone.is_(False))
    return {row.take_key: row.metrics for row in connection.execute(query)}


def approve(connection: sa.Connection, keys: Sequence[str]) -> None:
    """Note that a person has listened to these takes and found them good: no check speaks against them any more."""
    for key, measured in sorted(metrics(connection, keys).items()):
        step = sa.update(Take).where(Take.c.take_key == key)
        connection.execute(step.values(metrics={**measured, APPROVED: True}))


def record(connection: sa.Connection, new: Sequence[NewTake]) -> None:
    """Write down stored takes and forget their partials. One that is known, and not gone, stays as it was."""
    if not new:
        return
    rows = [
        [dict(take.metrics) if name == "metrics" else getattr(take, name) for name in _COLUMNS]
        for take in sorted(new, key=lambda take: take.take_key)  # one order everywhere: no deadlocks
    ]
    names = ", ".join(_COLUMNS)
    renewed = ", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS, "created_at"))
    at = now().compile(dialect=connection.dialect)
    connection.execute(
        sa.text(
            f"INSERT INTO takes ({names}, created_at) SELECT {names}, {at} FROM {given.table(connection, _COLUMNS)}"  # noqa: S608
            f" WHERE true ON CONFLICT (take_key) DO UPDATE SET {renewed}, gone = false WHERE takes.gone"
        ),
        given.rows(rows),
    )
    forget(connection, [take.take_key for take in new])


def forget(connection: sa.Connection, keys: Sequence[str]) -> None:
    """Drop the partials of takes that are finished or not wanted."""
    if keys:
        connection.execute(sa.delete(Partial).where(_among(connection, keys)))


def prune_partials(connection: sa.Connection, keep: float) -> None:
    """Drop partials that nobody has touched for so many seconds, and those of takes that exist.

    One may be kept in the moment in which another worker records the take.
    """
    recorded = sa.exists().where(Take.c.take_key == Partial.c.take_key, Take.c.gone.is_(False))
    connection.execute(sa.delete(Partial).where(sa.or_(recorded, Partial.c.updated_at < now() - keep)))


def partials(connection: sa.Connection, keys: Iterable[str]) -> dict[str, bytes]:
    """How far interrupted takes had got, by take key."""
    query = sa.select(Partial.c.take_key, Partial.c.state).where(_among(connection, keys))
    return {row.take_key: row.state for row in connection.execute(query)}


def keep_partials(connection: sa.Connection, states: Mapping[str, tuple[bytes, int]]) -> None:
    """Store partials (state, tokens) by take key; one that is further on is never replaced by a shorter one."""
    done = known(connection, states)  # a checkpoint may come later than the take itself
    states = {key: state for key, state in states.items() if key not in done}
    if not states:
        return
    at = connection.scalar(sa.select(now()))
    rows = [
        {"take_key": key, "state": state, "tokens": tokens, "updated_at": at}
        for key, (state, tokens) in sorted(states.items())
    ]
    insert = pools.upsert(connection, Partial)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["take_key"],
            set_={name: insert.excluded[name] for name in ("state", "tokens", "updated_at")},
            where=Partial.c.tokens < insert.excluded.tokens,
        ),
        rows,
    )


def _among(connection: sa.Connection, keys: Iterable[str]) -> sa.TextClause:
    keys_given = given.table(connection, {"take_key": "text"})
    condition = sa.text(f"take_key IN (SELECT given.take_key FROM {keys_given})")  # noqa: S608
    return condition.bindparams(**given.rows([key] for key in keys))


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """A sequence in pieces that fit one query."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
