"""Corpora: accepted whole, ended when their last job has ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import errors, outbox, pools, states
from storage.database import now
from storage.models import Corpus, Job


class UnknownCorpusError(errors.InputError):
    """There is no corpus named {name!r} here. `voicemill list` shows what there is."""


class AmbiguousCorpusError(errors.InputError):
    """{name!r} could be any of {candidates}. Give more of its name."""


@dataclass(frozen=True, slots=True)
class NewCorpus:
    """A corpus about to be accepted."""

    name: str
    fingerprint: str
    engine: str
    pool: str
    priority: states.Priority
    options: Mapping[str, Any]
    source: str


def insert(connection: sa.Connection, new: NewCorpus) -> int | None:
    """Its number, None where the name is taken; by somebody who is quicker, too."""
    values = {
        "name": new.name,
        "fingerprint": new.fingerprint,
        "engine": new.engine,
        "pool": new.pool,
        "priority": int(new.priority),
        "options": dict(new.options),
        "source": new.source,
        "created_at": now(),
    }
    step = pools.upsert(connection, Corpus).values(**values).on_conflict_do_nothing(index_elements=["name"])
    return connection.execute(step.returning(Corpus.c.id)).scalar_one_or_none()


def rename(connection: sa.Connection, corpus_id: int, name: str) -> bool:
    """Give a corpus another name, unless that is taken."""
    taken = sa.select(Corpus.c.id).where(Corpus.c.name == name).exists()
    return bool(
        connection.execute(sa.update(Corpus).where(Corpus.c.id == corpus_id, ~taken).values(name=name)).rowcount
    )


def by_name(connection: sa.Connection, name: str) -> sa.Row[Any] | None:
    """The corpus of exactly that name."""
    return connection.execute(sa.select(Corpus).where(Corpus.c.name == name)).one_or_none()


def find(connection: sa.Connection, name: str) -> sa.Row[Any]:
    """The corpus of that name, or the only one whose name begins so. Raises UnknownCorpusError, AmbiguousCorpusError."""
    exact = by_name(connection, name)
    if exact is not None:
        return exact
    query = sa.select(Corpus).where(Corpus.c.name.startswith(name, autoescape=True)).limit(4)
    rows = list(connection.execute(query)) if name else []
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise UnknownCorpusError(name=name[:80])
    raise AmbiguousCorpusError(name=name, candidates=", ".join(row.name for row in rows))


def newest(connection: sa.Connection) -> sa.Row[Any] | None:
    """The corpus accepted last."""
    return connection.execute(sa.select(Corpus).order_by(Corpus.c.id.desc()).limit(1)).one_or_none()


def names(connection: sa.Connection, *, limit: int, offset: int = 0) -> list[str]:
    """Corpora, newest first."""
    return list(
        connection.scalars(sa.select(Corpus.c.name).order_by(Corpus.c.id.desc()).limit(limit).offset(offset))
    )


def running(connection: sa.Connection) -> list[sa.Row[Any]]:
    """Corpora that are not ended, oldest first."""
    query = sa.select(Corpus).where(Corpus.c.state == states.Corpus.RUNNING).order_by(Corpus.c.id)
    return list(connection.execute(query))


def finish(connection: sa.Connection, corpus_id: int) -> states.Corpus | None:
    """End a corpus if its last job has ended: its new state, None where there is work left or it has ended already.

    The row is locked first: of two workers that end the last two jobs at once, the later one sees both as ended.
    """
    lock = sa.select(Corpus.c.state, Corpus.c.is_open).where(Corpus.c.id == corpus_id).with_for_update()
    row = connection.execute(lock).one()
    if row.state != states.Corpus.RUNNING or row.is_open:
        return None
    jobs_of = sa.select(Job.c.id).where(Job.c.corpus_id == corpus_id)
    if connection.execute(jobs_of.where(Job.c.state.in_(states.UNFINISHED_JOBS)).limit(1)).first():
        return None
    imperfect = connection.execute(jobs_of.where(Job.c.state != states.Job.COMPLETED).limit(1)).first()
    state = states.Corpus.COMPLETED_WITH_ERRORS if imperfect else states.Corpus.COMPLETED
    connection.execute(sa.update(Corpus).where(Corpus.c.id == corpus_id).values(state=state, finished_at=now()))
    outbox.corpus_ended(connection, corpus_id)
    return state


def move(connection: sa.Connection, corpus_id: int, state: states.Corpus) -> bool:
    """Take a corpus to another state, where the step is allowed. False where it is not."""
    sources = [source for source, targets in states.CORPUS_STEPS.items() if state in targets]
    finished = None if state == states.Corpus.RUNNING else now()
    step = (
        sa.update(Corpus)
        .where(Corpus.c.id == corpus_id, Corpus.c.state.in_(sources))
        .values(state=state, finished_at=finished)
    )
    return connection.execute(step).rowcount == 1


def by_id(corpus_id: int) -> sa.Select[Any]:
    """The query for a corpus by its number."""
    return sa.select(Corpus).where(Corpus.c.id == corpus_id)


def locked(connection: sa.Connection, name: str) -> sa.Row[Any]:
    """The corpus of exactly that name, which must be there, its row locked until the transaction ends."""
    query = sa.select(Corpus).where(Corpus.c.name == name).with_for_update()
    return connection.execute(query).one()


def keep_open(connection: sa.Connection, corpus_id: int, more: bool) -> None:
    """Say whether more jobs of a corpus are announced: it does not end before they have come."""
    connection.execute(sa.update(Corpus).where(Corpus.c.id == corpus_id).values(is_open=more))


def spent(connection: sa.Connection, seconds: Mapping[int, float]) -> None:
    """Add to the time that workers were rendering for these corpora."""
    for corpus_id, more in sorted(seconds.items()):
        step = sa.update(Corpus).where(Corpus.c.id == corpus_id)
        connection.execute(step.values(worker_seconds=Corpus.c.worker_seconds + more))
