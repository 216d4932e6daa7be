"""For programs that send work through the broker alone: jobs as messages on the queue `submit` (docs/producers.md).

    from workers import producer

    producer.send("news-2026-11-22", [{"id": "lead", "text": "..."}], options={"voice": "storyteller"})

It needs VOICEMILL_BROKER_URL and, for texts over 256 KB, VOICEMILL_STORE_URL; no database. Sending the same again is
sending it once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kombu import Connection

from storage import keys, settings
from storage.objects import open_store
from storage.objects.store import Store
from storage.settings import StorageSettings
from workers import broker

CONTRACT = 1  # version of the messages
LONG_TEXT = 256 * 1024  # bytes of UTF-8: longer ones go to the store
MESSAGE_JOBS = 1000  # at most in one message ...
MESSAGE_BYTES = 1 << 20  # ... and about so many bytes of text

Job = Mapping[str, Any]


def send(
    corpus: str,
    jobs: Iterable[Job],
    *,
    engine: str | None = None,
    options: Mapping[str, Any] | None = None,
    store: Store | None = None,
) -> int:
    """Send a corpus' jobs, in as many messages as it takes: how many. It ends when the jobs of the last have ended.

    A job has an `id`, a `text`, and any of `title`, `voice`, `format`, `seed`, `priority` and `options`. Jobs are read as
    a stream. Raises BrokerUnreachableError or a StoreError; what was sent before stays sent, so send all of it again.
    """
    told = {"engine": engine, "options": dict(options or {})}
    head = {"voicemill": CONTRACT, "corpus": corpus, **{name: value for name, value in told.items() if value}}
    sent = 0
    try:
        with Connection(
            broker.url(),
            connect_timeout=broker.CONNECT_TIMEOUT,
            transport_options=broker.transport_options(),
        ) as connection:
            queue = broker.submit_queue()
            producer = connection.Producer(serializer="json")
            for message in _messages(head, jobs, store):
                producer.publish(
                    message,
                    exchange="",
                    routing_key=queue.name,
                    declare=[queue],
                    delivery_mode=2,  # survives a restart of RabbitMQ
                    retry=True,
                    retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.2},
                )
                sent += 1
    except broker.connection_errors() as error:
        raise broker.BrokerUnreachableError(url=broker.shown_url(), reason=error) from error
    return sent


def _messages(head: Mapping[str, Any], jobs: Iterable[Job], store: Store | None) -> Iterator[dict[str, Any]]:
    """The messages, all but the last one announcing more."""
    chunk: list[Job] = []
    size = 0
    for job in jobs:
        length = len(str(job.get("text", "")).encode())
        if chunk and (len(chunk) == MESSAGE_JOBS or size + min(length, LONG_TEXT) > MESSAGE_BYTES):
            yield {**head, "jobs": chunk, "more": True}
            chunk, size = [], 0
        if length > LONG_TEXT:
            store = store or open_store(settings.load(StorageSettings).store())
            job = _referring(job, store)
            length = 0
        chunk.append(job)
        size += length
    yield {**head, "jobs": chunk, "more": False}


def _referring(job: Job, store: Store) -> dict[str, Any]:
    """A job whose text lies in the store, under a key that follows from it."""
    content = json.dumps({"text": job["text"]}, ensure_ascii=False).encode()
    key = keys.text(content)
    store.put(key, content, content_type="application/json")
    return {**{name: value for name, value in job.items() if name != "text"}, "text_key": key}
