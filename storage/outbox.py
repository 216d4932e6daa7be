"""The outbox: events, written in the transaction of the state that they tell of, one delivery for each endpoint.

An event that nobody listens for is not written. What an event tells is thin: names, states, counts, lengths and keys.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from storage import deliveries, states
from storage.database import now
from storage.models import Corpus, Delivery, Endpoint, Event, Job, Subscription

BODY_BYTES = 20_000  # the most that Standard Webhooks advises for a body
DETAIL_CHARACTERS = 1000  # kept of a reason's details


class EventType(StrEnum):
    """What can happen."""

    JOB_COMPLETED = "job.completed"  # its audio is in the store
    JOB_FAILED = "job.failed"  # there will be no audio unless it is taken up again
    JOB_NEEDS_REVIEW = "job.needs_review"  # its audio is in the store; a take in it or a file failed a check
    JOB_THAWED = "job.thawed"  # its audio, which lay in an archive, can be fetched
    CORPUS_COMPLETED = "corpus.completed"  # every job has its audio
    CORPUS_COMPLETED_WITH_ERRORS = "corpus.completed_with_errors"  # every job has ended, some not well
    CORPUS_CANCELLED = "corpus.cancelled"  # stopped by a person; what was finished is kept


_OF_JOBS = {
    states.Job.COMPLETED: EventType.JOB_COMPLETED,
    states.Job.FAILED: EventType.JOB_FAILED,
    states.Job.NEEDS_REVIEW: EventType.JOB_NEEDS_REVIEW,
}
_OF_CORPORA = {
    states.Corpus.COMPLETED: EventType.CORPUS_COMPLETED,
    states.Corpus.COMPLETED_WITH_ERRORS: EventType.CORPUS_COMPLETED_WITH_ERRORS,
    states.Corpus.CANCELLED: EventType.CORPUS_CANCELLED,
}


def job_ended(connection: sa.Connection, job_id: int) -> str | None:
    """Tell that a job has come to its present state, where that is an end worth telling of: the event's id."""
    query = sa.select(Job, Corpus.c.name).join(Corpus, Corpus.c.id == Job.c.corpus_id).where(Job.c.id == job_id)
    row = connection.execute(query).one()
    event_type = _OF_JOBS.get(states.Job(row.state))
    return event_type and write(connection, event_type, _job_data(row), corpus_id=row.corpus_id)


def job_thawed(connection: sa.Connection, job_id: int, until: float | None) -> str | None:
    """Tell that a job's objects are there again until some moment: the event's id."""
    query = sa.select(Job, Corpus.c.name).join(Corpus, Corpus.c.id == Job.c.corpus_id).where(Job.c.id == job_id)
    row = connection.execute(query).one()
    told = {"available_until": until and _moment(until)}
    return write(connection, EventType.JOB_THAWED, _job_data(row) | told, corpus_id=row.corpus_id)


def corpus_ended(connection: sa.Connection, corpus_id: int) -> str | None:
    """Tell that a corpus has come to its present state, where that is an end: the event's id."""
    row = connection.execute(sa.select(Corpus).where(Corpus.c.id == corpus_id)).one()
    event_type = _OF_CORPORA.get(states.Corpus(row.state))
    if event_type is None:
        return None
    return write(connection, event_type, _corpus_data(connection, row), corpus_id=corpus_id)


def write(
    connection: sa.Connection, event_type: EventType, data: Mapping[str, Any], *, corpus_id: int
) -> str | None:
    """Put an event into the caller's transaction, for every endpoint that wants it: its id; None where none does."""
    endpoint_ids = _listeners(connection, event_type, corpus_id)
    if not endpoint_ids:
        return None
    at = connection.execute(sa.select(now())).scalar_one()
    text = body(event_type, at, data)
    if len(text.encode()) > BODY_BYTES:
        raise ValueError(f"{event_type} has more than {BODY_BYTES} bytes to tell")
    message_id = new_message_id()
    insert = sa.insert(Event).values(message_id=message_id, type=event_type.value, body=text, created_at=at)
    event_id = connection.execute(insert.returning(Event.c.id)).scalar_one()
    rows = [
        {
            "event_id": event_id,
            "endpoint_id": endpoint_id,
            "state": deliveries.State.PENDING.value,
            "due_at": at,
        }
        for endpoint_id in endpoint_ids
    ]
    connection.execute(sa.insert(Delivery), rows)
    return message_id


def body(event_type: str, at: float, data: Mapping[str, Any]) -> str:
    """The JSON that is signed and sent."""
    told = {"type": str(event_type), "timestamp": _moment(at), "data": data}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def new_message_id() -> str:
    """A `webhook-id`: nobody's choice, and without a full stop, as the signature needs it."""
    return f"msg_{uuid.uuid4().hex}"


def prune(connection: sa.Connection, older_than: float) -> int:
    """Forget events written so many seconds ago that nothing is left to do for: how many."""
    undone = sa.select(Delivery.c.id).where(Delivery.c.event_id == Event.c.id, deliveries.IS_OPEN).exists()
    return connection.execute(sa.delete(Event).where(Event.c.created_at < now() - older_than, ~undone)).rowcount


def _listeners(connection: sa.Connection, event_type: EventType, corpus_id: int) -> list[int]:
    """Endpoints that want it. Their rows are held, so that none is removed before its delivery is written."""
    named_it = sa.select(Subscription.c.endpoint_id).where(Subscription.c.corpus_id == corpus_id)
    query = (
        sa.select(Endpoint.c.id, Endpoint.c.events)
        .where(Endpoint.c.disabled_at.is_(None), sa.or_(Endpoint.c.scope == "all", Endpoint.c.id.in_(named_it)))
        .order_by(Endpoint.c.id)
        .with_for_update(read=True, key_share=True)
    )
    return [row.id for row in connection.execute(query) if not row.events or event_type in row.events]


def _job_data(row: sa.Row[Any]) -> dict[str, Any]:
    told = {"id": row.custom_id, "corpus": row.name, "state": row.state}
    if row.state in states.AUDIBLE_JOBS:
        told |= {
            "seconds": round(row.samples / row.sample_rate, 3),
            "bytes": row.audio_bytes,
            "sha256": row.audio_sha256,
            "key": row.audio_key,
        }
    if row.state != states.Job.COMPLETED:
        told |= {"reason": row.reason, "detail": row.detail and row.detail[:DETAIL_CHARACTERS]}
    return told | {"segments": {"total": row.segments_total, "failed": row.segments_failed}}


def _corpus_data(connection: sa.Connection, row: sa.Row[Any]) -> dict[str, Any]:
    query = (
        sa.select(
            Job.c.state,
            sa.func.count().label("jobs"),
            sa.func.coalesce(sa.func.sum(sa.cast(Job.c.samples, sa.Double()) / Job.c.sample_rate), 0.0).label(
                "seconds"
            ),
            sa.func.coalesce(sa.func.sum(Job.c.audio_bytes), 0).label("bytes"),
        )
        .where(Job.c.corpus_id == row.id)
        .group_by(Job.c.state)
    )
    counted: list[sa.Row[Any]] = list(connection.execute(query))
    return {
        "corpus": row.name,
        "state": row.state,
        "jobs": {"total": sum(line.jobs for line in counted), **{line.state: line.jobs for line in counted}},
        "seconds": round(sum(line.seconds for line in counted), 3),
        "bytes": int(sum(line.bytes for line in counted)),
    }
