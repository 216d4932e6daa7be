"""Accepting a corpus: read, checked and cut whole before any of it enters the database, and then all of it at once.

A corpus is staged into two files in a temporary folder, a line a job and a line a segment, so that its size is bounded
by the disk and not by memory, standard input is read once, and a bad last line leaves nothing behind.
"""

import hashlib
import json
import sqlite3
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import sqlalchemy as sa
from pydantic import SecretStr

from scheduler import custom_ids, cutter, estimate, options, spool
from scheduler.document import Document, Problem
from scheduler.lexicon import Lexicon
from storage import corpora, endpoints, errors, jobs, keys, pools, segments, states
from storage.database import Database
from storage.models import Corpus
from storage.objects.store import Store
from workers.audio import covers
from workers.engines.engine import EngineSpec

KEEP_PROBLEMS = 1000  # of more bad lines only the number is kept
CHUNK_JOBS = 500  # jobs inserted by one statement
CHUNK_SEGMENTS = 2000  # segments inserted by one statement


class BadCorpusError(errors.InputError):
    """{count} of the corpus' items cannot be used: nothing was accepted. Mend them, or leave them out (--skip-invalid)."""


class EmptyCorpusError(errors.InputError):
    """There is nothing to render in {source}."""


class NameTakenError(errors.InputError):
    """A corpus named {name} exists with other content or options. Give this one another name."""


@dataclass(slots=True)
class Totals:
    """What a corpus amounts to."""

    jobs: int = 0
    segments: int = 0
    characters: int = 0
    tokens: int = 0
    pause_ms: int = 0


@dataclass(frozen=True, slots=True)
class How:
    """How a corpus' texts are cut and what its jobs' options are."""

    spec: EngineSpec
    resolver: options.Resolver
    lexicon: Lexicon
    pauses: cutter.Pauses = field(default_factory=cutter.Pauses)
    limit: int = cutter.LIMIT  # characters in a segment, at most


@dataclass(frozen=True, slots=True)
class Accepted:
    """A corpus that is in the database."""

    id: int
    name: str
    pool: str
    created: bool  # False: it was there already, with the same content
    secret: SecretStr | None = None  # of a webhook that was not known before: to be shown once


