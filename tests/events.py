"""Events, endpoints and their deliveries, for tests of webhooks."""

import sqlalchemy as sa

from storage import deliveries, endpoints, outbox
from storage.models import Delivery, Endpoint
from storage.outbox import EventType
from workers.webhooks.settings import WebhookSettings

HOUR = 3600.0


def settings(**given):
    patient = {"webhook_connect_seconds": 10, "webhook_total_seconds": 30}
    return WebhookSettings(**{"webhook_allow_private": True, **patient, **given})


def add(database, receiver, *events):
    """Register a receiver that verifies with its endpoint's secret from now on: the endpoint's number."""
    made = database.run(lambda connection: endpoints.add(connection, receiver.url, events))
    receiver.secret = made.secret.get_secret_value()
    return made.id


def happen(database, count=1, event_type=EventType.JOB_COMPLETED, corpus_id=1):
    """Write events into the outbox: their ids."""
    with database.write() as connection:
        return [
            outbox.write(connection, event_type, {"id": f"job-{number}"}, corpus_id=corpus_id)
            for number in range(count)
        ]


def advance(database, seconds):
    """Let the database's clock be so much later, as far as endpoints and deliveries can tell."""
    earlier = {name: Endpoint.c[name] - seconds for name in ("failing_since", "blocked_until")}
    with database.write() as connection:
        connection.execute(
            sa.update(Endpoint).values(old_secret_until=Endpoint.c.old_secret_until - seconds, **earlier)
        )
        connection.execute(sa.update(Delivery).values(due_at=Delivery.c.due_at - seconds))


def rows(database):
    with database.read() as connection:
        return deliveries.latest(connection, limit=10_000)[::-1]


def endpoint(database, endpoint_id=1):
    with database.read() as connection:
        return endpoints.find(connection, endpoint_id)
