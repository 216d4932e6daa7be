"""Plain Celery as the other side of `pipeline.py`: one task a segment, at its own honest best.

A message carries all that its task needs, so no task reads the database. A task does what Voicemill does for a segment: the
engine, edit, checks and take key by the same functions, the same bytes put into the same kind of store, and the same rows
written, in one transaction of three statements, each prepared once a connection. Late acknowledgements, JSON, no results, no
events, a threads pool, tuned prefetch, one connection pool a process, one producer for all messages.

It leaves out what Voicemill adds: planning by priority and fairness, leases and fences, takes that exist already, failures and
retries, cancelling, the bell for assembly.

    celery -A benchmarks.parts.plain_celery worker -P threads -c 8
"""

import json
import os
from collections.abc import Sequence
from functools import cache
from threading import Event
from typing import Any

import sqlalchemy as sa
from celery import Celery

from benchmarks.parts import hum
from storage import keys
from storage.database import Database
from storage.objects import open_store
from storage.objects.store import Store
from workers import broker, render
from workers.audio import checks, edit, wav
from workers.engines.engine import Request, Take

THREADS = 8  # of a worker process: the best of 2, 4, 8 and 16
PREFETCH = 8  # messages a thread has reserved: the best of 1, 4, 8 and 32
QUEUE = "segments"

TAKE = """
    INSERT INTO takes (take_key, engine, sample_rate, samples, tokens, has_codes, metrics, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, extract(epoch from clock_timestamp())) ON CONFLICT DO NOTHING
"""
SEGMENT = "UPDATE segments SET state = 'done', take_key = %s WHERE id = %s AND state = 'pending'"
JOB = """
    UPDATE jobs SET segments_done = segments_done + 1,
           state = CASE WHEN segments_done + segments_failed + 1 = segments_total THEN 'rendered' ELSE state END
    WHERE id = %s
"""

app = Celery("plain")
app.conf.update(
    broker_url=os.environ.get("VOICEMILL_BROKER_URL"),
    broker_transport_options=broker.transport_options(),
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=PREFETCH,
    worker_pool="threads",
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)


@cache
def _opened() -> tuple[Database, Store, hum.Hum]:
    database = Database(os.environ["VOICEMILL_DATABASE_URL"], pool_size=THREADS)
    return database, open_store(os.environ["VOICEMILL_STORE_URL"]), hum.Hum()


@app.task(name="segment")
def segment(segment_id: int, job_id: int, text: str, voice: str, seed: int, options: dict[str, Any]) -> None:
    database, store, engine = _opened()
    key = render.take_key(engine.identity, voice, text, seed, options)
    (take,) = engine.render([Request(key, text, voice, seed, options)], Event())
    assert isinstance(take, Take)
    pcm = edit.tidy(take.pcm, take.sample_rate)
    metrics = checks.measure(pcm, take.sample_rate, loops=False)  # as for every engine that sets no limit
    assert checks.judge(metrics, text, checks.limits(hum.SPEC)) is None
    store.put(keys.take(key), wav.wrap(pcm, take.sample_rate), content_type="audio/wav")
    told = json.dumps(metrics.as_dict())
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(TAKE, [key, "hum", take.sample_rate, len(pcm) // 2, take.tokens, False, told])
        cursor.execute(SEGMENT, [key, segment_id])
        if cursor.rowcount:
            cursor.execute(JOB, [job_id])
        connection.commit()
    finally:
        connection.close()  # back into the pool


def publish(database: Database, corpus_id: int) -> int:
    """Send every segment of a corpus to the workers: how many messages."""
    rows = _segments(database, corpus_id)
    with app.producer_pool.acquire(block=True) as producer:
        for row in rows:
            options = row.options
            segment.apply_async(
                (
                    row.id,
                    row.job_id,
                    row.text,
                    options["engine_voice"],
                    options["seed"],
                    options["engine_options"],
                ),
                producer=producer,
            )
    return len(rows)


def _segments(database: Database, corpus_id: int) -> Sequence[sa.Row[Any]]:
    query = sa.text(
        "SELECT segments.id, job_id, text, options FROM segments JOIN jobs ON jobs.id = job_id"
        " WHERE corpus_id = :corpus ORDER BY segments.id"
    )
    with database.read() as connection:
        return list(connection.execute(query, {"corpus": corpus_id}))
