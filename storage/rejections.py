"""Producers' messages that could not be accepted: kept and explained."""

from typing import Any

import sqlalchemy as sa

from storage.database import now
from storage.models import Rejection

KEPT_BODY = 2000  # characters of a message
KEPT = 10_000  # messages; older ones are forgotten


def keep(connection: sa.Connection, *, corpus: str | None, reason: str, body: str) -> None:
    """Write one down."""
    values = {
        "corpus": corpus and corpus[:200],
        "reason": reason[:2000],
        "body": body[:KEPT_BODY].replace("\x00", ""),
    }
    number = connection.execute(
        sa.insert(Rejection).values(**values, received_at=now()).returning(Rejection.id)
    ).scalar_one()
    connection.execute(sa.delete(Rejection).where(Rejection.id <= number - KEPT))


def newest(connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
    """The last ones: id, corpus, reason, body, received_at."""
    return list(connection.execute(sa.select(Rejection.__table__).order_by(Rejection.id.desc()).limit(limit)))


def count(connection: sa.Connection) -> int:
    """How many are kept."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(Rejection)).scalar_one())
