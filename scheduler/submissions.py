"""Work from producers that can reach only the broker: JSON messages on the queue `submit` (docs/producers.md).

A message is accepted whole or not at all, and accepting is idempotent, so a producer may send everything twice. What
cannot be accepted is counted, kept and explained (`voicemill rejected`), and acknowledged: it would not get better.
Where the fault is ours, not the message's (a database that is away, a setting or a file that is wrong), all messages wait.
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic
import sqlalchemy as sa
from celery import Celery
from kombu import Consumer, Message

from scheduler import accept, custom_ids, options, paragraphs
from scheduler.document import Block, Document
from scheduler.house import House
from scheduler.planner import priority_of
from storage import errors, rejections
from storage.database import Database, NotMigratedError
from storage.objects import key_rules
from storage.objects.store import Store
from workers import bell, broker
from workers.engines import registry
from workers.engines.engine import EngineSpec

log = logging.getLogger(__name__)

VERSION = 1
RETRY_SECONDS = 2.0  # before a message is looked at again when the database or the store is away
RETRY_LIMIT = 60.0  # seconds: where all seems well and is not, the wait is doubled up to this
PREFETCH = 8


class SubmittedJob(pydantic.BaseModel):
    """One job of a message."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    id: str
    text: str | None = None
    text_key: str | None = None  # of an object {"text": ...} in the store, for texts over 256 KB
    title: str | None = None
    voice: str | None = None
    format: str | None = None
    bitrate: str | None = None
    sample_rate: int | None = None
    loudness: float | None = None
    preset: str | None = None
    deliverables: list[dict[str, Any]] | None = None
    seed: int | None = None
    priority: str | None = None
    options: dict[str, Any] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _one_text(self) -> "SubmittedJob":
        if (self.text is None) == (self.text_key is None):
            raise ValueError("give either `text` or `text_key`")
        return self


class SubmittedOptions(pydantic.BaseModel):
    """What holds where a job is silent."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    voice: str | None = None
    format: str | None = None
    bitrate: str | None = None
    sample_rate: int | None = None
    loudness: float | None = None
    preset: str | None = None
    deliverables: list[dict[str, Any]] | None = None
    captions: list[str] = pydantic.Field(default_factory=list)
    seed: int = 0
    priority: str = "normal"
    options: dict[str, Any] = pydantic.Field(default_factory=dict)


class Submission(pydantic.BaseModel):
    """A message on the queue `submit`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    voicemill: int
    corpus: str
    jobs: list[SubmittedJob] = pydantic.Field(min_length=1, max_length=10_000)
    engine: str | None = None
    options: SubmittedOptions = pydantic.Field(default_factory=SubmittedOptions)
    more: bool = False


class RejectedError(errors.InputError):
    """{reason}"""


class MisconfiguredError(errors.VoicemillError):
    """Nothing that producers send can be accepted: {reason} Mend that; their messages wait."""


class _AwayError(Exception):
    """The database or the store is away, or our settings are wrong: no message can be accepted for now."""


def take_in(database: Database, store: Store, body: Any) -> tuple[accept.Accepted, int]:
    """Accept one message's jobs: the corpus, and how many of them were new.

    Raises an InputError that explains where the message is at fault, another VoicemillError where it is not.
    """
    try:
        house = House.load()
    except errors.InputError as error:
        raise MisconfiguredError(reason=error) from error
    submission = _parse(body)
    try:
        spec = registry.spec(submission.engine) if submission.engine else house.spec
        with accept.stage(_documents(submission, store), _how(submission, spec, house)) as staged:
            return accept.add(
                database,
                staged,
                name=submission.corpus,
                source="submit queue",
                corpus_options=submission.options.model_dump(),
                priority=priority_of(submission.options.priority),
                more=submission.more,
            )
    except (registry.BrokenEngineError, NotMigratedError) as error:
        raise MisconfiguredError(reason=error) from error


def _parse(body: Any) -> Submission:
    try:
        submission = Submission.model_validate(body)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the message"
        raise RejectedError(reason=f"{place}: {first['msg']}") from error
    if submission.voicemill != VERSION:
        raise RejectedError(
            reason=f"version {submission.voicemill} of the contract is not known; this is {VERSION}"
        )
    if reason := custom_ids.check(submission.corpus):
        raise RejectedError(reason=f"corpus: {reason}")
    return submission


def _how(submission: Submission, spec: EngineSpec, house: House) -> accept.How:
    given = submission.options
    if unknown := sorted(set(given.captions) - set(options.CAPTIONS)):
        raise RejectedError(reason=f"captions: {unknown[0]!r} is none of {', '.join(options.CAPTIONS)}")
    corpus = options.CorpusOptions(
        voice=given.voice or house.scheduler.voice,
        format=given.format or (None if given.preset else house.scheduler.format),
        bitrate=given.bitrate,
        sample_rate=given.sample_rate,
        loudness=given.loudness,
        preset=given.preset,
        deliverables=given.deliverables,
        captions=tuple(given.captions),
        seed=given.seed,
        priority=given.priority,
        engine_options=given.options,
    )
    resolver = options.Resolver(spec, corpus, house.voices)
    resolver.resolve({})
    return accept.How(spec=spec, resolver=resolver, lexicon=house.lexicon)


