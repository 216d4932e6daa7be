"""One sentence of a finished job once more: with another seed, or with other words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scheduler import breaks, cutter, estimate, options
from scheduler.document import Block
from storage import errors, jobs, revise, seeds, states
from storage.database import Database
from workers.engines.engine import EngineSpec, Judged


class BadSentenceError(errors.InputError):
    """This text cannot stand for a segment: {reason}."""


class SameAgainError(errors.InputError):
    """The engine {engine} speaks a text in one way only, whatever the seed. Give it other words with --text."""


@dataclass(frozen=True, slots=True)
class Redone:
    """A segment on its way to being rendered again."""

    job: str
    segment: int
    text: str
    text_before: str
    seed: int
    pool: str


def redo(
    database: Database,
    spec: EngineSpec,
    corpus: sa.Row[Any],
    custom_id: str,
    position: int,
    *,
    text: str | None = None,
    seed: int | None = None,
) -> Redone:
    """Have one segment rendered again and its job assembled after that. Every other take stays as it is.

    Without a text or a seed it gets another seed. Raises UnknownJobError, BadSentenceError, SameAgainError and what
    `revise` raises; then nothing has changed.
    """

    def step(connection: sa.Connection) -> Redone:
        job = jobs.by_custom_id(connection, corpus.id, custom_id)
        if job is None:
            raise jobs.UnknownJobError(custom_id=custom_id, corpus=corpus.name)
        segment = revise.find(connection, job, position)
        spoken = segment.text if text is None else sentence(text, spec, job.options)
        if spoken == segment.text and isinstance(spec, Judged) and not spec.uses_seed:
            raise SameAgainError(engine=spec.name)
        chosen = int(job.options["seed"]) if segment.seed is None else segment.seed
        if seed is not None:
            chosen = seed
        elif spoken == segment.text:
            chosen = seeds.another(chosen, segment.redone)
        tokens = estimate.tokens(spoken, spec)
        revise.revise(connection, corpus, segment, text=spoken, tokens=tokens, seed=chosen)
        return Redone(custom_id, position, spoken, segment.text, chosen, segment.pool)

    return database.run(step)


def under_way(
    database: Database,
    spec: EngineSpec,
    corpus: sa.Row[Any],
    custom_id: str,
    position: int,
    *,
    text: str | None = None,
    seed: int | None = None,
) -> Redone | None:
    """The same redo, where it was asked for before and is not done yet; None where something else is under way."""
    with database.read() as connection:
        job = jobs.by_custom_id(connection, corpus.id, custom_id)
        if job is None:
            raise jobs.UnknownJobError(custom_id=custom_id, corpus=corpus.name)
        segment = revise.find(connection, job, position)
    waits = segment.state in (states.Segment.PENDING, states.Segment.BATCHED)
    waits |= job.state in (states.Job.RENDERED, states.Job.ASSEMBLING)
    if not waits or not segment.redone or segment.seed is None or seed not in (None, segment.seed):
        return None
    if text is not None and sentence(text, spec, job.options) != segment.text:
        return None
    return Redone(custom_id, position, segment.text, segment.text, segment.seed, segment.pool)


def sentence(text: str, spec: EngineSpec, job_options: Any) -> str:
    """New words for a segment as the engine gets them. Raises BadSentenceError."""
    try:
        pieces: Sequence[cutter.Piece] = list(cutter.cut([Block(text)], language=job_options.get("language")))
        if not pieces:
            raise BadSentenceError(reason="there is nothing in it that can be spoken")
        if len(pieces) > 1:
            reason = f"it makes {len(pieces)} segments, a segment has at most {cutter.LIMIT} characters and no break in it"
            raise BadSentenceError(reason=reason)
        return spec.prepare(pieces[0].text, spec.options.model_validate(job_options["engine_options"]))
    except (ValueError, breaks.BreakTagError) as error:
        raise BadSentenceError(reason=str(error).rstrip(".")) from error


MAX_SEED = options.MAX_SEED
