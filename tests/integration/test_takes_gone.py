"""Takes whose sound is gone from the store, or was put there by a worker that died before it could say so.

`Coded` renders as a GPU may: the same words with another seed of its own give other codes, of another length. What is
recorded must be what lies in the store all the same, and what codes can bring back is not rendered again.
"""

import io
import wave
from dataclasses import dataclass, replace
from threading import Event, Thread

import numpy as np
import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches, jobs, keys, takes
from storage.database import Database
from storage.models import Job, Segment, Take
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import assemble, render
from workers.audio import wav
from workers.engines.codes import OtherCodecError

FRAME = 800  # samples


class Spec(tones.Spec):
    def __init__(self) -> None:
        self.spoken = 0  # takes made of their codes

    def speaker(self) -> "Spec":
        return self

    def speak(self, codes, recipes):
        if any(recipe != {"codec": "ours"} for recipe in recipes):
            raise OtherCodecError
        self.spoken += len(codes)
        return [sound(each) for each in codes]


class Coded(tones.Tones):
    """Another `salt`, other codes for the same words."""

    def __init__(self, salt: int = 0) -> None:
        super().__init__()
        self.salt = salt

    def render(self, requests, stop):
        for take in super().render(requests, stop):
            frames = len(take.pcm) // 2 // FRAME + self.salt
            codes = np.arange(7 * frames).astype("<i2").reshape(-1, 7).tobytes()
            yield replace(take, pcm=sound(codes), tokens=7 * frames, codes=codes, recipe={"codec": "ours"})


