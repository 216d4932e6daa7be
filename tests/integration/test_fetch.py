"""Finished work comes into a folder: what results.jsonl tells of is there, and one object that is away stops no other."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa

from scheduler import fetch, planner
from storage import batches, corpora, errors, keys, objects
from storage.database import Database
from storage.models import Job
from tests import corpus_maker, tones
from workers import assemble, render


class Watched:
    """A store that says which object is asked for, before it is had."""

    def __init__(self, store: objects.Store, asked: Callable[[str], None]) -> None:
        self._store, self._asked = store, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: str) -> bytes:
        self._asked(key)
        return self._store.get(key)

    def download(self, key: str, path: Path) -> None:
        self._asked(key)
        self._store.download(key, path)


@pytest.fixture
def mill(database_url: str, tmp_path: Path):
    database = Database(database_url)
    yield render.Mill(database, objects.open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


@pytest.fixture
def work(mill: render.Mill, tmp_path: Path) -> Callable[[int], None]:
    """Renders what there is and assembles so many jobs."""
    (tmp_path / "scratch").mkdir()
    bench = assemble.Bench(mill.database, mill.store, "me", tmp_path / "scratch")

    def run(limit: int) -> None:
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is not None:
            render.run(mill, batch_id, Event())
        assemble.run(bench, limit=limit)

    return run


def corpus(mill: render.Mill) -> Any:
    with mill.database.read() as connection:
        return corpora.find(connection, "corpus")


def told(out: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (out / "results.jsonl").read_text().splitlines()]


def captions_of(mill: render.Mill, name: str) -> str:
    with mill.database.read() as connection:
        key = connection.execute(sa.select(Job.c.assembly_key).where(Job.c.custom_id == name)).scalar_one()
    return keys.captions(key, "vtt")


def test_what_ends_meanwhile_is_told_of_when_it_is_there(mill, work, tmp_path):
    corpus_maker.accepted(mill.database, {"one": "The first text.", "two": "The second text."})
    work(1)
    out = tmp_path / "out"
    ended = []

    def end_the_other(_key: str) -> None:
        if not ended:
            ended.append(True)
            work(1)

    fetch.fetch(mill.database, Watched(mill.store, end_the_other), corpus(mill), out)
    assert corpus(mill).state == "completed"
    assert told(out) == ["one"]
    assert {path.name for path in out.glob("*.wav")} == {"one.wav"}
    fetch.fetch(mill.database, mill.store, corpus(mill), out)
    assert told(out) == ["one", "two"]
    assert {path.name for path in out.glob("*.wav")} == {"one.wav", "two.wav"}


@pytest.mark.parametrize("error", [errors.ObjectArchivedError, errors.ObjectMissingError])
def test_captions_that_cannot_be_had_are_good_beside_the_same_audio(mill, work, tmp_path, error):
    corpus_maker.accepted(mill.database, ["The first text.", "The second text."], captions=("vtt",))
    work(2)
    out = tmp_path / "out"
    fetch.fetch(mill.database, mill.store, corpus(mill), out)
    (out / "job-0001.wav").unlink()
    cold = captions_of(mill, "job-0000")

    def away(key: str) -> None:
        if key == cold:
            raise error(key=key, url="s3://bucket")

    found = fetch.fetch(mill.database, Watched(mill.store, away), corpus(mill), out)
    assert (found.files, found.kept, list(found.frozen)) == (1, 3, [])
    assert (out / "job-0001.wav").is_file()


def test_old_captions_beside_new_audio_are_not(mill, work, tmp_path):
    corpus_maker.accepted(mill.database, ["The first text.", "The second text."], captions=("vtt",))
    work(2)
    out = tmp_path / "out"
    fetch.fetch(mill.database, mill.store, corpus(mill), out)
    (out / "job-0000.wav").write_bytes(b"as it was before")
    cold = captions_of(mill, "job-0000")

    def away(key: str) -> None:
        if key == cold:
            raise errors.ObjectArchivedError(key=key, url="s3://bucket")

    found = fetch.fetch(mill.database, Watched(mill.store, away), corpus(mill), out)
    assert (found.files, found.kept, list(found.frozen)) == (1, 2, ["job-0000"])
