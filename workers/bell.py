"""Rings for work: one message says that a batch waits, that jobs can be assembled, that a pool should be planned.

A broker that is away costs nothing but time: whatever was not rung for, the sweep finds.
"""

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from celery import Celery

from workers import broker

log = logging.getLogger(__name__)


def render(app: Celery, batch_id: int, pool: str, told: str) -> bool:
    """Ring for a batch; `told` is what a person reads in Flower. False: the broker is away."""
    return _send(app, "render", broker.render_queue(pool), [batch_id, pool], f"batch {batch_id}: {told}")


def assemble(app: Celery, ready: int) -> bool:
    """Ring for the assembly of jobs; how many are ready is for people only."""
    return _send(app, "assemble", broker.ASSEMBLE, [], f"{ready} jobs are rendered")


def plan(app: Celery, pool: str) -> bool:
    """Ring for the planning of a pool."""
    return _send(app, "plan", broker.PLAN, [pool], f"pool {pool}")


def deliver(app: Celery) -> bool:
    """Ring for webhooks that are due."""
    return _send(app, "deliver", broker.DELIVER, [], "webhooks are due")


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
