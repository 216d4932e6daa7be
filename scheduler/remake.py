"""Makes a finished job's files once more, here and now, from its takes and codes: for audio that lies in an archive.

Takes that are gone are made again from their codes. Then the job is assembled the way every job is, in a database of its
own beside a store of its own: neither the state of record nor the archive is touched, nobody is told, and a process that
is killed leaves a temporary folder and nothing else.
"""

import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from storage import errors, keys, owners, results, segments, states
from storage.database import Database
from storage.models import METADATA, Corpus, Job, Segment, Take
from storage.objects import beside, open_store
from storage.objects.store import AgingStore, Store, Warmth
from storage.takes import chunks
from workers import assemble
from workers.audio import edit, wav
from workers.engines import codes, registry

AT_ONCE = 64  # takes whose codes are held in memory together


class CannotRemakeError(errors.VoicemillError):
    """The audio of {custom_id!r} cannot be made again here: {reason}. `voicemill thaw` asks for it from the archive."""


@dataclass(slots=True)
class Remade:
    """What came of one job."""

    files: int = 0
    takes: int = 0  # made again from their codes
    differing: list[str] = field(default_factory=list)  # files that are not the same to the byte


class Remaker:
    """Makes jobs again, one after another; the codec is loaded when a take first needs it."""

    def __init__(self, database: Database, store: Store, scratch: Path | None = None) -> None:
        self._database, self._store, self._scratch = database, store, scratch
        self._speakers: dict[str, codes.Speaker] = {}

    def remake(self, job: sa.Row[Any], folder: Path) -> Remade:
        """Write a finished job's files into a folder, under the names that `fetch` gives them.

        Raises CannotRemakeError, OtherCodecError, or what keeps the codec from loading.
        """
        if self._scratch is not None:
            self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="voicemill-", dir=self._scratch) as name:
            near = open_store(str(Path(name) / "store"), {"durable": "false"})
            made = Remade(takes=self._takes(job, near))
            place = Database(f"sqlite:///{Path(name) / 'job.db'}")
            try:
                with self._database.read() as connection:
                    _copy(connection, place, job)
                again = self._assembled(place, beside.BesideStore(near, self._store), Path(name), job)
            finally:
                place.close()
            _hand_over(near, job, again, folder, made)
        return made

    def _takes(self, job: sa.Row[Any], near: Store) -> int:
        """Make takes again whose sound is not in the store: how many."""
        with self._database.read() as connection:
            parts = segments.parts(connection, job.id)
            wanted = _unread(self._store, sorted({part.take_key for part in parts}))
            rows = {row.take_key: row for row in _rows(connection, wanted)}
            engine = str(
                connection.execute(sa.select(Corpus.c.engine).where(Corpus.c.id == job.corpus_id)).scalar_one()
            )
        if len(parts) != job.segments_total:
            raise CannotRemakeError(custom_id=job.custom_id, reason="its segments are not all known any more")
        for some in _some(wanted):
            self._speak(job, engine, [rows[key] for key in some], near)
        return len(wanted)

    def _speak(self, job: sa.Row[Any], engine: str, rows: Sequence[sa.Row[Any]], near: Store) -> None:
        kept = [self._codes(job, row) for row in rows]
        speaker = self._speaker(job, engine)
        for row, pcm in zip(rows, speaker.speak(kept, [row.recipe for row in rows]), strict=True):
            tidied = edit.tidy(pcm, row.sample_rate)
            near.put(keys.take(row.take_key), wav.wrap(_of_length(tidied, 2 * row.samples), row.sample_rate))

    def _codes(self, job: sa.Row[Any], row: sa.Row[Any]) -> bytes:
        if not row.has_codes or row.recipe is None:
            raise CannotRemakeError(
                custom_id=job.custom_id,
                reason=f"its takes are gone, and the engine {row.engine} keeps no codes",
            )
        try:
            stored = self._store.get(keys.codes(row.take_key))
            return bytes(np.load(io.BytesIO(stored), allow_pickle=False).astype("<i2").tobytes())
        except (errors.ObjectMissingError, ValueError) as error:
            reason = f"the codes of the take {row.take_key[:12]} are gone or damaged"
            raise CannotRemakeError(custom_id=job.custom_id, reason=reason) from error

    def _speaker(self, job: sa.Row[Any], engine: str) -> codes.Speaker:
        if engine not in self._speakers:
            spec = registry.spec(engine)
            if not isinstance(spec, codes.Speaking):
                raise CannotRemakeError(custom_id=job.custom_id, reason=f"the engine {engine} has no codec")
            self._speakers[engine] = spec.speaker()
        return self._speakers[engine]

    def _assembled(self, place: Database, store: Store, folder: Path, job: sa.Row[Any]) -> sa.Row[Any]:
        """The job as it is once it was assembled the ordinary way."""
        (folder / "scratch").mkdir()
        bench = assemble.Bench(place, store, owners.this_process(), folder / "scratch", attempts=1)
        assemble.run(bench)
        with place.read() as connection:
            row = connection.execute(sa.select(Job)).one()
        if row.state not in states.AUDIBLE_JOBS:
            reason = row.detail or "takes of it are damaged"
            raise CannotRemakeError(custom_id=job.custom_id, reason=reason)
        return row


