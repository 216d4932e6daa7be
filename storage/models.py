"""The tables. Times are seconds since 1970 (UTC, the database's clock); sizes in bytes; lengths in samples."""

from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage import signing, states

# SQLite numbers rows by itself only where the key is called INTEGER.
Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Base(DeclarativeBase):
    """All tables, with names for every constraint so that migrations can speak of them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own form
        str: sa.Text(),
        int: sa.BigInteger(),
        float: sa.Double(),
        bytes: sa.LargeBinary(),
        dict[str, Any]: sa.JSON(),
    }


class Corpus(Base):
    """What a producer submitted in one go."""

    __tablename__ = "corpora"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default=states.Corpus.RUNNING, index=True)
    fingerprint: Mapped[str]  # sha256 of everything in it that shapes the sound
    engine: Mapped[str]
    pool: Mapped[str]
    priority: Mapped[int] = mapped_column(default=states.Priority.NORMAL)
    options: Mapped[dict[str, Any]]  # as in force when it was accepted
    source: Mapped[str]  # what a person typed
    is_open: Mapped[bool] = mapped_column(default=False)  # its producer has announced more jobs: not ended yet
    virtual_finish: Mapped[int] = mapped_column(
        default=0
    )  # start-time fair queueing: where its next segment starts
    worker_seconds: Mapped[float] = mapped_column(
        server_default="0"
    )  # its share of the time that workers were rendering
    created_at: Mapped[float]
    finished_at: Mapped[float | None]


class Job(Base):
    """One long text that becomes one audio file."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    corpus_id: Mapped[int] = mapped_column(sa.ForeignKey("corpora.id", ondelete="CASCADE"))
    custom_id: Mapped[str]
    fingerprint: Mapped[str]  # sha256 of its segments and options: the same job sent twice is known by it
    position: Mapped[int]  # in its corpus, from 1
    state: Mapped[str] = mapped_column(default=states.Job.PENDING)
    priority: Mapped[int]
    options: Mapped[dict[str, Any]]  # voice, format, seed, engine options, title ...: nothing left to default
    characters: Mapped[int]
    tokens_estimate: Mapped[int]
    segments_total: Mapped[int]
    segments_done: Mapped[int] = mapped_column(default=0)
    segments_failed: Mapped[int] = mapped_column(default=0)
    samples: Mapped[int | None]  # of the finished audio, pauses included
    sample_rate: Mapped[int | None]
    assembly_key: Mapped[str | None]
    audio_key: Mapped[str | None]
    audio_bytes: Mapped[int | None]
    audio_sha256: Mapped[str | None]
    deliverables: Mapped[list[dict[str, Any]] | None] = mapped_column(
        sa.JSON(none_as_null=True)
    )  # every file; the first is above, too
    level: Mapped[dict[str, Any] | None] = mapped_column(
        sa.JSON(none_as_null=True)
    )  # of the programme and the gains that follow from it, as first measured: they stay where takes are made again
    reason: Mapped[str | None]  # why it failed or needs a listen
    detail: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)  # of its assembly
    lease_owner: Mapped[str | None]
    lease_number: Mapped[int] = mapped_column(default=0)  # the fence: grows with each assembly lease
    lease_expires_at: Mapped[float | None]
    created_at: Mapped[float]
    finished_at: Mapped[float | None]

    __table_args__ = (
        sa.UniqueConstraint("corpus_id", "custom_id"),
        sa.Index("ix_jobs_corpus_id_state", "corpus_id", "state"),
        sa.Index("ix_jobs_corpus_id_position", "corpus_id", "position"),
        sa.Index("ix_jobs_assembly_key", "assembly_key"),
        sa.Index(
            "ix_jobs_to_assemble",
            "priority",
            "id",
            postgresql_where=sa.text("state IN ('rendered', 'assembling')"),
            sqlite_where=sa.text("state IN ('rendered', 'assembling')"),
        ),
    )


