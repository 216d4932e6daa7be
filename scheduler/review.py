"""What needs a listen, with everything a person needs to judge it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from storage import errors, keys, results, review, segments
from storage.database import Database
from storage.objects.store import Store


@dataclass(frozen=True, slots=True)
class Flag:
    """A take that failed a check. Times in seconds."""

    job: str
    segment: int
    text: str
    reason: str
    detail: str
    seconds: float
    sample_rate: int  # Hz
    at_seconds: float | None  # where it begins in its job's audio; None while that is not complete
    redone: int  # how often a person had it rendered again
    take: str  # its key
    path: str  # where to listen: a file, or the object's address in the bucket


@dataclass(frozen=True, slots=True)
class BadFile:
    """A finished file that failed a check of its own."""

    job: str
    file: str  # where it goes, below the output folder
    problem: str
    path: str  # where it lies: a file, or the object's address in the bucket


def flags(database: Database, store: Store, corpus: sa.Row[Any], limit: int | None = None) -> list[Flag]:
    """Every take of a corpus that needs a listen, in the corpus' order."""
    with database.read() as connection:
        rows = review.flagged(connection, corpus.id, limit)
        starts = {job_id: _starts(connection, job_id) for job_id in dict.fromkeys(row.job_id for row in rows)}
    return [
        Flag(
            job=row.custom_id,
            segment=row.position,
            text=row.text,
            reason=row.reason,
            detail=row.detail,
            seconds=round(row.samples / row.sample_rate, 3),
            sample_rate=row.sample_rate,
            at_seconds=starts[row.job_id].get(row.position),
            redone=row.redone,
            take=row.take_key,
            path=location(store, keys.take(row.take_key)),
        )
        for row in rows
    ]


def files(database: Database, store: Store, corpus: sa.Row[Any], limit: int | None = None) -> list[BadFile]:
    """Every file of a corpus that failed a check of its own, in the corpus' order."""
    with database.read() as connection:
        return [
            BadFile(job.custom_id, results.file_name(job, made), made["problem"], location(store, made["key"]))
            for job, made in islice(review.files(connection, corpus.id), limit)
        ]


def fetch(store: Store, flags_found: list[Flag], folder: Path) -> Iterator[tuple[Flag, Path | None]]:
    """Write the takes into a folder, JOB-0012.wav; None for one that is not in the store any more, or is archived."""
    folder.mkdir(parents=True, exist_ok=True)
    for flag in flags_found:
        path = folder / f"{flag.job}-{flag.segment:04}.wav"
        try:
            store.download(keys.take(flag.take), path)
        except (errors.ObjectMissingError, errors.ObjectArchivedError):
            yield flag, None
        else:
            yield flag, path


def location(store: Store, key: str) -> str:
    """Where an object is, as a person can use it: a path, or an address without secrets."""
    parts = urlsplit(store.url)
    if parts.scheme == "file":
        return str(Path(unquote(parts.path)) / key)
    return f"{store.url.rstrip('/')}/{key}"


def _starts(connection: sa.Connection, job_id: int) -> dict[int, float]:
    """Where each segment of a job begins; empty while takes are missing, since nothing after a gap is known."""
    parts = segments.parts(connection, job_id)
    if [part.position for part in parts] != list(range(len(parts))) or not parts:
        return {}
    ends = accumulate(part.samples + part.pause_ms * part.sample_rate // 1000 for part in parts)
    starts = [0, *ends]
    return {
        part.position: round(start / part.sample_rate, 3)
        for part, start in zip(parts, starts, strict=False)  # the last one is where the job ends
    }