def _unread(store: Store, take_keys: Sequence[str]) -> list[str]:
    """Takes that cannot be read from the store."""
    if not isinstance(store, AgingStore):
        return [key for key in take_keys if store.size(keys.take(key)) is None]
    found = []
    for key in take_keys:
        standing = store.standing(keys.take(key))
        if standing is None or standing.warmth != Warmth.READY:
            found.append(key)
    return found


def _rows(connection: sa.Connection, take_keys: Sequence[str]) -> Iterator[sa.Row[Any]]:
    for some in chunks(take_keys):
        yield from connection.execute(sa.select(Take).where(Take.c.take_key.in_(some)))


def _some(take_keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(take_keys), AT_ONCE):
        yield take_keys[start : start + AT_ONCE]


def _of_length(pcm: bytes, size: int) -> bytes:
    """Within rounding a device may find the edge of silence elsewhere; the programme is laid out by where it was."""
    return pcm[:size].ljust(size, b"\0")


def _copy(source: sa.Connection, place: Database, job: sa.Row[Any]) -> None:
    """A job with all that its assembly looks at, about to be assembled, alone in a database."""
    METADATA.create_all(place.engine)
    corpus = source.execute(sa.select(Corpus).where(Corpus.c.id == job.corpus_id)).one()
    parts = source.execute(sa.select(Segment).where(Segment.c.job_id == job.id)).all()
    takes = _rows(source, sorted({part.take_key for part in parts if part.take_key is not None}))
    fresh = {
        "state": states.Job.RENDERED,
        "assembly_key": None,
        "attempts": 0,
        "lease_owner": None,
        "lease_expires_at": None,
    }
    with place.write() as connection:
        connection.execute(sa.insert(Corpus), [_values(corpus, state=states.Corpus.RUNNING)])
        connection.execute(sa.insert(Job), [_values(job, **fresh)])
        for some in chunks([_values(part) for part in parts]):
            connection.execute(sa.insert(Segment), list(some))
        for some in chunks([_values(take) for take in takes]):
            connection.execute(sa.insert(Take), list(some))


def _values(row: sa.Row[Any], **changed: Any) -> dict[str, Any]:
    return {**row._asdict(), **changed}


def _hand_over(near: Store, job: sa.Row[Any], again: sa.Row[Any], folder: Path, made: Remade) -> None:
    """Put the files into the folder, each whole or not at all, and compare them with what was told of them."""
    before = results.digests(job)
    names = {name: before.get(key) for name, key in results.objects(job).items()}
    after = results.digests(again)
    for name, key in results.objects(again).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        near.download(key, path)
        made.files += 1
        if names.get(name) is not None and names[name] != after.get(key):
            made.differing.append(name)
