"""What is known of a pool as a whole: its virtual time for fair queueing, and its measured speed."""

import importlib
from typing import TYPE_CHECKING

import sqlalchemy as sa

from storage.database import now
from storage.models import Clock, Speed

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

SMOOTHING = 0.3  # weight of the newest measurement in the running mean of a pool's speed


def upsert(connection: sa.Connection, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that can say ON CONFLICT, in the connection's dialect."""
    dialect = importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}")  # one of two is loaded
    made: sqlite.Insert | postgresql.Insert = dialect.insert(table)
    return made


def virtual_time(connection: sa.Connection, pool: str, priority: int) -> int:
    """The largest start tag planned so far in a priority class, in tokens; 0 where nothing was planned yet."""
    query = sa.select(Clock.c.virtual_time).where(Clock.c.pool == pool, Clock.c.priority == priority)
    return connection.execute(query).scalar_one_or_none() or 0


def advance(connection: sa.Connection, pool: str, priority: int, start_tag: int) -> None:
    """Move a priority class' virtual time on; it never goes back."""
    insert = upsert(connection, Clock).values(pool=pool, priority=priority, virtual_time=start_tag)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["pool", "priority"],
            set_={"virtual_time": insert.excluded.virtual_time},
            where=Clock.c.virtual_time < insert.excluded.virtual_time,
        )
    )


def speed(connection: sa.Connection, pool: str) -> float | None:
    """Tokens a second that one worker of the pool renders, None where nobody measured it yet."""
    return connection.execute(
        sa.select(Speed.c.tokens_per_second).where(Speed.c.pool == pool)
    ).scalar_one_or_none()


def measured(connection: sa.Connection, pool: str, tokens_per_second: float) -> None:
    """Take one batch's speed into the pool's running mean."""
    insert = upsert(connection, Speed).values(pool=pool, tokens_per_second=tokens_per_second, updated_at=now())
    mean = Speed.c.tokens_per_second * (1 - SMOOTHING) + insert.excluded.tokens_per_second * SMOOTHING
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["pool"], set_={"tokens_per_second": mean, "updated_at": insert.excluded.updated_at}
        )
    )
