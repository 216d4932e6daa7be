"""From takes to a job's audio."""

import io
import json
import wave
from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches, corpora, jobs, keys, results
from storage.database import Database
from storage.models import Job
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import assemble, render


@pytest.fixture
def mill(database_url, tmp_path):
    database = Database(database_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


@pytest.fixture
def bench(mill, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    yield assemble.Bench(mill.database, mill.store, "me", scratch)
    assert list(scratch.iterdir()) == []


def render_all(mill):
    while True:
        planner.plan(mill.database, "tones", planner.Plan(workers=1))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            return
        render.run(mill, batch_id, Event())


def job(mill, number=0):
    with mill.database.read() as connection:
        return list(connection.execute(sa.select(Job).order_by(Job.c.id)))[number]


def test_takes_and_pauses_are_joined_to_the_sample(mill, bench):
    corpus_maker.accepted(
        mill.database, {"one": ["First paragraph.", "Second paragraph."]}, captions=("vtt", "srt", "json")
    )
    render_all(mill)
    assert assemble.run(bench, limit=10) == 1
    row = job(mill)
    assert row.state == "completed"
    data = mill.store.get(row.audio_key)
    with wave.open(io.BytesIO(data)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, tones.RATE)
        assert audio.getnframes() == row.samples
    assert row.audio_bytes == len(data)
    timing = json.loads(mill.store.get(keys.captions(row.assembly_key, "json")))
    first, second = timing["segments"]
    assert first["start_sample"] == 0
    assert second["start_sample"] > first["end_sample"]
    assert timing["samples"] == row.samples >= second["end_sample"]
    assert "First paragraph." in mill.store.get(keys.captions(row.assembly_key, "vtt")).decode()
    assert "-->" in mill.store.get(keys.captions(row.assembly_key, "srt")).decode()


def test_the_corpus_ends_with_its_last_job(mill, bench):
    accepted = corpus_maker.accepted(mill.database, ["One text.", "REFUSE that.", "Another text."])
    render_all(mill)
    assemble.run(bench, limit=10)
    with mill.database.read() as connection:
        corpus = corpora.find(connection, accepted.name)
        ended = results.ended(connection, corpus)
        good = list(results.successes(corpus, ended))
        bad = list(results.failures(connection, corpus, ended))
    assert corpus.state == "completed_with_errors"
    assert [line["id"] for line in good] == ["job-0000", "job-0002"]
    assert [(line["id"], line["reason"], line["segments"][0]["text"]) for line in bad] == [
        ("job-0001", "truncated", "REFUSE that.")
    ]


def test_a_job_with_flagged_takes_has_audio_and_needs_review(mill, bench):
    corpus_maker.accepted(mill.database, {"one": ["Good text here.", "QUIET text is here."]})
    render_all(mill)
    assemble.run(bench)
    row = job(mill)
    assert row.state == "needs_review"
    assert "segment 1: silent" in row.detail
    assert mill.store.size(row.audio_key)


def test_the_same_audio_is_made_once(mill, bench):
    corpus_maker.accepted(mill.database, ["The same text."])
    render_all(mill)
    assemble.run(bench)
    before = job(mill)
    mill.store.delete([before.audio_key])
    corpus_maker.accepted(mill.database, {"job-0000": "The same text.", "new": "A new one."}, name="again")
    render_all(mill)
    assert assemble.run(bench, limit=10) == 2
    assert job(mill, 1).audio_key == before.audio_key
    assert mill.store.size(before.audio_key) is None  # not made again: its twin's row was enough


def test_a_take_that_is_gone_from_the_store_is_rendered_again(mill, bench):
    corpus_maker.accepted(mill.database, {"one": ["First paragraph.", "Second paragraph."]})
    render_all(mill)
    lost = next(mill.store.list("takes/")).key
    mill.store.delete([lost])
    assemble.run(bench)
    assert job(mill).state == "pending"
    render_all(mill)
    assert sum(mill.engine.rendered.values()) == 3
    assemble.run(bench)
    assert job(mill).state == "completed"


def test_a_lost_assembly_lease_writes_nothing(mill, bench):
    corpus_maker.accepted(mill.database, ["Some text."])
    render_all(mill)
    with mill.database.write() as connection:
        (mine,) = jobs.claim(connection, "me", -1)
        (theirs,) = jobs.claim(connection, "you", 60)
        audio = jobs.Audio("k", "audio/k.wav", 1, "0", 1, 8000)
        assert jobs.complete(connection, mine, audio) is False
        assert jobs.complete(connection, theirs, audio) is True


@pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3", "opus", "m4b"])
def test_every_format_is_the_same_twice(mill, bench, tmp_path, audio_format):
    corpus_maker.accepted(
        mill.database, {"one": ["First paragraph.", "Second one."]}, audio_format=audio_format
    )
    render_all(mill)
    assemble.run(bench)
    row = job(mill)
    first = mill.store.get(row.audio_key)
    mill.store.delete([row.audio_key])
    with mill.database.write() as connection:
        connection.execute(sa.text("UPDATE jobs SET state = 'rendered', assembly_key = NULL"))
    assemble.run(bench)
    assert mill.store.get(row.audio_key) == first