class Segment(Base):
    """What one model sequence speaks."""

    __tablename__ = "segments"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int]  # in its job, from 0
    text: Mapped[str]  # as the engine gets it
    chapter: Mapped[str | None]  # the title of the chapter that begins with it
    pause_ms: Mapped[int]  # the silence after it
    state: Mapped[str] = mapped_column(default=states.Segment.PENDING)
    pool: Mapped[str]
    rank: Mapped[int] = mapped_column(sa.SmallInteger)  # 2 * priority + 1, and one less once it was interrupted
    start_tag: Mapped[int]  # its place in start-time fair queueing, in tokens of virtual time
    tokens_estimate: Mapped[int]
    batch_id: Mapped[int | None]
    take_key: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(sa.SmallInteger, default=0)  # errors of the item itself
    interruptions: Mapped[int] = mapped_column(
        sa.SmallInteger, default=0
    )  # not its fault, not counted against it
    losses: Mapped[int] = mapped_column(
        sa.SmallInteger, server_default="0"
    )  # those of them without notice: often enough, and it may be what its workers die of
    seed: Mapped[int | None]  # where a person asked for another take; else the job's
    redone: Mapped[int] = mapped_column(sa.SmallInteger, server_default="0")  # how often a person did
    reason: Mapped[str | None]
    detail: Mapped[str | None]

    __table_args__ = (
        sa.UniqueConstraint("job_id", "position"),
        sa.Index(
            "ix_segments_to_plan",
            "pool",
            "rank",
            "start_tag",
            "id",
            postgresql_where=sa.text("state = 'pending'"),
            sqlite_where=sa.text("state = 'pending'"),
        ),
        sa.Index(
            "ix_segments_batch_id",
            "batch_id",
            postgresql_where=sa.text("batch_id IS NOT NULL"),
            sqlite_where=sa.text("batch_id IS NOT NULL"),
        ),
    )


class Batch(Base):
    """The segments that one worker renders in one go."""

    __tablename__ = "batches"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    pool: Mapped[str]
    priority: Mapped[int]
    state: Mapped[str] = mapped_column(default=states.Batch.READY)
    outcome: Mapped[str | None]
    segments_total: Mapped[int]
    tokens_estimate: Mapped[int]
    suspect: Mapped[bool] = mapped_column(server_default=sa.false())  # rendered with nothing beside it
    lease_owner: Mapped[str | None]
    lease_number: Mapped[int] = mapped_column(default=0)  # the fence: grows with each lease
    lease_expires_at: Mapped[float | None]
    published_at: Mapped[float | None]  # when its message was last handed to the broker
    created_at: Mapped[float]
    finished_at: Mapped[float | None]

    __table_args__ = (
        sa.Index(
            "ix_batches_open",
            "pool",
            "state",
            "id",
            postgresql_where=sa.text("state <> 'finished'"),
            sqlite_where=sa.text("state <> 'finished'"),
        ),
        sa.Index("ix_batches_finished_at", "finished_at"),
    )


class Take(Base):
    """One rendering of a segment. Its bytes lie in the store under its key."""

    __tablename__ = "takes"

    take_key: Mapped[str] = mapped_column(primary_key=True)
    engine: Mapped[str]
    sample_rate: Mapped[int]
    samples: Mapped[int]
    tokens: Mapped[int]
    has_codes: Mapped[bool]
    recipe: Mapped[dict[str, Any] | None]  # what its codes need besides to become the same sound again
    metrics: Mapped[dict[str, Any]]  # what the checks measured
    gone: Mapped[bool] = mapped_column(
        server_default=sa.false()
    )  # from the store, and to be made again when needed
    created_at: Mapped[float]


class Partial(Base):
    """The tokens of a take that was interrupted; another worker goes on from there."""

    __tablename__ = "partials"

    take_key: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[bytes]
    tokens: Mapped[int]
    updated_at: Mapped[float]


class Reel(Base):
    """A stretch of a long programme, encoded by whoever is free; gone once its job has ended."""

    __tablename__ = "reels"

    job_id: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    deliverable: Mapped[int] = mapped_column(primary_key=True)  # which of the job's, from 0
    position: Mapped[int] = mapped_column(primary_key=True)  # in the programme, from 0
    reel_key: Mapped[str]  # sha256 of the recipe: names its bytes in the store
    recipe: Mapped[dict[str, Any]]  # all that its encoder needs to know
    is_done: Mapped[bool] = mapped_column(default=False)
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[float | None]


class Clock(Base):
    """The virtual time of one priority class of a pool: the largest start tag planned so far."""

    __tablename__ = "clocks"

    pool: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(primary_key=True)
    virtual_time: Mapped[int]