class Staged:
    """A corpus read and checked, waiting in temporary files. Close it."""

    def __init__(self, how: How) -> None:
        self.how = how
        self.totals = Totals()
        self.problems: list[Problem] = []
        self.problem_count = 0
        with ExitStack() as stack, spool.writing():
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voicemill-")))
            self._jobs: IO[bytes] = stack.enter_context((self._folder / "jobs").open("w+b"))
            self._pieces: IO[bytes] = stack.enter_context((self._folder / "pieces").open("w+b"))
            self._seen = stack.enter_context(closing(_Seen(self._folder / "seen")))
            self._open = stack.pop_all()
        self._hash = hashlib.sha256()
        self._covers: dict[str, Path] = {}  # by the key that each will have in the store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, sqlite3.Error):  # a full disk refuses once more what nobody wants
            self._open.close()

    @property
    def fingerprint(self) -> str:
        """sha256 of all that shapes the sound: texts as cut, names and options."""
        return self._hash.hexdigest()

    def add(self, item: Document | Problem) -> None:
        """Take one more document in, or note what is wrong with it."""
        if isinstance(item, Problem):
            self._note(item)
            return
        start = self._pieces.tell()
        try:
            self._stage(item)
        except (errors.InputError, ValueError, OSError) as error:
            with spool.writing():
                self._pieces.seek(start)
                self._pieces.truncate()
            reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            self._note(Problem(item.where, reason))

    def put_covers(self, store: Store) -> None:
        """Store the pictures that jobs name; do it before the jobs are accepted. Raises a StoreError."""
        for key, path in self._covers.items():
            store.upload(key, path, content_type="image/png" if key.endswith(".png") else "image/jpeg")

    def _keep_cover(self, picture: bytes) -> str | None:
        """The key that a picture will have in the store; None where audio files have no place for its kind."""
        suffix = covers.suffix(picture)
        if suffix is None:
            return None
        key = keys.cover(picture, suffix)
        if key not in self._covers:
            path = self._folder / key.rpartition("/")[2]
            with spool.writing():
                path.write_bytes(picture)
            self._covers[key] = path
        return key

    def jobs(self) -> Iterator[dict[str, Any]]:
        """The staged jobs, in their order."""
        with spool.writing():
            self._jobs.seek(0)
        return map(json.loads, self._jobs)

    def pieces(self) -> Iterator[list[Any]]:
        """The staged segments of all jobs: text, chapter, pause in ms, tokens."""
        with spool.writing():
            self._pieces.seek(0)
        return map(json.loads, self._pieces)

    def _note(self, problem: Problem) -> None:
        self.problem_count += 1
        if len(self.problems) < KEEP_PROBLEMS:
            self.problems.append(problem)

    def _stage(self, document: Document) -> None:
        reason = custom_ids.check(document.custom_id)
        if reason is not None:
            raise ValueError(reason)
        resolved = self.how.resolver.resolve(document.options)
        mine = Totals(jobs=1)
        lines: list[bytes] = []
        spoken = hashlib.sha256()
        pieces = cutter.cut(
            document.blocks,
            lexicon=self.how.lexicon,
            language=document.language,
            limit=self.how.limit,
            pauses=self.how.pauses,
        )
        for piece in pieces:
            text = self.how.spec.prepare(piece.text, resolved.engine_options)
            token_count = estimate.tokens(text, self.how.spec)
            lines.append(_line([text, piece.chapter, piece.pause_ms, token_count]))
            spoken.update(lines[-1])
            mine.segments += 1
            mine.characters += len(text)
            mine.tokens += token_count
            mine.pause_ms += piece.pause_ms
            if len(lines) == CHUNK_SEGMENTS:
                _write(self._pieces, lines)
                lines.clear()
        if not mine.segments:
            raise ValueError("there is nothing in its text that can be spoken")
        first = self._seen.add(document.custom_id, document.where)
        if first is not None:
            raise ValueError(f"the id {document.custom_id!r} was used before, in {first}")
        _write(self._pieces, lines)
        self._put_job(document, resolved, mine, spoken.digest())

    def _put_job(self, document: Document, resolved: options.JobOptions, mine: Totals, spoken: bytes) -> None:
        title = document.options.get("title") or document.title
        told = {"title": title, "author": document.author, "language": document.language}
        if document.cover is not None:
            told["cover"] = self._keep_cover(document.cover)
        job = {
            "custom_id": document.custom_id,
            "priority": int(resolved.priority),
            "options": {**resolved.values, **{key: value for key, value in told.items() if value}},
            "characters": mine.characters,
            "tokens_estimate": mine.tokens,
            "segments_total": mine.segments,
        }
        fingerprint = hashlib.sha256(_line(job) + spoken)
        _write(self._jobs, [_line({**job, "fingerprint": fingerprint.hexdigest()})])
        self._hash.update(fingerprint.digest())
        for name in Totals.__slots__:
            setattr(self.totals, name, getattr(self.totals, name) + getattr(mine, name))