def sound(codes: bytes) -> bytes:
    at = np.arange(len(codes) // 14 * FRAME) / tones.RATE
    return bytes((np.sin(2 * np.pi * 300 * at) * 9000).astype("<i2").tobytes())


@dataclass
class Place:
    mill: render.Mill
    bench: assemble.Bench

    def render(self, engine=None):
        mill = self.mill if engine is None else replace(self.mill, engine=engine)
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        return None if batch_id is None else render.run(mill, batch_id, Event())

    def work(self, engine=None):
        for _ in range(20):
            if self.render(engine) is None and not assemble.run(self.bench, limit=10):
                return
        raise AssertionError("there is no end of it")

    def rows(self, table):
        with self.mill.database.read() as connection:
            return list(connection.execute(sa.select(table).order_by(*table.primary_key)))

    def reassemble(self):
        with self.mill.database.write() as connection:
            jobs.assemble_again(connection, [row.id for row in self.rows(Job)])
            connection.execute(sa.text("UPDATE corpora SET state = 'running'"))

    def expire(self, prefix="takes/"):
        self.mill.store.delete([entry.key for entry in list(self.mill.store.list(prefix))])

    def check(self):
        """Every row tells of what lies in the store, and every job's audio is as long as its takes."""
        for row in self.rows(Take):
            assert not row.gone
            assert len(wav.unwrap(self.mill.store.get(keys.take(row.take_key)))) == 2 * row.samples
            if row.has_codes:
                codes = wav.unnpy(self.mill.store.get(keys.codes(row.take_key)))
                assert len(codes) == 2 * row.tokens
        samples = {row.take_key: row.samples for row in self.rows(Take)}
        for job in self.rows(Job):
            assert job.state == "completed", (job.custom_id, job.reason, job.detail)
            parts = [row for row in self.rows(Segment) if row.job_id == job.id]
            spoken = sum(samples[row.take_key] + row.pause_ms * job.sample_rate // 1000 for row in parts)
            with wave.open(io.BytesIO(self.mill.store.get(job.audio_key))) as audio:
                assert audio.getnframes() == job.samples == spoken


@pytest.fixture
def place(database_url, tmp_path):
    database = Database(database_url)
    (tmp_path / "scratch").mkdir()
    store = open_store(str(tmp_path / "store"))
    yield Place(
        render.Mill(database, store, Spec(), Coded(), "me"),
        assemble.Bench(database, store, "me", tmp_path / "scratch"),
    )
    database.close()


def test_no_job_ever_ends_without_a_sentence_that_another_job_lost(place):
    """Two jobs share a sentence. Whoever finds it gone must not leave the other one with a hole."""
    plain = replace(place.mill, spec=tones.Spec(), engine=tones.Tones())
    place.mill = plain
    shared = "A sentence that both of them say."
    corpus_maker.accepted(
        plain.database, {"one": [shared, "Only the first says this."], "two": ["Only the second.", shared]}
    )
    place.work()
    place.check()
    place.expire()
    place.reassemble()
    assert assemble.run(place.bench) == 1  # the first finds it gone; the second is assembled before it is back
    assert assemble.run(place.bench) == 1
    place.work()
    place.check()


def test_takes_that_have_expired_come_back_from_their_codes(place):
    corpus_maker.accepted(place.mill.database, {"book": [f"Sentence number {n}." for n in range(12)]})
    place.work()
    before = {entry.key: place.mill.store.get(entry.key) for entry in place.mill.store.list("takes/")}
    place.expire()
    place.reassemble()
    assert place.mill.engine.rendered.total() == 12
    place.work()
    assert place.mill.engine.rendered.total() == 12
    assert place.mill.spec.spoken == 12
    assert {entry.key: place.mill.store.get(entry.key) for entry in place.mill.store.list("takes/")} == before
    place.check()


def test_where_codes_are_of_no_use_takes_are_rendered_again_and_agree_with_what_is_kept(place):
    corpus_maker.accepted(place.mill.database, {"book": ["One sentence.", "Another sentence."]})
    place.work()
    place.expire()
    first, second = sorted(row.take_key for row in place.rows(Take))
    place.mill.store.delete([keys.codes(first)])
    place.mill.store.put(keys.codes(first), b"not codes")
    with place.mill.database.write() as connection:
        connection.execute(sa.update(Take).where(Take.c.take_key == second).values(recipe={"codec": "another"}))
    place.reassemble()
    kept = place.mill.store.get(keys.codes(second))
    engine = Coded(salt=3)
    place.work(engine)
    assert set(engine.rendered) == {first, second}
    assert place.mill.store.get(keys.codes(second)) == kept  # its sound was made of these, not of the new ones
    assert place.mill.spec.spoken == 1
    place.check()


@pytest.mark.parametrize("left", [("codes/",), ("codes/", "takes/")])
def test_what_a_worker_stored_before_it_died_is_the_take(place, left):
    """It was killed between the store and the database; another GPU makes other codes of the same words."""
    corpus_maker.accepted(place.mill.database, {"book": ["One sentence.", "Another sentence."]})
    place.render()
    stored = {
        entry.key: place.mill.store.get(entry.key) for kind in left for entry in place.mill.store.list(kind)
    }
    for kind in {"codes/", "takes/"} - set(left):
        place.expire(kind)
    with place.mill.database.write() as connection:
        connection.execute(sa.delete(Take))
        connection.execute(sa.text("UPDATE segments SET state = 'pending', take_key = NULL, batch_id = NULL"))
        connection.execute(sa.text("UPDATE jobs SET state = 'pending', segments_done = 0"))
    place.work(Coded(salt=5))
    assert {key: place.mill.store.get(key) for key in stored} == stored
    place.check()


def test_a_take_of_another_length_than_was_recorded_is_recorded_as_it_is(place):
    corpus_maker.accepted(place.mill.database, {"book": ["One sentence.", "Another sentence."]})
    place.render()
    key = place.rows(Take)[0].take_key
    place.expire("takes/")
    place.mill.store.put(keys.take(key), wav.wrap(sound(bytes(14 * 9)), tones.RATE))
    place.work()
    place.check()


def test_takes_are_marked_gone_and_found_again(place):
    corpus_maker.accepted(place.mill.database, {"book": ["One sentence."]})
    place.render()
    (row,) = place.rows(Take)
    with place.mill.database.write() as connection:
        takes.lose(connection, [row.take_key])
        assert takes.known(connection, [row.take_key]) == set()
        assert [gone.take_key for gone in takes.gone(connection, [row.take_key, "0" * 64])] == [row.take_key]
        new = takes.NewTake(row.take_key, "tones", row.sample_rate, 5, 7, False, {})
        takes.record(connection, [new])
        assert takes.known(connection, [row.take_key]) == {row.take_key}
        takes.record(connection, [replace(new, samples=6)])  # known and not gone: stays as it was
    (row,) = place.rows(Take)
    assert (row.samples, row.tokens, row.gone) == (5, 7, False)


def test_a_cover_that_is_missing_fails_its_job_alone(place):
    corpus_maker.accepted(
        place.mill.database, {"one": ["Some text."], "two": ["Another text."]}, audio_format="mp3"
    )
    with place.mill.database.write() as connection:
        one = connection.execute(sa.select(Job).order_by(Job.c.id)).first()
        gone = {**one.options, "cover": "covers/ab/abc.png"}
        connection.execute(sa.update(Job).where(Job.c.id == one.id).values(options=gone))
    place.work()
    assert [(row.custom_id, row.state) for row in place.rows(Job)] == [("one", "failed"), ("two", "completed")]
    assert "covers/ab/abc.png" in place.rows(Job)[0].detail


def test_an_assembly_that_is_cancelled_or_stopped_ends_in_the_middle(place, monkeypatch):
    """The sound of a take that never ends: only who looks meanwhile gets away from it."""
    corpus_maker.accepted(place.mill.database, {"book": ["One sentence.", "Another one."]}, loudness=-18)
    while place.render() is not None:
        pass
    listening, stop = Event(), Event()

    def endless(self, strips):
        while True:
            listening.set()
            yield bytes(2000)

    monkeypatch.setattr(assemble.Reader, "stream", endless)
    monkeypatch.setattr(assemble, "LOOK_SECONDS", 0.1)
    for end in (stop.set, lambda: cancel(place)):
        stop.clear()
        listening.clear()
        thread = Thread(target=lambda: assemble.run(place.bench, limit=10, stop=stop))
        thread.start()
        assert listening.wait(30)
        assert place.rows(Job)[0].state == "assembling"
        end()
        thread.join(30)
        assert not thread.is_alive()
        (job,) = place.rows(Job)
        assert job.lease_owner is None
        assert job.state == ("rendered" if end == stop.set else "cancelled")


def cancel(place):
    with place.mill.database.write() as connection:
        jobs.cancel(connection, place.rows(Job)[0].corpus_id)