def _documents(submission: Submission, store: Store) -> Iterator[Document]:
    for job in submission.jobs:
        text = job.text if job.text is not None else _referred(store, str(job.text_key))
        given = job.model_dump(exclude={"id", "text", "text_key"}, exclude_none=True)
        yield Document(job.id, _blocks(text), f"job {job.id!r}", options=given)


def _referred(store: Store, key: str) -> str:
    """A text that lies in the store. Raises RejectedError where it is none."""
    if not key.startswith("texts/"):
        raise RejectedError(reason=f"text_key {key!r} does not begin with texts/")
    try:
        body = json.loads(store.get(key))
    except errors.ObjectMissingError as error:
        raise RejectedError(reason=f"text_key {key!r}: there is no such object") from error
    except errors.ObjectArchivedError as error:
        raise RejectedError(reason=f"text_key {key!r}: the object lies in an archive") from error
    except key_rules.BadKeyError as error:
        raise RejectedError(reason=f"text_key {key!r}: {error.fields['reason']}") from error
    except ValueError as error:
        raise RejectedError(reason=f"text_key {key!r}: the object is not JSON") from error
    if not isinstance(body, Mapping) or not isinstance(body.get("text"), str):
        raise RejectedError(reason=f'text_key {key!r}: expected an object {{"text": "..."}}')
    return str(body["text"])


def _blocks(text: str) -> Iterator[Block]:
    return map(Block, paragraphs.split(text))


class Submissions:
    """A thread that takes messages from the queue `submit`."""

    def __init__(self, app: Celery, database: Database, store: Store) -> None:
        self._app, self._database, self._store = app, database, store
        self._patience = RETRY_SECONDS
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="submissions", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a message in hand is finished."""
        self._closed.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except _AwayError as error:
                log.warning("submissions wait: %s", error)
                self._wait_until_back()
            except broker.connection_errors() as error:
                log.warning("no messages for now: %s", error)
                self._closed.wait(RETRY_SECONDS)
            except Exception:
                log.exception("listening for submissions failed")
                self._closed.wait(RETRY_SECONDS)

    def _wait_until_back(self) -> None:
        """Wait until all is well, without a message in hand: RabbitMQ counts how often one is returned.

        Longer each time, should the next message show that it is not: an engine that is broken, say, is not seen here.
        """
        patience, self._patience = self._patience, min(2 * self._patience, RETRY_LIMIT)
        while not self._closed.wait(patience):
            patience = RETRY_SECONDS
            try:
                House.load()
                with self._database.read() as connection:
                    rejections.kept(connection)
                self._store.check()
            except errors.VoicemillError:
                continue
            return

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            consumer = Consumer(
                connection.default_channel,
                [broker.submit_queue()],
                callbacks=[self._message],
                on_decode_error=self._undecodable,
                accept=["json"],
                prefetch_count=PREFETCH,
            )
            with consumer:
                while not self._closed.is_set():
                    try:
                        connection.drain_events(timeout=1)
                    except TimeoutError:
                        connection.heartbeat_check()

    def _message(self, body: Any, message: Message) -> None:
        try:
            accepted, added = take_in(self._database, self._store, body)
        except errors.InputError as error:
            self._reject(message, body, _explained(error))
            return
        except (errors.VoicemillError, OSError, MemoryError) as error:  # no room for temporary files, say
            message.requeue()
            raise _AwayError(error) from error
        except sa.exc.DataError as error:  # what no column takes comes to nothing each time
            self._reject(message, body, f"the database does not take it: {error.orig}")
            return
        except sa.exc.SQLAlchemyError:
            raise  # a clash with another transaction, say: the message comes again
        except Exception as error:
            log.exception("a submission could not be looked at")
            self._reject(message, body, f"unexpected {type(error).__name__}: {error}; please report it")
            return
        message.ack()
        self._patience = RETRY_SECONDS
        log.info("%s: %d jobs accepted", accepted.name, added)
        if added:
            bell.plan(self._app, accepted.pool)

    def _undecodable(self, message: Message, error: Exception) -> None:
        self._reject(message, message.body, f"it is not JSON: {error}")

    def _reject(self, message: Message, body: Any, reason: str) -> None:
        log.warning("a submission is rejected: %s", reason)
        corpus = (
            body.get("corpus") if isinstance(body, Mapping) and isinstance(body.get("corpus"), str) else None
        )
        try:
            with self._database.write() as connection:
                rejections.keep(connection, corpus=corpus, reason=reason, body=_shown(body, message))
        except errors.VoicemillError as error:
            message.requeue()
            raise _AwayError(error) from error
        message.ack()
        self._patience = RETRY_SECONDS


def _shown(body: Any, message: Message) -> str:
    """A message's body as a person may read it; as it was sent, where it is nested too deep to be written again."""
    if isinstance(body, str):
        return body
    if not isinstance(body, bytes):
        try:
            return json.dumps(body, ensure_ascii=False, default=repr)
        except RecursionError:
            body = message.body
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body)


def _explained(error: errors.InputError) -> str:
    """An error in words; of a corpus' bad items, the first ones."""
    problems = error.fields.get("problems")
    if not problems:
        return str(error)
    told = "; ".join(f"{problem.where}: {problem.reason}" for problem in problems[:5])
    return told + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
