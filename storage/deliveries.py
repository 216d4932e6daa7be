"""Deliveries: each event on its way to each endpoint, claimed under a lease, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from storage import endpoints, errors
from storage.database import now
from storage.models import Delivery, Endpoint, Event

AT_ONCE = 4  # deliveries under way to one endpoint; to one that failed last time, a single one


class State(StrEnum):
    """A delivery: one event for one endpoint."""

    PENDING = "pending"  # is sent when it is due and its endpoint is not blocked
    SENDING = "sending"  # a deliverer holds its lease
    DELIVERED = "delivered"  # the endpoint answered 2xx
    FAILED = "failed"  # its attempts are used up, or its endpoint was disabled


STEPS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.SENDING, State.FAILED}),
    State.SENDING: frozenset({State.SENDING, State.DELIVERED, State.PENDING, State.FAILED}),
    State.DELIVERED: frozenset({State.PENDING}),
    State.FAILED: frozenset({State.PENDING}),
}

# Spelled out and not as parameters, so that Postgres may use the partial indexes.
IS_OPEN = Delivery.c.state.in_([sa.literal_column("'pending'"), sa.literal_column("'sending'")])
_IS_SENDING = sa.and_(Delivery.c.state == sa.literal_column("'sending'"), Delivery.c.due_at > now())
_ROOM = sa.case((Endpoint.c.failures == 0, AT_ONCE), else_=1)


class UnknownDeliveryError(errors.InputError):
    """There is no delivery {delivery_id}. `voicemill webhooks deliveries` shows what there is."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One attempt of a delivery, ours until its lease ends."""

    id: int
    lease_number: int
    endpoint_id: int
    url: str
    secrets: tuple[SecretStr, ...]  # that sign, the newest first
    message_id: str
    body: str
    attempts: int  # made before this one
    at: float  # now, by the database's clock


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt came to."""

    status: int | None  # of the response, None where there was none
    error: str | None  # None where the endpoint took the event
    answer: str | None  # the beginning of the response's body


def is_due(connection: sa.Connection) -> bool:
    """Whether there is anything to claim, or would be if nobody else had claimed it just now."""
    return connection.execute(_ready().limit(1)).first() is not None


def claim(connection: sa.Connection, limit: int, seconds: float) -> list[Claimed]:
    """Take up to so many deliveries that are due, each under a lease of so many seconds.

    One dead endpoint cannot take all places: of each only a few are under way at a time, and a single one after a failure.
    """
    mine: list[int] = []
    for endpoint_id, room in connection.execute(
        _ready().with_for_update(key_share=True, skip_locked=True)
    ).all():
        if len(mine) < limit:
            mine += _take(connection, endpoint_id, room, limit - len(mine), seconds)
    return _claimed(connection, mine)


def succeed(connection: sa.Connection, claimed: Claimed, attempt: Attempt) -> bool:
    """Record that the endpoint took it. False: the lease was lost, somebody else has recorded the delivery."""
    return _record(connection, claimed, attempt, state=State.DELIVERED.value, finished_at=now())


def fail(connection: sa.Connection, claimed: Claimed, attempt: Attempt, retry_seconds: float | None) -> bool:
    """Record that it did not, to be tried again after so many seconds, or never. False: the lease was lost."""
    if retry_seconds is None:
        return _record(connection, claimed, attempt, state=State.FAILED.value, finished_at=now())
    return _record(connection, claimed, attempt, state=State.PENDING.value, due_at=now() + retry_seconds)


def latest(
    connection: sa.Connection,
    *,
    limit: int,
    state: State | None = None,
    endpoint_id: int | None = None,
    delivery_id: int | None = None,
) -> list[sa.Row[Any]]:
    """Deliveries, newest first, with their event's `message_id`, `type` and `created_at` and their endpoint's `url`."""
    query = (
        sa.select(Delivery, Event.c.message_id, Event.c.type, Event.c.created_at, Endpoint.c.url)
        .join(Event, Event.c.id == Delivery.c.event_id)
        .join(Endpoint, Endpoint.c.id == Delivery.c.endpoint_id)
    )
    for column, wanted in (
        (Delivery.c.state, state), (Delivery.c.endpoint_id, endpoint_id), (Delivery.c.id, delivery_id)
    ):  # fmt: skip
        if wanted is not None:
            query = query.where(column == wanted)
    return list(connection.execute(query.order_by(Delivery.c.id.desc()).limit(limit)))


def redeliver(connection: sa.Connection, delivery_id: int) -> bool:
    """Send an event once more, with the same id and all its attempts, as soon as may be. False: it is being sent now.

    Raises UnknownDeliveryError, EndpointDisabledError.
    """
    query = sa.select(Delivery.c.endpoint_id).where(Delivery.c.id == delivery_id)
    endpoint_id = connection.execute(query).scalar_one_or_none()
    if endpoint_id is None:
        raise UnknownDeliveryError(delivery_id=delivery_id)
    return _again(connection, endpoint_id, Delivery.c.id == delivery_id, Delivery.c.state != State.SENDING) == 1


def redeliver_failed(connection: sa.Connection, endpoint_id: int) -> int:
    """Send everything once more that could not be delivered to an endpoint: how much. Raises as `redeliver` does."""
    return _again(
        connection, endpoint_id, Delivery.c.endpoint_id == endpoint_id, Delivery.c.state == State.FAILED
    )


def _again(connection: sa.Connection, endpoint_id: int, *which: sa.ColumnElement[bool]) -> int:
    endpoint = endpoints.find(connection, endpoint_id)
    if endpoint.disabled_at is not None:
        raise endpoints.EndpointDisabledError(endpoint_id=endpoint_id, reason=endpoint.disabled_reason)
    connection.execute(sa.update(Endpoint).where(Endpoint.c.id == endpoint_id).values(blocked_until=None))
    step = sa.update(Delivery).where(*which)
    return connection.execute(
        step.values(state=State.PENDING.value, due_at=now(), attempts=0, finished_at=None)
    ).rowcount


def _ready() -> sa.Select[Any]:
    """Endpoints with a delivery that is due and room for one more, and how many may be under way to each."""
    first_due = (
        sa.select(sa.func.min(Delivery.c.due_at))
        .where(Delivery.c.endpoint_id == Endpoint.c.id, IS_OPEN)
        .scalar_subquery()
    )
    return (
        sa.select(Endpoint.c.id, _ROOM.label("room"))
        .where(
            Endpoint.c.disabled_at.is_(None),
            sa.or_(Endpoint.c.blocked_until.is_(None), Endpoint.c.blocked_until <= now()),
            first_due <= now(),
            _under_way(Endpoint.c.id) < _ROOM,
        )
        .order_by(first_due)
    )


def _under_way(endpoint_id: Any) -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.count()).where(Delivery.c.endpoint_id == endpoint_id, _IS_SENDING).scalar_subquery()
    )


def _take(connection: sa.Connection, endpoint_id: int, room: int, limit: int, seconds: float) -> list[int]:
    """Claim an endpoint's first due deliveries. Its row is locked, so nobody else counts or claims meanwhile."""
    free = room - connection.execute(sa.select(_under_way(endpoint_id))).scalar_one()
    if free <= 0:
        return []
    first = (
        sa.select(Delivery.c.id)
        .where(Delivery.c.endpoint_id == endpoint_id, IS_OPEN, Delivery.c.due_at <= now())
        .order_by(Delivery.c.due_at, Delivery.c.id)
        .limit(min(free, limit))
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.scalars(first))
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.c.id.in_(ids))
        .values(state=State.SENDING.value, due_at=now() + seconds, lease_number=Delivery.c.lease_number + 1)
    )
    return ids


