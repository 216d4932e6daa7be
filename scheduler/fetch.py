"""Brings finished work out of the store into a folder, under the producer's own names."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from storage import errors, results, states
from storage.database import Database
from storage.objects.store import Store

THREADS = 8  # files fetched at once
AWAY = (errors.ObjectArchivedError,)  # what does not keep the rest from being fetched


class OutputError(errors.VoicemillError):
    """Cannot write to {path}: {reason}. Free some space or choose another folder, and run the same command again."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a fetch."""

    files: int  # written
    kept: int  # there already, the same to the byte
    results: int  # lines in results.jsonl
    errors: int  # lines in errors.jsonl
    frozen: Sequence[str] = ()  # jobs, by custom_id, of which something lies in an archive


def fetch(
    database: Database,
    store: Store,
    corpus: sa.Row[Any],
    folder: Path,
    *,
    only: Callable[[str], bool] | None = None,
    remake: Callable[[sa.Row[Any], Path], bool] | None = None,
) -> Fetched:
    """Write a corpus' finished audio, captions, `results.jsonl` and `errors.jsonl` into a folder.

    A file that is there and the same is left alone; one that is not is replaced whole. `only` picks custom_ids. `remake`
    makes a job's files in the folder some other way, where they are gone or lie in an archive: whether it could.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with database.read() as connection:
            ended = results.ended(connection, corpus)
            blamed = list(results.failures(connection, corpus, ended))
        rows = [
            row for row in ended if row.state in states.AUDIBLE_JOBS and (only is None or only(row.custom_id))
        ]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="fetch") as pool:
            passed_over = AWAY if remake is None else (*AWAY, errors.ObjectMissingError)
            done = list(pool.map(lambda row: _job(store, row, folder, passed_over), rows))
        for at, row in enumerate(rows):
            if remake is not None and done[at][1] and remake(row, folder):
                done[at] = (sum(done[at]), 0)
        good = _lines(folder / "results.jsonl", results.successes(corpus, ended))
        bad = _lines(folder / "errors.jsonl", blamed)
    except OSError as error:
        raise OutputError(path=error.filename or folder, reason=error.strerror or error) from error
    written, frozen = sum(files for files, _ in done), sum(cold for _, cold in done)
    total = sum(len(results.objects(row)) for row in rows)
    cold_jobs = [row.custom_id for row, (_, cold) in zip(rows, done, strict=True) if cold]
    return Fetched(written, total - written - frozen, good, bad, cold_jobs)


def _job(
    store: Store, job: sa.Row[Any], folder: Path, passed_over: tuple[type[errors.StoreError], ...]
) -> tuple[int, int]:
    """Files written for one job, and files that could not be had."""
    written = frozen = 0
    digests = results.digests(job)
    for name, key in results.objects(job).items():  # audio first
        path = folder / name
        if _same(path, store, key, digests.get(key), beside_the_same=not written and not frozen):
            continue
        path.parent.mkdir(exist_ok=True)
        try:
            store.download(key, path)
            written += 1
        except passed_over:
            frozen += 1
    return written, frozen


def _same(path: Path, store: Store, key: str, digest: str | None, *, beside_the_same: bool) -> bool:
    if not path.is_file():
        return False
    if digest is None:  # captions: small, so compare them
        try:
            return path.read_bytes() == store.get(key)
        except (errors.ObjectArchivedError, errors.ObjectMissingError):
            return beside_the_same  # they were made of the same takes
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _lines(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write records as JSON lines, whole or not at all. An empty errors.jsonl says that nothing went wrong."""
    count = 0
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    part.replace(path)
    return count
