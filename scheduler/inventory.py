"""The object store and the tables side by side: what is listed in the one, what rows of the other refer to.

Both are written into a temporary database on disk, so that memory does not grow with either. The store is listed first and
the rows are read afterwards: an object is there before its row, so whatever was listed and has no row then never had one,
or lost it, or is so young that its row is still to come.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from storage import keys, reels, referred, results, states
from storage.database import Database, now
from storage.keys import Kind
from storage.objects.store import Store
from workers.audio import wav

TEXT_GRACE = (
    30 * 86_400.0
)  # seconds: a text that was sent by reference may wait in a queue, and no row knows of it
JUDGED = frozenset(  # kinds of which rows tell everything that is needed; others are left alone
    {
        *(Kind.TAKES, Kind.CODES, Kind.AUDIO, Kind.CAPTIONS, Kind.COVERS, Kind.REELS),
        *(Kind.TEXTS, Kind.MANIFESTS, Kind.CHECKS),
    }
)
NPY_HEADER = len(wav.npy(b""))  # bytes before the codes
LATE = 600.0  # seconds that a row's transaction may have been under way
DUE = (  # jobs that are the same to the byte share their objects
    "INSERT INTO due VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
    " job = max(job, excluded.job), since = min(since, excluded.since), size = coalesce(excluded.size, size)"
)

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object that no row refers to."""

    key: str
    size: int  # bytes
    modified: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that a row refers to and that is not there, or is not as the row says."""

    key: str
    expected: int | None  # bytes, as the row says; None where it says nothing
    size: int | None  # bytes, as it is; None where there is no such object
    job_id: int | None  # of the finished job that it belongs to; None for a take's
    since: float  # when the row says that it was there, by the database's clock


class Inventory:
    """One look at a store and its database. Close it."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._folder = tempfile.TemporaryDirectory(prefix="voicemill-")
        self._db = sqlite3.connect(Path(self._folder.name) / "inventory", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; BEGIN;"
            "CREATE TABLE found (key TEXT PRIMARY KEY, kind TEXT, size INTEGER, modified REAL) WITHOUT ROWID;"
            "CREATE TABLE due (key TEXT PRIMARY KEY, size INTEGER, job INTEGER, since REAL) WITHOUT ROWID;"
            "CREATE TABLE removed (key TEXT PRIMARY KEY) WITHOUT ROWID;"
        )
        self.started = 0.0  # by the database's clock, before anything was listed
        self.strange = 0  # objects that are none of ours, or not judged
        self.objects = 0  # that are

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._folder.cleanup()

    def take(self) -> None:
        """List the store, then read every row that refers to it. Raises a StoreError."""
        self.started = self._now()
        self._insert("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?)", self._listed())
        with self._database.read() as connection:
            self._spare_manifests(referred.corpora(connection))
        self.look_again(everything=True)

    def look_again(self, *, everything: bool = False) -> None:
        """Read the rows that came since the store was listed."""
        since = None if everything else self.started - LATE
        with self._database.read() as connection:
            self._insert(DUE, _of_takes(connection, since))
            self._insert(DUE, _of_jobs(connection, since))
            self._insert(DUE, _in_use(connection))

    def orphans(self, grace: float) -> Iterator[Orphan]:
        """Objects of ours, older than so many seconds, that no row refers to."""
        query = (
            "SELECT found.key, found.size, found.modified FROM found LEFT JOIN due ON due.key = found.key"
            " WHERE due.key IS NULL AND found.modified < CASE WHEN kind = ? THEN ? ELSE ? END ORDER BY found.key"
        )
        texts, others = self.started - max(grace, TEXT_GRACE), self.started - grace
        for row in self._db.execute(query, (Kind.TEXTS.value, texts, others)):
            yield Orphan(*row)

    def young(self, grace: float) -> int:
        """How many objects have no row and are too young to be called orphans."""
        query = "SELECT count(*) FROM found LEFT JOIN due ON due.key = found.key WHERE due.key IS NULL"
        return int(self._db.execute(query).fetchone()[0]) - sum(1 for _ in self.orphans(grace))

    def faults(self) -> Iterator[Fault]:
        """What rows refer to and what is not there, or has another size than they say."""
        query = (
            "SELECT due.key, due.size, found.size, due.job, due.since FROM due LEFT JOIN found ON found.key = due.key"
            " WHERE due.since < ? AND due.job IS NOT 0"
            " AND (found.key IS NULL OR due.size IS NOT NULL AND due.size <> found.size) ORDER BY due.key"
        )
        for row in self._db.execute(query, (self.started,)):
            yield Fault(*row)

    def matches(self) -> int:
        """How many objects are there and referred to."""
        return int(self._db.execute("SELECT count(*) FROM found JOIN due ON due.key = found.key").fetchone()[0])

    def note_removed(self, orphans: Iterable[Orphan]) -> None:
        """Remember what was removed, for `missed`."""
        self._insert("INSERT OR REPLACE INTO removed VALUES (?)", ((orphan.key,) for orphan in orphans))

    def missed(self) -> list[int]:
        """Finished jobs that came to refer, in the very moment, to what was removed."""
        query = "SELECT DISTINCT due.job FROM removed JOIN due ON due.key = removed.key WHERE due.job > 0"
        return [int(job) for (job,) in self._db.execute(query)]

    def _now(self) -> float:
        with self._database.read() as connection:
            return float(connection.scalar(sa.select(now())) or 0.0)

    def _listed(self) -> Iterator[Values]:
        for entry in self._store.list():
            kind = keys.kind_of(entry.key)
            if kind not in JUDGED:
                self.strange += 1
                continue
            self.objects += 1
            assert kind is not None
            yield entry.key, kind.value, entry.size, entry.modified.timestamp()

    def _spare_manifests(self, names: set[str]) -> None:
        query = "SELECT key, size, modified FROM found WHERE kind = ?"
        found = self._db.execute(query, (Kind.MANIFESTS.value,)).fetchall()
        known = [(key, size, None, since) for key, size, since in found if keys.corpus_of(key) in names]
        self._insert(DUE, iter(known))

    def _insert(self, statement: str, rows: Iterator[Values]) -> None:
        self._db.executemany(statement, rows)


def _of_takes(connection: sa.Connection, since: float | None) -> Iterator[Values]:
    for row in referred.takes(connection, since):
        yield keys.take(row.take_key), wav.HEADER.size + 2 * row.samples, None, row.created_at
        if row.has_codes:
            yield keys.codes(row.take_key), NPY_HEADER + 2 * row.tokens, None, row.created_at


def _of_jobs(connection: sa.Connection, since: float | None) -> Iterator[Values]:
    """A job that is not finished (any more) still refers to its audio, but nothing is amiss if that is gone: job 0."""
    for row in referred.jobs(connection, since):
        job = row.id if row.state in states.AUDIBLE_JOBS else 0
        sizes = results.sizes(row)
        found = results.objects(row).values() if row.assembly_key else sizes
        for key in found:
            yield key, sizes.get(key), job, row.finished_at or row.created_at


def _in_use(connection: sa.Connection) -> Iterator[Values]:
    """What unfinished work needs. Nothing is amiss if it is gone: a reel is made again, of a cover the work tells."""
    for key in (*map(keys.reel, reels.keys_in_use(connection)), *referred.covers(connection)):
        yield key, None, 0, 0.0