class _Seen:
    """Names used so far, on disk: a corpus of any size in constant memory."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; BEGIN;"
            "CREATE TABLE seen (custom_id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID;"
        )

    def add(self, custom_id: str, place: str) -> str | None:
        """Where the name was used before, None if it is new."""
        with spool.writing():
            try:
                self._db.execute("INSERT INTO seen VALUES (?, ?)", (custom_id, place))
            except sqlite3.IntegrityError:
                row = self._db.execute("SELECT place FROM seen WHERE custom_id = ?", (custom_id,)).fetchone()
                return str(row[0])
        return None

    def close(self) -> None:
        self._db.close()


def _write(file: IO[bytes], lines: Iterable[bytes]) -> None:
    with spool.writing():
        file.writelines(lines)


def stage(documents: Iterable[Document | Problem], how: How, *, skip_invalid: bool = False) -> Staged:
    """Read and check a whole corpus. Raises BadCorpusError, which carries the problems, unless they are to be skipped."""
    staged = Staged(how)
    try:
        for item in documents:
            staged.add(item)
        if staged.problem_count and not skip_invalid:
            raise BadCorpusError(count=staged.problem_count, problems=staged.problems)
    except BaseException:
        staged.__exit__(None, None, None)
        raise
    return staged


def accept(
    database: Database,
    staged: Staged,
    *,
    name: str,
    source: str,
    corpus_options: Mapping[str, Any],
    priority: states.Priority,
    webhook: str | None = None,
) -> Accepted:
    """Put a staged corpus into the database, all of it or nothing. Accepting the same twice is accepting it once.

    `webhook` is told of its jobs and its end (`workers.webhooks.targets` has checked it), from now on where the corpus is
    there already.

    Raises NameTakenError where the name belongs to another corpus, EmptyCorpusError where nothing was staged.
    """
    if not staged.totals.jobs:
        raise EmptyCorpusError(source=source)

    def step(connection: sa.Connection) -> Accepted:
        new = _new_corpus(staged, name, source, corpus_options, priority, staged.fingerprint)
        corpus_id = corpora.insert(connection, new)
        created = corpus_id is not None
        if corpus_id is not None:
            _Insertion(connection, corpus_id, new.pool).run(staged)
        else:
            there = corpora.by_name(connection, name)
            if there is None or there.fingerprint != staged.fingerprint or there.engine != new.engine:
                raise NameTakenError(name=name)
            corpus_id = there.id
        secret = endpoints.follow(connection, corpus_id, webhook).secret if webhook else None
        return Accepted(corpus_id, name, new.pool, created, secret)

    return database.run(step)


def add(
    database: Database,
    staged: Staged,
    *,
    name: str,
    source: str,
    corpus_options: Mapping[str, Any],
    priority: states.Priority,
    more: bool,
) -> tuple[Accepted, int]:
    """Put staged jobs into a corpus that is made where there is none yet: the corpus, and how many jobs were new.

    Jobs that are there already and the same are passed over, so everything may be sent twice. `more` keeps a new corpus
    open until a message without it comes; afterwards it says nothing, so that a message that comes late or again opens
    nothing for ever. Raises JobTakenError, CorpusCancelledError, OtherEngineError; then nothing was added.
    """
    spec = staged.how.spec

    def step(connection: sa.Connection) -> tuple[Accepted, int]:
        new = _new_corpus(staged, name, source, corpus_options, priority, "")
        created = corpora.insert(connection, new) is not None
        there = corpora.locked(connection, name)
        if there.state == states.Corpus.CANCELLED:
            raise CorpusCancelledError(name=name)
        if there.engine != spec.name:
            raise OtherEngineError(name=name, engine=there.engine)
        insertion = _Insertion(connection, there.id, spec.pool)
        if not created:
            insertion.go_on(there)
        insertion.run(staged)
        if created or not more:
            corpora.keep_open(connection, there.id, more)
        if insertion.added and not created:
            corpora.move(connection, there.id, states.Corpus.RUNNING)
        elif not more:
            corpora.finish(connection, there.id)
        return Accepted(there.id, name, new.pool, created), insertion.added

    return database.run(step)


class JobTakenError(errors.InputError):
    """The job {custom_id!r} is in the corpus already, with another text or other options."""


class CorpusCancelledError(errors.InputError):
    """The corpus {name} was cancelled, so no jobs can be added to it. `voicemill retry {name}` takes it up again."""


class OtherEngineError(errors.InputError):
    """The corpus {name} is rendered with the engine {engine}; jobs for another engine need a corpus of their own."""


def _new_corpus(
    staged: Staged,
    name: str,
    source: str,
    corpus_options: Mapping[str, Any],
    priority: states.Priority,
    fingerprint: str,
) -> corpora.NewCorpus:
    spec = staged.how.spec
    return corpora.NewCorpus(name, fingerprint, spec.name, spec.pool, priority, corpus_options, source)


class _Insertion:
    """Jobs and segments on their way into the tables, with the places that fair queueing gives them."""

    def __init__(self, connection: sa.Connection, corpus_id: int, pool: str) -> None:
        self.connection, self.corpus_id, self.pool = connection, corpus_id, pool
        self.position = 0  # of the last job
        self.finish = 0  # the corpus' virtual finish
        self.added = 0  # jobs
        self.known = False  # whether some jobs may be there already
        self.clocks = {
            int(priority): pools.virtual_time(connection, pool, priority) for priority in states.Priority
        }
        self.rows: list[dict[str, Any]] = []

    def go_on(self, corpus: sa.Row[Any]) -> None:
        """Go on behind what is in the corpus already."""
        self.position = jobs.last_position(self.connection, self.corpus_id)
        self.finish = corpus.virtual_finish
        self.known = True

    def run(self, staged: Staged) -> None:
        pieces = staged.pieces()
        lines = staged.jobs()
        while chunk := list(islice(lines, CHUNK_JOBS)):
            there = self._there(chunk)
            fresh = [job for job in chunk if job["custom_id"] not in there]
            numbers = dict(zip((job["custom_id"] for job in fresh), self._insert_jobs(fresh), strict=True))
            for job in chunk:
                mine = islice(pieces, job["segments_total"])
                if job["custom_id"] in numbers:
                    self._add_segments(job, numbers[job["custom_id"]], mine)
                else:
                    deque(mine, maxlen=0)
        self._flush()
        self.connection.execute(
            sa.update(Corpus).where(Corpus.c.id == self.corpus_id).values(virtual_finish=self.finish)
        )

    def _there(self, chunk: Sequence[Mapping[str, Any]]) -> set[str]:
        """Which of these jobs are in the corpus already, the same. Raises JobTakenError where one differs."""
        if not self.known:
            return set()
        wanted = {job["custom_id"]: job["fingerprint"] for job in chunk}
        there = jobs.fingerprints(self.connection, self.corpus_id, list(wanted))
        for custom_id, fingerprint in there.items():
            if fingerprint != wanted[custom_id]:
                raise JobTakenError(custom_id=custom_id)
        return set(there)

    def _insert_jobs(self, chunk: Sequence[Mapping[str, Any]]) -> list[int]:
        if not chunk:
            return []
        first = self.position + 1
        self.position += len(chunk)
        self.added += len(chunk)
        rows = [{**job, "corpus_id": self.corpus_id, "position": first + at} for at, job in enumerate(chunk)]
        return jobs.insert(self.connection, rows)

    def _add_segments(self, job: Mapping[str, Any], job_id: int, pieces: Iterable[list[Any]]) -> None:
        priority = job["priority"]
        for position, (text, chapter, pause_ms, token_count) in enumerate(pieces):
            start = max(self.clocks[priority], self.finish)
            self.finish = start + token_count
            self.rows.append(
                {
                    "job_id": job_id,
                    "position": position,
                    "text": text,
                    "chapter": chapter,
                    "pause_ms": pause_ms,
                    "state": states.Segment.PENDING.value,
                    "pool": self.pool,
                    "rank": segments.rank(priority, interrupted=False),
                    "start_tag": start,
                    "tokens_estimate": token_count,
                    "attempts": 0,
                    "interruptions": 0,
                }
            )
            if len(self.rows) >= CHUNK_SEGMENTS:
                self._flush()

    def _flush(self) -> None:
        if self.rows:
            segments.insert(self.connection, self.rows)
            self.rows = []


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
