"""Endpoints: the URLs that events are sent to, their secrets, and how they have been doing.

An endpoint is one URL with one secret. It hears of all corpora, or only of those that named it when they were submitted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from storage import errors, pools, signing
from storage.database import now
from storage.models import Delivery, Endpoint, Subscription


class Scope(StrEnum):
    """Which corpora an endpoint hears of."""

    ALL = "all"  # every one
    CORPORA = "corpora"  # those that named it


class UnknownEndpointError(errors.InputError):
    """There is no webhook endpoint {endpoint_id}. `voicemill webhooks list` shows what there is."""


class EndpointExistsError(errors.InputError):
    """{url} is webhook endpoint {endpoint_id} already. To give it other events, `voicemill webhooks remove` it first."""


class EndpointDisabledError(errors.InputError):
    """Webhook endpoint {endpoint_id} is disabled: {reason}. `voicemill webhooks enable {endpoint_id}` first."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An endpoint that was asked for. The secret is there only if it was made for it just now."""

    id: int
    secret: SecretStr | None


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint has been doing; its row is locked."""

    failures: int  # in a row
    failing_seconds: float  # since the first of them
    is_disabled: bool


def add(connection: sa.Connection, url: str, events: Iterable[str] = ()) -> Registered:
    """Register an endpoint for all corpora; for these types of events only, where any are named.

    Raises EndpointExistsError.
    """
    made = _insert(connection, url, Scope.ALL, list(events))
    if made.secret is None:
        raise EndpointExistsError(url=url, endpoint_id=made.id)
    return made


def follow(connection: sa.Connection, corpus_id: int, url: str) -> Registered:
    """Tell this URL of this corpus. An endpoint that is there keeps its secret and its events."""
    made = _insert(connection, url, Scope.CORPORA, [])
    subscribe = pools.upsert(connection, Subscription).values(corpus_id=corpus_id, endpoint_id=made.id)
    connection.execute(subscribe.on_conflict_do_nothing())
    return made


def find(connection: sa.Connection, endpoint_id: int) -> sa.Row[Any]:
    """One endpoint. Raises UnknownEndpointError."""
    row = connection.execute(sa.select(Endpoint).where(Endpoint.c.id == endpoint_id)).one_or_none()
    if row is None:
        raise UnknownEndpointError(endpoint_id=endpoint_id)
    return row


def each(connection: sa.Connection) -> list[sa.Row[Any]]:
    """Every endpoint, oldest first, with the number of events that are still to be delivered as `waiting`."""
    waiting = (
        sa.select(sa.func.count())
        .where(Delivery.c.endpoint_id == Endpoint.c.id, Delivery.c.state.in_(("pending", "sending")))
        .scalar_subquery()
    )
    query = sa.select(Endpoint, waiting.label("waiting")).order_by(Endpoint.c.id)
    return list(connection.execute(query))


def rotate(connection: sa.Connection, endpoint_id: int, keep_seconds: float) -> SecretStr:
    """Give an endpoint a new secret; the old one signs beside it for so many more seconds."""
    find(connection, endpoint_id)
    fresh = signing.new()
    _update(
        connection,
        endpoint_id,
        old_secret=Endpoint.c.secret,
        old_secret_until=now() + keep_seconds,
        secret=fresh,
    )
    return fresh


def live_secrets(row: Any, at: float) -> tuple[SecretStr, ...]:
    """The secrets in an endpoint's columns that sign at a time of the database's clock, the newest first."""
    if row.old_secret is None or row.old_secret_until <= at:
        return (row.secret,)
    return (row.secret, row.old_secret)


def remove(connection: sa.Connection, endpoint_id: int) -> None:
    """Forget an endpoint and everything that was or is to be delivered to it."""
    find(connection, endpoint_id)
    connection.execute(sa.delete(Endpoint).where(Endpoint.c.id == endpoint_id))


def enable(connection: sa.Connection, endpoint_id: int) -> None:
    """Send to an endpoint again, at once and without regard to how it was doing."""
    find(connection, endpoint_id)
    _update(
        connection,
        endpoint_id,
        disabled_at=None,
        disabled_reason=None,
        blocked_until=None,
        failures=0,
        failing_since=None,
    )


def disable(connection: sa.Connection, endpoint_id: int, reason: str) -> None:
    """Send nothing more to an endpoint. What waits for it has failed, and can be delivered again once it is enabled."""
    _update(connection, endpoint_id, disabled_at=now(), disabled_reason=reason)
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.c.endpoint_id == endpoint_id, Delivery.c.state == "pending")
        .values(state="failed", error=f"the endpoint is disabled: {reason}", finished_at=now())
    )


def lock(connection: sa.Connection, endpoint_id: int) -> Health | None:
    """Lock an endpoint's row, so that its failures are counted one after the other. None: it was removed."""
    query = (
        sa.select(
            Endpoint.c.failures,
            sa.func.coalesce(now() - Endpoint.c.failing_since, 0.0).label("failing_seconds"),
            Endpoint.c.disabled_at.is_not(None).label("is_disabled"),
        )
        .where(Endpoint.c.id == endpoint_id)
        .with_for_update(key_share=True)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Health(row.failures, row.failing_seconds, row.is_disabled)


def succeeded(connection: sa.Connection, endpoint_id: int) -> None:
    """Note that an endpoint took an event: whatever it did wrong before is forgotten."""
    step = sa.update(Endpoint).where(Endpoint.c.id == endpoint_id, Endpoint.c.failures > 0)
    connection.execute(step.values(failures=0, failing_since=None))


def failed(connection: sa.Connection, endpoint_id: int, block_seconds: float) -> None:
    """Count a failure of an endpoint, and send it nothing for so many seconds; never less long than before."""
    until = now() + block_seconds
    _update(
        connection,
        endpoint_id,
        failures=Endpoint.c.failures + 1,
        failing_since=sa.func.coalesce(Endpoint.c.failing_since, now()),
        blocked_until=sa.case(
            (Endpoint.c.blocked_until > until, Endpoint.c.blocked_until),
            (sa.literal(block_seconds > 0), until),
            else_=Endpoint.c.blocked_until,
        ),
    )


def _update(connection: sa.Connection, endpoint_id: int, **values: Any) -> None:
    connection.execute(sa.update(Endpoint).where(Endpoint.c.id == endpoint_id).values(**values))


def _insert(connection: sa.Connection, url: str, scope: Scope, events: list[str]) -> Registered:
    secret = signing.new()
    insert = pools.upsert(connection, Endpoint).values(
        url=url, scope=scope.value, events=events, secret=secret, failures=0, created_at=now()
    )
    made = connection.execute(
        insert.on_conflict_do_nothing(index_elements=["url"]).returning(Endpoint.c.id)
    ).scalar_one_or_none()
    if made is not None:
        return Registered(made, secret)
    there = connection.execute(sa.select(Endpoint.c.id).where(Endpoint.c.url == url)).scalar_one()
    return Registered(there, None)