class Speed(Base):
    """How fast one worker of a pool renders, as measured: sizes the batches and feeds every ETA."""

    __tablename__ = "speeds"

    pool: Mapped[str] = mapped_column(primary_key=True)
    tokens_per_second: Mapped[float]
    updated_at: Mapped[float]


class Rejection(Base):
    """A producer's message that could not be accepted, kept and explained."""

    __tablename__ = "rejections"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    corpus: Mapped[str | None]  # as the message names it, where it does
    reason: Mapped[str]
    body: Mapped[str]  # the beginning of the message
    received_at: Mapped[float]


class Worker(Base):
    """A worker that is alive, or was a moment ago."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    pool: Mapped[str]
    started_at: Mapped[float]
    seen_at: Mapped[float]


class Endpoint(Base):
    """A URL that events are sent to, with its secret and how it has been doing."""

    __tablename__ = "endpoints"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    url: Mapped[str] = mapped_column(unique=True)
    scope: Mapped[str]  # "all" corpora, or only the "corpora" that named it
    events: Mapped[list[str]] = mapped_column(sa.JSON())  # the types it wants; none for every one
    secret: Mapped[SecretStr] = mapped_column(signing.SecretText())
    old_secret: Mapped[SecretStr | None] = mapped_column(signing.SecretText())  # signs too, for a while
    old_secret_until: Mapped[float | None]
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    failing_since: Mapped[float | None]
    blocked_until: Mapped[float | None]  # nothing is sent to it before
    disabled_at: Mapped[float | None]
    disabled_reason: Mapped[str | None]
    created_at: Mapped[float]


class Subscription(Base):
    """A corpus that named an endpoint when it was submitted."""

    __tablename__ = "subscriptions"

    corpus_id: Mapped[int] = mapped_column(sa.ForeignKey("corpora.id", ondelete="CASCADE"), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(
        sa.ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True
    )


class Event(Base):
    """Something that happened, as the bytes that every endpoint is sent."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    message_id: Mapped[str] = mapped_column(unique=True)  # the header `webhook-id`
    type: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[float] = mapped_column(index=True)


class Delivery(Base):
    """An event on its way to one endpoint."""

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    event_id: Mapped[int] = mapped_column(sa.ForeignKey("events.id", ondelete="CASCADE"))
    endpoint_id: Mapped[int] = mapped_column(sa.ForeignKey("endpoints.id", ondelete="CASCADE"))
    state: Mapped[str]
    due_at: Mapped[float]  # when it is to be sent; while it is being sent, when its lease ends
    lease_number: Mapped[int] = mapped_column(default=0)  # the fence: grows with each lease
    attempts: Mapped[int] = mapped_column(default=0)
    attempted_at: Mapped[float | None]  # this and what follows are of the last attempt
    status: Mapped[int | None]
    error: Mapped[str | None]
    answer: Mapped[str | None]  # the beginning of the response's body
    finished_at: Mapped[float | None]

    __table_args__ = (
        sa.UniqueConstraint("event_id", "endpoint_id"),
        sa.Index(
            "ix_deliveries_due",
            "endpoint_id",
            "due_at",
            postgresql_where=sa.text("state IN ('pending', 'sending')"),
            sqlite_where=sa.text("state IN ('pending', 'sending')"),
        ),
        sa.Index(
            "ix_deliveries_sending",
            "endpoint_id",
            postgresql_where=sa.text("state = 'sending'"),
            sqlite_where=sa.text("state = 'sending'"),
        ),
    )


class Thaw(Base):
    """A job whose objects were asked for from an archive."""

    __tablename__ = "thaws"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    state: Mapped[str]
    tier: Mapped[str]  # how fast: expedited, standard, bulk
    days: Mapped[int]  # that the readable copies stay
    asked_at: Mapped[float]
    looked_at: Mapped[float]  # when somebody last saw to it
    ready_at: Mapped[float | None]
    until: Mapped[float | None]  # the readable copies stay until then; None where nothing had to be thawed

    __table_args__ = (
        sa.Index(
            "ix_thaws_pending",
            "looked_at",
            postgresql_where=sa.text("state = 'pending'"),
            sqlite_where=sa.text("state = 'pending'"),
        ),
    )
