"""The states of everything that moves, and which step may follow which. `docs/architecture.md` draws the same."""

from enum import IntEnum, StrEnum


class Corpus(StrEnum):
    """A corpus: what a producer submitted in one go."""

    RUNNING = "running"  # accepted; some of its jobs are not ended
    COMPLETED = "completed"  # every job has its audio
    COMPLETED_WITH_ERRORS = (
        "completed_with_errors"  # every job has ended, some without audio or in need of a listen
    )
    CANCELLED = "cancelled"  # stopped by a person; what was finished is kept


class Job(StrEnum):
    """A job: one long text that becomes one audio file."""

    PENDING = "pending"  # some of its segments are not ended
    RENDERED = "rendered"  # every segment has its take; waits for assembly
    ASSEMBLING = "assembling"  # a worker holds its assembly lease
    COMPLETED = "completed"  # its audio is in the store
    NEEDS_REVIEW = "needs_review"  # its audio is in the store; a take in it or a file failed a check
    FAILED = "failed"  # a segment or the assembly failed for good; `errors.jsonl` says why
    CANCELLED = "cancelled"  # stopped by a person


class Segment(StrEnum):
    """A segment: what one model sequence speaks."""

    PENDING = "pending"  # waits to be planned
    BATCHED = "batched"  # in a batch that is not finished
    DONE = "done"  # its take is in the store
    FAILED = "failed"  # its attempts are used up
    CANCELLED = "cancelled"  # stopped by a person


class Batch(StrEnum):
    """A batch: what one worker renders in one go."""

    READY = "ready"  # committed; a worker may claim it
    LEASED = "leased"  # a worker holds its lease and must keep renewing it
    FINISHED = "finished"  # no segment is in it any more; its outcome says how it ended


class Outcome(StrEnum):
    """How a batch ended."""

    DONE = "done"  # every segment got an answer
    INTERRUPTED = "interrupted"  # the worker was told to stop and gave the rest back
    LOST = "lost"  # the lease ran out: the worker vanished
    SPLIT = "split"  # the engine broke on it: two halves go on
    CANCELLED = "cancelled"  # most of it was not wanted any more; the rest was given back


class Priority(IntEnum):
    """Which work goes first. Lower is sooner."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


CORPUS_STEPS: dict[Corpus, frozenset[Corpus]] = {
    Corpus.RUNNING: frozenset({Corpus.COMPLETED, Corpus.COMPLETED_WITH_ERRORS, Corpus.CANCELLED}),
    Corpus.COMPLETED: frozenset({Corpus.RUNNING}),
    Corpus.COMPLETED_WITH_ERRORS: frozenset({Corpus.RUNNING, Corpus.COMPLETED}),
    Corpus.CANCELLED: frozenset({Corpus.RUNNING}),
}
JOB_STEPS: dict[Job, frozenset[Job]] = {
    Job.PENDING: frozenset({Job.RENDERED, Job.FAILED, Job.CANCELLED}),
    Job.RENDERED: frozenset({Job.ASSEMBLING, Job.CANCELLED}),
    Job.ASSEMBLING: frozenset(
        {Job.COMPLETED, Job.NEEDS_REVIEW, Job.FAILED, Job.RENDERED, Job.PENDING, Job.CANCELLED}
    ),
    Job.COMPLETED: frozenset({Job.PENDING, Job.RENDERED}),
    Job.NEEDS_REVIEW: frozenset({Job.PENDING, Job.RENDERED, Job.COMPLETED}),
    Job.FAILED: frozenset({Job.PENDING, Job.RENDERED}),
    Job.CANCELLED: frozenset({Job.PENDING, Job.RENDERED}),
}
SEGMENT_STEPS: dict[Segment, frozenset[Segment]] = {
    Segment.PENDING: frozenset({Segment.BATCHED, Segment.CANCELLED}),
    Segment.BATCHED: frozenset({Segment.DONE, Segment.PENDING, Segment.FAILED, Segment.CANCELLED}),
    Segment.DONE: frozenset({Segment.PENDING}),
    Segment.FAILED: frozenset({Segment.PENDING}),
    Segment.CANCELLED: frozenset({Segment.PENDING}),
}
BATCH_STEPS: dict[Batch, frozenset[Batch]] = {
    Batch.READY: frozenset({Batch.LEASED, Batch.FINISHED}),
    Batch.LEASED: frozenset({Batch.LEASED, Batch.FINISHED}),
    Batch.FINISHED: frozenset(),
}

UNFINISHED_JOBS = (Job.PENDING, Job.RENDERED, Job.ASSEMBLING)
AUDIBLE_JOBS = (Job.COMPLETED, Job.NEEDS_REVIEW)
