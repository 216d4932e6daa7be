"""The workers that are alive, as far as the database knows."""

import sqlalchemy as sa

from storage import pools
from storage.database import now
from storage.models import Worker


def beat(connection: sa.Connection, name: str, pool: str) -> None:
    """Say that a worker lives."""
    insert = pools.upsert(connection, Worker).values(name=name, pool=pool, started_at=now(), seen_at=now())
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["name"], set_={"pool": pool, "seen_at": insert.excluded.seen_at}
        )
    )


def leave(connection: sa.Connection, name: str) -> None:
    """Say that a worker has gone."""
    connection.execute(sa.delete(Worker).where(Worker.c.name == name))


def alive(connection: sa.Connection, pool: str, within: float) -> int:
    """Workers of a pool seen in the last so many seconds."""
    query = sa.select(sa.func.count()).where(Worker.c.pool == pool, Worker.c.seen_at > now() - within)
    return int(connection.execute(query).scalar_one())


def members(connection: sa.Connection, within: float) -> list[sa.Row[tuple[str, str, float, float]]]:
    """Every live worker: name, pool, started_at, seen_at."""
    query = (
        sa.select(Worker.c.name, Worker.c.pool, Worker.c.started_at, Worker.c.seen_at)
        .where(Worker.c.seen_at > now() - within)
        .order_by(Worker.c.name)
    )
    return list(connection.execute(query))


def prune(connection: sa.Connection, older_than: float) -> int:
    """Forget workers not seen for so many seconds: how many."""
    return connection.execute(sa.delete(Worker).where(Worker.c.seen_at < now() - older_than)).rowcount