def _claimed(connection: sa.Connection, ids: Sequence[int]) -> list[Claimed]:
    if not ids:
        return []
    query = (
        sa.select(
            Delivery.c.id,
            Delivery.c.lease_number,
            Delivery.c.endpoint_id,
            Delivery.c.attempts,
            Event.c.message_id,
            Event.c.body,
            Endpoint.c.url,
            Endpoint.c.secret,
            Endpoint.c.old_secret,
            Endpoint.c.old_secret_until,
            now().label("at"),
        )
        .join(Event, Event.c.id == Delivery.c.event_id)
        .join(Endpoint, Endpoint.c.id == Delivery.c.endpoint_id)
        .where(Delivery.c.id.in_(ids))
        .order_by(Delivery.c.id)
    )
    return [
        Claimed(
            id=row.id,
            lease_number=row.lease_number,
            endpoint_id=row.endpoint_id,
            url=row.url,
            secrets=endpoints.live_secrets(row, row.at),
            message_id=row.message_id,
            body=row.body,
            attempts=row.attempts,
            at=row.at,
        )
        for row in connection.execute(query)
    ]


def _record(connection: sa.Connection, claimed: Claimed, attempt: Attempt, **values: Any) -> bool:
    step = (
        sa.update(Delivery)
        .where(
            Delivery.c.id == claimed.id,
            Delivery.c.lease_number == claimed.lease_number,
            Delivery.c.state == State.SENDING.value,
        )
        .values(
            attempts=Delivery.c.attempts + 1,
            attempted_at=claimed.at,
            status=attempt.status,
            error=attempt.error,
            answer=attempt.answer,
            **values,
        )
    )
    return connection.execute(step).rowcount == 1
