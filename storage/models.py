"""The tables. Times are seconds since 1970 (UTC, the database's clock); sizes in bytes; lengths in samples."""

from typing import Any, Final, TypeVar

import sqlalchemy as sa

from storage import signing, states

Value = TypeVar("Value")

# Of a row, or of the one that it refers to. SQLite numbers rows by itself only where the key is called INTEGER.
Identity: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Big: Final = sa.BigInteger()
Small: Final = sa.SmallInteger()
Float: Final = sa.Double[float]()
Bool: Final = sa.Boolean()
Text: Final = sa.Text()
Bytes: Final = sa.LargeBinary()
Json: Final[sa.types.TypeEngine[Any]] = sa.JSON()
JsonOrNull: Final[sa.types.TypeEngine[Any]] = sa.JSON(none_as_null=True)
Secret: Final = signing.SecretText()

# Names for every constraint, so that migrations can speak of them.
METADATA: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def required(kind: sa.types.TypeEngine[Value], *more: sa.schema.SchemaItem, **options: Any) -> sa.Column[Value]:
    """A column that always has a value."""
    return sa.Column(kind, *more, nullable=False, **options)


def optional(kind: sa.types.TypeEngine[Value], *more: sa.schema.SchemaItem, **options: Any) -> sa.Column[Value]:
    """A column that may be NULL."""
    return sa.Column(kind, *more, nullable=True, **options)


class CorpusColumns(sa.TypedColumns):
    """What a producer submitted in one go."""

    id = required(Identity, primary_key=True)
    name = required(Text, unique=True)
    state = required(Text, default=states.Corpus.RUNNING, index=True)
    fingerprint = required(Text)  # sha256 of everything in it that shapes the sound
    engine = required(Text)
    pool = required(Text)
    priority = required(Big, default=states.Priority.NORMAL)
    options = required(Json)  # as in force when it was accepted
    source = required(Text)  # what a person typed
    is_open = required(Bool, default=False)  # its producer has announced more jobs: not ended yet
    virtual_finish = required(Big, default=0)  # start-time fair queueing: where its next segment starts
    worker_seconds = required(Float, server_default="0")  # its share of the time that workers were rendering
    created_at = required(Float)
    finished_at = optional(Float)


Corpus = sa.Table("corpora", METADATA, CorpusColumns)


class JobColumns(sa.TypedColumns):
    """One long text that becomes one audio file."""

    id = required(Identity, primary_key=True)
    corpus_id = required(Identity, sa.ForeignKey("corpora.id", ondelete="CASCADE"))
    custom_id = required(Text)
    fingerprint = required(Text)  # sha256 of its segments and options: the same job sent twice is known by it
    position = required(Big)  # in its corpus, from 1
    state = required(Text, default=states.Job.PENDING)
    priority = required(Big)
    options = required(Json)  # voice, format, seed, engine options, title ...: nothing left to default
    characters = required(Big)
    tokens_estimate = required(Big)
    segments_total = required(Big)
    segments_done = required(Big, default=0)
    segments_failed = required(Big, default=0)
    samples = optional(Big)  # of the finished audio, pauses included
    sample_rate = optional(Big)
    assembly_key = optional(Text)
    audio_key = optional(Text)
    audio_bytes = optional(Big)
    audio_sha256 = optional(Text)
    deliverables = optional(JsonOrNull)  # every file; the first is above, too
    # Of the programme and the gains that follow from it, as first measured: they stay where takes are made again
    level = optional(JsonOrNull)
    reason = optional(Text)  # why it failed or needs a listen
    detail = optional(Text)
    attempts = required(Big, default=0)  # of its assembly
    lease_owner = optional(Text)
    lease_number = required(Big, default=0)  # the fence: grows with each assembly lease
    lease_expires_at = optional(Float)
    created_at = required(Float)
    finished_at = optional(Float)


