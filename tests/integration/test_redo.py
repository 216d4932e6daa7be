"""One sentence once more: what it costs, and what it leaves alone."""

import io
import json
import wave
from contextlib import contextmanager
from threading import Event

import numpy as np
import pytest
import sqlalchemy as sa

from scheduler import planner, redo
from storage import batches, corpora, jobs, keys, revise
from storage.database import Database
from storage.models import Corpus, Job, Segment, Take
from storage.objects import open_store
from storage.review import BusyJobError
from tests import corpus_maker, tones
from workers import assemble, render
from workers.engines.limits import WIDE


class Deterministic(tones.Spec):
    limits = WIDE
    uses_seed = False


@pytest.fixture
def mill(database_url, tmp_path):
    yield from made(database_url, tmp_path)


def made(url, tmp_path):
    database = Database(url)
    store = open_store(str(tmp_path / "store"), {"durable": "false"})
    yield render.Mill(database, store, tones.Spec(), tones.Tones(), "me")
    database.close()


@pytest.fixture
def bench(mill, tmp_path):
    return bench_of(mill, tmp_path)


def bench_of(mill, tmp_path):
    (tmp_path / "scratch").mkdir()
    return assemble.Bench(mill.database, mill.store, "me", tmp_path / "scratch")


def work(mill, bench):
    """Until nothing is left: how many batches it took."""
    count = 0
    while True:
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            break
        render.run(mill, batch_id, Event())
        count += 1
    while assemble.run(bench, limit=10):
        pass
    return count


def corpus(mill, name="corpus"):
    with mill.database.read() as connection:
        return corpora.find(connection, name)


def job(mill, custom_id="book", name="corpus"):
    with mill.database.read() as connection:
        return jobs.by_custom_id(connection, corpus(mill, name).id, custom_id)


def again(mill, position, custom_id="book", spec=None, **how):
    return redo.redo(mill.database, spec or mill.spec, corpus(mill), custom_id, position, **how)


def heard(mill, row):
    """The programme's samples, and where each segment begins and ends in it."""
    with wave.open(io.BytesIO(mill.store.get(row.audio_key))) as audio:
        samples = np.frombuffer(audio.readframes(audio.getnframes()), "<i2")
    timing = json.loads(mill.store.get(keys.captions(row.assembly_key, "json")))
    return samples, [(each["start_sample"], each["end_sample"], each["text"]) for each in timing["segments"]]


def scalar(mill, query):
    with mill.database.read() as connection:
        return connection.execute(query).scalar_one()


@pytest.mark.timeout(240)
def test_one_sentence_of_a_long_book_costs_one_take_and_changes_no_other_sample(sqlite_url, tmp_path):
    with contextmanager(made)(sqlite_url, tmp_path) as mill:
        in_a_long_book(mill, bench_of(mill, tmp_path))


def in_a_long_book(mill, bench):
    lines = [f"Line {n}." for n in range(3000)]
    corpus_maker.accepted(mill.database, {"book": lines, "other": ["Something else."]}, captions=("json",))
    work(mill, bench)
    before, other_before = job(mill), job(mill, "other")
    samples, cues = heard(mill, before)
    rendered = sum(mill.engine.rendered.values())
    assert (before.segments_total, rendered) == (3000, 3001)

    redone = again(mill, 1234)
    assert (redone.text, redone.text_before) == ("Line 1234.", "Line 1234.")
    assert job(mill).state == "pending"
    assert corpus(mill).state == "running"
    assert work(mill, bench) == 1

    after = job(mill)
    assert sum(mill.engine.rendered.values()) - rendered == 1, "one take"
    assert scalar(mill, sa.select(sa.func.count()).select_from(Take)) == rendered + 1
    assert after.lease_number - before.lease_number == 1, "one assembly"
    assert (after.state, corpus(mill).state) == ("completed", "completed")
    assert job(mill, "other") == other_before
    changed, cues_after = heard(mill, after)
    assert cues_after == cues
    start, end, _ = cues[1234]
    assert not np.array_equal(changed[start:end], samples[start:end])
    assert np.array_equal(changed[:start], samples[:start])
    assert np.array_equal(changed[end:], samples[end:])


