"""Rings for work: one message says that a batch waits, that jobs can be assembled, that a pool should be planned.

A broker that is away costs nothing but time: whatever was not rung for, the sweep finds.

Rings of one queue are alike: whoever takes one looks for whatever there is, the most urgent first. So a queue where many
wait gets no more of them, and what piles up in a night without workers is a matter of seconds in the morning. They do not
expire: Celery holds a message's end against the clock of the worker that reads it, and one whose clock is fast would throw
away every ring, for ever.
"""

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from celery import Celery

from storage import deliveries
from storage.database import Database
from workers import broker

log = logging.getLogger(__name__)

ENOUGH = 64  # rings that wait in a queue: each more would wake nobody


def render(app: Celery, batch_id: int, pool: str, told: str) -> bool:
    """Ring for a batch; `told` is what a person reads in Flower. False: the broker is away."""
    return _send(app, "render", broker.render_queue(pool), [batch_id, pool], f"batch {batch_id}: {told}")


def assemble(app: Celery, ready: int) -> bool:
    """Ring for the assembly of jobs; how many are ready is for people only."""
    return _ring(app, "assemble", broker.ASSEMBLE, [], f"{ready} jobs are rendered")


def plan(app: Celery, pool: str) -> bool:
    """Ring for the planning of a pool."""
    return _ring(app, "plan", broker.PLAN, [pool], f"pool {pool}")


def deliver(app: Celery) -> bool:
    """Ring for webhooks that are due."""
    return _ring(app, "deliver", broker.DELIVER, [], "webhooks are due")


def deliver_if_due(app: Celery, database: Database) -> None:
    """Ring for webhooks where any are due."""
    with database.read() as connection:
        due = deliveries.is_due(connection)
    if due:
        deliver(app)


def waiting(app: Celery, queue: str) -> int | None:
    """How many messages of a queue nobody has taken yet; None: the broker is away."""
    try:
        with app.producer_or_acquire() as producer:

            def ask() -> int:  # the answer to declaring a queue once more
                return int(app.amqp.queues[queue](producer.channel).queue_declare().message_count)

            return int(producer.connection.ensure(producer, ask, **app.conf.task_publish_retry_policy)())
    except broker.connection_errors() as error:
        log.warning("cannot ask what waits in the queue %s: %s", queue, error)
        return None


def _ring(app: Celery, name: str, queue: str, arguments: Sequence[Any], told: str) -> bool:
    """Ring, unless enough rings wait already. False: the broker is away."""
    there = waiting(app, queue)
    return there is not None and (there >= ENOUGH or _send(app, name, queue, arguments, told))


def _send(app: Celery, name: str, queue: str, arguments: Sequence[Any], told: str) -> bool:
    try:
        app.send_task(
            name,
            args=list(arguments),
            queue=queue,
            exchange_type="direct",  # by the queue's own name: Redis forgets an exchange's queues when it is flushed
            argsrepr=told,
            kwargsrepr="",
            task_id=f"{name}-{uuid.uuid4().hex[:12]}",
        )
    except broker.connection_errors() as error:
        log.warning("cannot ring for %s: %s", told, error)
        return False
    return True