Job = sa.Table(
    "jobs",
    METADATA,
    JobColumns,
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


class SegmentColumns(sa.TypedColumns):
    """What one model sequence speaks."""

    id = required(Identity, primary_key=True)
    job_id = required(Identity, sa.ForeignKey("jobs.id", ondelete="CASCADE"))
    position = required(Big)  # in its job, from 0
    text = required(Text)  # as the engine gets it
    chapter = optional(Text)  # the title of the chapter that begins with it
    pause_ms = required(Big)  # the silence after it
    state = required(Text, default=states.Segment.PENDING)
    pool = required(Text)
    rank = required(Small)  # 2 * priority + 1, and one less once it was interrupted
    start_tag = required(Big)  # its place in start-time fair queueing, in tokens of virtual time
    tokens_estimate = required(Big)
    batch_id = optional(Big)
    take_key = optional(Text)
    attempts = required(Small, default=0)  # errors of the item itself
    interruptions = required(Small, default=0)  # not its fault, not counted against it
    # Those of them without notice: often enough, and it may be what its workers die of
    losses = required(Small, server_default="0")
    seed = optional(Big)  # where a person asked for another take; else the job's
    redone = required(Small, server_default="0")  # how often a person did
    reason = optional(Text)
    detail = optional(Text)


Segment = sa.Table(
    "segments",
    METADATA,
    SegmentColumns,
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


class BatchColumns(sa.TypedColumns):
    """The segments that one worker renders in one go."""

    id = required(Identity, primary_key=True)
    pool = required(Text)
    priority = required(Big)
    state = required(Text, default=states.Batch.READY)
    outcome = optional(Text)
    segments_total = required(Big)
    tokens_estimate = required(Big)
    suspect = required(Bool, server_default=sa.false())  # rendered with nothing beside it
    lease_owner = optional(Text)
    lease_number = required(Big, default=0)  # the fence: grows with each lease
    lease_expires_at = optional(Float)
    published_at = optional(Float)  # when its message was last handed to the broker
    created_at = required(Float)
    finished_at = optional(Float)


Batch = sa.Table(
    "batches",
    METADATA,
    BatchColumns,
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


class TakeColumns(sa.TypedColumns):
    """One rendering of a segment. Its bytes lie in the store under its key."""

    take_key = required(Text, primary_key=True)
    engine = required(Text)
    sample_rate = required(Big)
    samples = required(Big)
    tokens = required(Big)
    has_codes = required(Bool)
    recipe = optional(Json)  # what its codes need besides to become the same sound again
    metrics = required(Json)  # what the checks measured
    gone = required(Bool, server_default=sa.false())  # from the store, and to be made again when needed
    created_at = required(Float)


Take = sa.Table("takes", METADATA, TakeColumns)


class PartialColumns(sa.TypedColumns):
    """The tokens of a take that was interrupted; another worker goes on from there."""

    take_key = required(Text, primary_key=True)
    state = required(Bytes)
    tokens = required(Big)
    updated_at = required(Float)


Partial = sa.Table("partials", METADATA, PartialColumns)


class ReelColumns(sa.TypedColumns):
    """A stretch of a long programme, encoded by whoever is free; gone once its job has ended."""

    job_id = required(Identity, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    deliverable = required(Big, primary_key=True)  # which of the job's, from 0
    position = required(Big, primary_key=True)  # in the programme, from 0
    reel_key = required(Text)  # sha256 of the recipe: names its bytes in the store
    recipe = required(Json)  # all that its encoder needs to know
    is_done = required(Bool, default=False)
    lease_owner = optional(Text)
    lease_expires_at = optional(Float)


Reel = sa.Table("reels", METADATA, ReelColumns)


class ClockColumns(sa.TypedColumns):
    """The virtual time of one priority class of a pool: the largest start tag planned so far."""

    pool = required(Text, primary_key=True)
    priority = required(Big, primary_key=True)
    virtual_time = required(Big)


Clock = sa.Table("clocks", METADATA, ClockColumns)


class SpeedColumns(sa.TypedColumns):
    """How fast one worker of a pool renders, as measured: sizes the batches and feeds every ETA."""

    pool = required(Text, primary_key=True)
    tokens_per_second = required(Float)
    updated_at = required(Float)


Speed = sa.Table("speeds", METADATA, SpeedColumns)


class RejectionColumns(sa.TypedColumns):
    """A producer's message that could not be accepted, kept and explained."""

    id = required(Identity, primary_key=True)
    corpus = optional(Text)  # as the message names it, where it does
    reason = required(Text)
    body = required(Text)  # the beginning of the message
    received_at = required(Float)


Rejection = sa.Table("rejections", METADATA, RejectionColumns)


class WorkerColumns(sa.TypedColumns):
    """A worker that is alive, or was a moment ago."""

    name = required(Text, primary_key=True)
    pool = required(Text)
    started_at = required(Float)
    seen_at = required(Float)


Worker = sa.Table("workers", METADATA, WorkerColumns)


class EndpointColumns(sa.TypedColumns):
    """A URL that events are sent to, with its secret and how it has been doing."""

    id = required(Identity, primary_key=True)
    url = required(Text, unique=True)
    scope = required(Text)  # "all" corpora, or only the "corpora" that named it
    events = required(Json)  # the types it wants; none for every one
    secret = required(Secret)
    old_secret = optional(Secret)  # signs too, for a while
    old_secret_until = optional(Float)
    failures = required(Big, default=0)  # in a row
    failing_since = optional(Float)
    blocked_until = optional(Float)  # nothing is sent to it before
    disabled_at = optional(Float)
    disabled_reason = optional(Text)
    created_at = required(Float)


Endpoint = sa.Table("endpoints", METADATA, EndpointColumns)


class SubscriptionColumns(sa.TypedColumns):
    """A corpus that named an endpoint when it was submitted."""

    corpus_id = required(Identity, sa.ForeignKey("corpora.id", ondelete="CASCADE"), primary_key=True)
    endpoint_id = required(Identity, sa.ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True)


Subscription = sa.Table("subscriptions", METADATA, SubscriptionColumns)


class EventColumns(sa.TypedColumns):
    """Something that happened, as the bytes that every endpoint is sent."""

    id = required(Identity, primary_key=True)
    message_id = required(Text, unique=True)  # the header `webhook-id`
    type = required(Text)
    body = required(Text)
    created_at = required(Float, index=True)


Event = sa.Table("events", METADATA, EventColumns)


class DeliveryColumns(sa.TypedColumns):
    """An event on its way to one endpoint."""

    id = required(Identity, primary_key=True)
    event_id = required(Identity, sa.ForeignKey("events.id", ondelete="CASCADE"))
    endpoint_id = required(Identity, sa.ForeignKey("endpoints.id", ondelete="CASCADE"))
    state = required(Text)
    due_at = required(Float)  # when it is to be sent; while it is being sent, when its lease ends
    lease_number = required(Big, default=0)  # the fence: grows with each lease
    attempts = required(Big, default=0)
    attempted_at = optional(Float)  # this and what follows are of the last attempt
    status = optional(Big)
    error = optional(Text)
    answer = optional(Text)  # the beginning of the response's body
    finished_at = optional(Float)


Delivery = sa.Table(
    "deliveries",
    METADATA,
    DeliveryColumns,
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


class ThawColumns(sa.TypedColumns):
    """A job whose objects were asked for from an archive."""

    id = required(Identity, primary_key=True)
    job_id = required(Identity, sa.ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    state = required(Text)
    tier = required(Text)  # how fast: expedited, standard, bulk
    days = required(Big)  # that the readable copies stay
    asked_at = required(Float)
    looked_at = required(Float)  # when somebody last saw to it
    ready_at = optional(Float)
    until = optional(Float)  # the readable copies stay until then; None where nothing had to be thawed


Thaw = sa.Table(
    "thaws",
    METADATA,
    ThawColumns,
    sa.Index(
        "ix_thaws_pending",
        "looked_at",
        postgresql_where=sa.text("state = 'pending'"),
        sqlite_where=sa.text("state = 'pending'"),
    ),
)