def test_other_words_take_their_own_time_and_leave_the_rest(mill, bench):
    corpus_maker.accepted(mill.database, {"book": [f"Line number {n}." for n in range(9)]}, captions=("json",))
    work(mill, bench)
    before = job(mill)
    samples, cues = heard(mill, before)
    redone = again(mill, 4, text="  Quite another line, and a longer one ")
    assert redone.text == "Quite another line, and a longer one."
    work(mill, bench)
    after = job(mill)
    changed, cues_after = heard(mill, after)
    assert after.characters - before.characters == len(redone.text) - len("Line number 4.")
    assert cues_after[4][2] == redone.text
    for n, (old, new) in enumerate(zip(cues, cues_after, strict=True)):
        same = np.array_equal(samples[old[0] : old[1]], changed[new[0] : new[1]])
        assert same is (n != 4), n
    assert len(changed) - len(samples) == cues_after[4][1] - cues[4][1]


def test_each_time_another_seed_and_a_named_one_gives_the_old_take_back(mill, bench):
    corpus_maker.accepted(mill.database, {"book": ["A line.", "Another line."]})
    work(mill, bench)
    first = job(mill).audio_sha256
    chosen = [again(mill, 1).seed]
    work(mill, bench)
    chosen.append(again(mill, 1).seed)
    work(mill, bench)
    assert len({0, *chosen}) == 3
    assert job(mill).audio_sha256 != first
    made = sum(mill.engine.rendered.values())
    again(mill, 1, seed=0)
    work(mill, bench)
    assert job(mill).audio_sha256 == first
    assert sum(mill.engine.rendered.values()) == made, "that take is there already"
    assert scalar(mill, sa.select(Segment.c.redone).where(Segment.c.position == 1)) == 3


def test_a_failed_segment_is_mended_with_other_words(mill, bench):
    corpus_maker.accepted(mill.database, {"book": ["A line.", "REFUSE this line."]})
    work(mill, bench)
    assert (job(mill).state, corpus(mill).state) == ("failed", "completed_with_errors")
    again(mill, 1, text="Take this line.")
    row = job(mill)
    assert (row.segments_done, row.segments_failed, row.reason) == (1, 0, None)
    work(mill, bench)
    assert (job(mill).state, corpus(mill).state) == ("completed", "completed")


def test_it_goes_ahead_of_fresh_work(mill, bench):
    corpus_maker.accepted(mill.database, {"book": ["A line.", "Another line."]})
    work(mill, bench)
    corpus_maker.accepted(
        mill.database, [f"Fresh line number {n} to render." for n in range(500)], name="fresh"
    )
    again(mill, 0)
    (first, *_) = planner.plan(mill.database, "tones", planner.Plan(workers=1, batch_segments=10))
    mine = sa.select(Segment.c.batch_id).where(Segment.c.job_id == job(mill).id, Segment.c.position == 0)
    assert scalar(mill, mine) == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("...", "nothing in it that can be spoken"),
        ("", "nothing in it that can be spoken"),
        ("A sentence. " * 40, "it makes"),
        ('A <break time="9"/> pause.', "pause tag"),
    ],
)
def test_words_that_cannot_be_a_segment_are_refused(mill, bench, text, words):
    corpus_maker.accepted(mill.database, {"book": "A line."})
    work(mill, bench)
    before = job(mill)
    with pytest.raises(redo.BadSentenceError, match=words):
        again(mill, 0, text=text)
    assert job(mill) == before


def test_an_engine_without_seeds_needs_other_words(mill, bench):
    corpus_maker.accepted(mill.database, {"book": "A line."})
    work(mill, bench)
    before = job(mill)
    for how in ({}, {"seed": 4}, {"text": "A line."}):
        with pytest.raises(redo.SameAgainError, match="--text"):
            again(mill, 0, spec=Deterministic(), **how)
    assert job(mill) == before
    assert again(mill, 0, spec=Deterministic(), text="Another line.").text == "Another line."


def test_what_is_not_there_or_busy_is_refused(mill, bench):
    corpus_maker.accepted(mill.database, {"book": ["A line.", "Another."]})
    with pytest.raises(revise.BusySegmentError):
        again(mill, 0)
    work(mill, bench)
    with pytest.raises(revise.UnknownSegmentError, match="from 0 to 1"):
        again(mill, 2)
    with pytest.raises(jobs.UnknownJobError):
        again(mill, 0, custom_id="paper")
    again(mill, 1)
    with pytest.raises(revise.BusySegmentError, match="waits to be rendered already"):
        again(mill, 1)
    with mill.database.write() as connection:
        connection.execute(sa.update(Job).values(state="assembling"))
    with pytest.raises(BusyJobError, match="being assembled"):
        again(mill, 0)
    with mill.database.write() as connection:
        connection.execute(sa.update(Job).values(state="cancelled"))
        connection.execute(sa.update(Corpus).values(state="cancelled"))
    with pytest.raises(revise.CancelledJobError, match="voicemill retry --job book"):
        again(mill, 0)
