"""A long job, encoded by several workers at once, by one alone, or by some that vanish: always the same bytes."""

import hashlib
import io
import json
import re
import threading
import wave
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, jobs, keys, reels, results, segments, takes
from storage.database import Database
from storage.models import Job, Reel, Segment
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import assemble, render
from workers import reels as cutting
from workers.audio import wav
from workers.programme import Programme

TEXT = [f"Paragraph {number} goes on for a while, as paragraphs in books do." for number in range(16)]


@pytest.fixture
def mill(database_url, tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "REEL_SECONDS", 10.0)
    monkeypatch.setattr(cutting, "LONG_SECONDS", 20.0)
    monkeypatch.setattr(assemble, "SHORT_SECONDS", 15.0)
    monkeypatch.setattr(assemble, "PATIENCE", 0.01)
    database = Database(database_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


@pytest.fixture
def bench(mill, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    yield assemble.Bench(mill.database, mill.store, "me", scratch)
    assert list(scratch.iterdir()) == []


def book(mill, audio_format="m4b,mp3", loudness=None):
    corpus_maker.accepted(
        mill.database,
        {"book": TEXT},
        audio_format=audio_format,
        captions=("vtt", "json"),
        loudness=loudness,
    )
    while True:
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            return
        render.run(mill, batch_id, Event())


def job(mill):
    with mill.database.read() as connection:
        return connection.execute(sa.select(Job)).one()


def digests(mill):
    row = job(mill)
    assert row.state == "completed", (row.state, row.detail)
    found = {}
    for name, key in results.objects(row).items():
        found[name] = hashlib.sha256(mill.store.get(key)).hexdigest()
    assert {found["book.m4b"], found["book.mp3"]} == set(results.digests(row).values())
    return found


def again(mill):
    for key in results.objects(job(mill)).values():
        mill.store.delete([key])
    with mill.database.write() as connection:
        connection.execute(sa.text("UPDATE jobs SET state = 'rendered', assembly_key = NULL"))


def reel_objects(mill):
    return [entry.key for entry in mill.store.list("reels/")]


def rows(mill):
    with mill.database.read() as connection:
        return list(connection.execute(sa.select(Reel)))


def test_any_number_of_workers_makes_the_same_bytes(mill, bench):
    book(mill)
    rung = []
    alone = replace(bench, ring=rung.extend)
    assert assemble.run(alone) == 1
    one = digests(mill)
    assert len(rung) >= 5
    assert reel_objects(mill) == []
    assert rows(mill) == []
    again(mill)
    made = set()
    gate = threading.Barrier(3, timeout=60)

    def work(name: str) -> None:
        mine = replace(bench, owner=name)
        gate.wait()
        while job(mill).state not in ("completed", "failed"):
            if assemble.run(mine):
                made.add(name)

    threads = [Thread(target=work, args=(f"worker-{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests(mill) == one
    assert len(made) >= 2, "others have helped"


def test_what_a_killed_worker_has_made_is_not_made_again(mill, bench):
    book(mill)
    stop = Event()
    made = []

    class Counting:
        def __getattr__(self, name):
            return getattr(mill.store, name)

        def upload(self, key, path, **told):
            done = mill.store.upload(key, path, **told)
            if key.startswith("reels/"):
                made.append(key)
                if len(made) == 3:
                    stop.set()
            return done

    counting = replace(bench, store=Counting())
    assemble.run(counting, stop=stop)
    assert job(mill).state == "rendered", "it was given back"
    assert len(made) == 3
    assemble.run(counting)
    one = digests(mill)
    assert len(made) == len(set(made)) > 3
    again(mill)
    assemble.run(bench)
    assert digests(mill) == one


def test_reels_of_a_worker_that_vanished_are_free_at_once_or_after_their_lease(mill, bench):
    book(mill)
    stop = Event()

    def lay_out_only(job_id, share):
        stop.set()

    assemble.run(replace(bench, encoding=lay_out_only), stop=stop)
    gone = "host:nobody:1:1"
    with mill.database.write() as connection:
        (lease,) = jobs.claim(connection, "me", 60)
        first = reels.claim(connection, gone, 60)
        second = reels.claim(connection, "elsewhere", -1)
        assert first is not None
        assert second is not None
        assert (first.deliverable, first.position) != (second.deliverable, second.position)
        third = reels.claim(connection, "me", 60)
        assert third is not None
        assert third.reel_key == second.reel_key, "its lease had run out"
        reels.release_of_owners(connection, [gone])
        fourth = reels.claim(connection, "me", 60)
        assert fourth is not None
        assert fourth.reel_key == first.reel_key
        jobs.release(connection, lease)
        reels.release_of_owners(connection, ["me"])
    assemble.run(bench)
    assert job(mill).state == "completed"


def test_a_reel_whose_bytes_are_gone_is_made_again(mill, bench):
    book(mill)

    class Forgetful:
        lost = False

        def __getattr__(self, name):
            return getattr(mill.store, name)

        def get(self, key):
            if key.startswith("reels/") and not self.lost:
                self.lost = True
                mill.store.delete([key])
            return mill.store.get(key)

    forgetful = Forgetful()
    assemble.run(replace(bench, store=forgetful))
    assert job(mill).state == "rendered"
    assert rows(mill) == []
    assemble.run(replace(bench, store=forgetful))
    assert job(mill).state == "completed"


def test_reels_of_jobs_that_are_not_assembled_any_more_are_forgotten(mill, bench):
    book(mill)
    stop = Event()
    assemble.run(replace(bench, encoding=lambda job_id, share: stop.set()), stop=stop)
    assert rows(mill)
    sweep.sweep(mill.database)
    assert rows(mill), "the job waits for its assembly: they are wanted"
    with mill.database.write() as connection:
        jobs.cancel(connection, job(mill).corpus_id)
        assert reels.claim(connection, "me", 60) is None
    sweep.sweep(mill.database)
    assert rows(mill) == []


def sound(mill):
    with wave.open(io.BytesIO(mill.store.get(job(mill).audio_key))) as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def test_another_take_of_one_sentence_moves_no_other_sample(mill, bench):
    """Given a levelled book, When one sentence gets a louder take, Then the gain stays, and so does all else."""
    book(mill, "wav", loudness=-20.0)
    assemble.run(bench)
    before, row = sound(mill), job(mill)
    with mill.database.read() as connection:
        parts = segments.parts(connection, row.id)
    programme = Programme.of(parts)
    chosen, start = parts[5], programme.starts[5]
    louder = np.clip(2.5 * tone_of(mill, chosen).astype(float), -32768, 32767).astype("<i2").tobytes()
    mill.store.put(keys.take("f" * 64), wav.wrap(louder, tones.RATE))
    new = takes.NewTake("f" * 64, "tones", tones.RATE, chosen.samples, 1, has_codes=False, metrics={})
    with mill.database.write() as connection:
        takes.record(connection, [new])
        connection.execute(
            sa.update(Segment)
            .where(Segment.c.job_id == row.id, Segment.c.position == 5)
            .values(take_key="f" * 64)
        )
        jobs.assemble_again(connection, [row.id])
    assemble.run(bench)
    after, again_row = sound(mill), job(mill)
    assert again_row.audio_key != row.audio_key
    assert again_row.deliverables[0]["gain_db"] == row.deliverables[0]["gain_db"] != 0
    touched = np.flatnonzero(before != after)
    assert len(touched) > chosen.samples // 2
    assert start <= touched.min()
    assert touched.max() < start + chosen.samples


def tone_of(mill, part):
    return np.frombuffer(wav.unwrap(mill.store.get(keys.take(part.take_key))), dtype="<i2")


def test_times_in_captions_are_those_of_the_sound(mill, bench):
    book(mill, "m4b,wav")
    assemble.run(bench)
    row = job(mill)
    timing = json.loads(mill.store.get(keys.captions(row.assembly_key, "json")))
    assert timing["samples"] == row.samples
    assert len(timing["segments"]) == row.segments_total
    cues = re.findall(
        r"(\d+):(\d+):([\d.]+) -->", mill.store.get(keys.captions(row.assembly_key, "vtt")).decode()
    )
    hours, minutes, seconds = cues[-1]
    last = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    spoken = timing["segments"][-1]
    assert spoken["start"] <= last + 0.001 <= spoken["end"]
