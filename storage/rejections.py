"""Producers' messages that could not be accepted: counted, kept and explained."""

import re
from typing import Any

import sqlalchemy as sa

from storage.database import now
from storage.models import Rejection

KEPT_CORPUS = 200  # characters
KEPT_REASON = 2000
KEPT_BODY = 2000
KEPT = 10_000  # messages; older ones are forgotten
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # Postgres takes no NUL, and nothing takes half a character


def keep(connection: sa.Connection, *, corpus: str | None, reason: str, body: str) -> None:
    """Write one down, whatever it says: a message that could not be rejected would come again for ever."""
    values = {
        "corpus": corpus and _storable(corpus, KEPT_CORPUS),
        "reason": _storable(reason, KEPT_REASON),
        "body": _storable(body, KEPT_BODY),
    }
    number = connection.execute(
        sa.insert(Rejection).values(**values, received_at=now()).returning(Rejection.c.id)
    ).scalar_one()
    connection.execute(sa.delete(Rejection).where(Rejection.c.id <= number - KEPT))


def newest(connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
    """The last ones: id, corpus, reason, body, received_at."""
    return list(connection.execute(sa.select(Rejection).order_by(Rejection.c.id.desc()).limit(limit)))


def kept(connection: sa.Connection) -> int:
    """How many are kept."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(Rejection)).scalar_one())


def total(connection: sa.Connection) -> int:
    """How many there ever were: the newest one's number. One that a crash of the database undid may count, too."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(Rejection.c.id), 0))).scalar_one())


def _storable(text: str, limit: int) -> str:
    return _NO_TEXT.sub("", text[:limit])
