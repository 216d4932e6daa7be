"""Takes and files that need a listen: listed, fetched, found good."""

import json
from dataclasses import astuple
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import fetch, planner, review
from storage import batches, corpora, endpoints, jobs, results
from storage import review as reviews
from storage.database import Database
from storage.models import Job
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import assemble, render
from workers.audio import acx

TEXTS = {
    "one": ["Good text here.", "QUIET text is here.", "Good again.", "QUIET it is again."],
    "two": ["All is good here."],
    "three": ["QUIET is the third."],
}


@pytest.fixture
def mill(database_url, tmp_path):
    database = Database(database_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


@pytest.fixture
def rendered(mill, tmp_path):
    (tmp_path / "scratch").mkdir()
    corpus_maker.accepted(mill.database, TEXTS)
    work(mill, tmp_path)
    return mill


@pytest.fixture
def published(mill, tmp_path, monkeypatch):
    """The same for a publisher who would have it louder than any file is."""
    monkeypatch.setattr(acx, "RMS_RANGE", (-9.0, -8.0))
    (tmp_path / "scratch").mkdir()
    corpus_maker.accepted(mill.database, TEXTS, preset="acx")
    work(mill, tmp_path)
    return mill


def work(mill, tmp_path):
    while True:
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            break
        render.run(mill, batch_id, Event())
    assemble.run(assemble.Bench(mill.database, mill.store, "me", tmp_path / "scratch"), limit=10)


def corpus(mill):
    with mill.database.read() as connection:
        return corpora.find(connection, "corpus")


def states(mill):
    with mill.database.read() as connection:
        return [row.state for row in jobs.each(connection, corpus(mill).id)]


def accept(mill, *wanted):
    """How many segments, files and completed jobs."""
    named = [reviews.Wanted(*each) for each in wanted]
    return astuple(mill.database.run(lambda connection: reviews.accept(connection, corpus(mill), named)))


def job(mill, custom_id):
    with mill.database.read() as connection:
        return jobs.by_custom_id(connection, corpus(mill).id, custom_id)


def count(mill):
    with mill.database.read() as connection:
        return reviews.count(connection, corpus(mill).id)


def events(mill):
    with mill.database.read() as connection:
        return connection.execute(sa.text("SELECT type FROM events ORDER BY id")).scalars().all()


def test_what_needs_a_listen_is_listed_with_text_reason_and_place(rendered, tmp_path):
    flags = review.flags(rendered.database, rendered.store, corpus(rendered))
    assert [(flag.job, flag.segment, flag.reason) for flag in flags] == [
        ("one", 1, "silent"),
        ("one", 3, "silent"),
        ("three", 0, "silent"),
    ]
    first = flags[0]
    assert first.text == "QUIET text is here."
    assert "dBFS" in first.detail
    assert Path(first.path).read_bytes()[:4] == b"RIFF"
    begun = 0.2 + tones.SECONDS_PER_CHARACTER * len("Good text here.") + 0.6
    assert first.at_seconds == pytest.approx(begun, abs=0.05)
    assert [
        flag.job for flag in review.flags(rendered.database, rendered.store, corpus(rendered), limit=2)
    ] == ["one"] * 2


def test_its_audio_is_delivered_and_says_why(rendered, tmp_path):
    out = tmp_path / "out"
    fetch.fetch(rendered.database, rendered.store, corpus(rendered), out)
    assert {path.name for path in out.iterdir()} >= {"one.wav", "two.wav", "three.wav"}
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    told = {line["id"]: line.get("needs_review") for line in lines}
    assert told["two"] is None
    assert told["one"].startswith("segment 1: silent (")
    assert told["one"].endswith(", and 1 more")


def test_takes_are_fetched_and_one_that_is_gone_is_told(rendered, tmp_path):
    flags = review.flags(rendered.database, rendered.store, corpus(rendered))
    rendered.store.delete([f"takes/{flags[2].take[:2]}/{flags[2].take}.wav"])
    found = [path for _, path in review.fetch(rendered.store, flags, tmp_path / "listen")]
    assert [path and path.name for path in found] == ["one-0001.wav", "one-0003.wav", None]
    assert found[0].read_bytes()[:4] == b"RIFF"


def test_one_that_is_fine_is_taken_off_and_the_last_one_completes(rendered):
    assert states(rendered) == ["needs_review", "completed", "needs_review"]
    assert accept(rendered, ("one", 1)) == (1, 0, 0)
    assert job(rendered, "one").detail.startswith("segment 3: silent")
    assert accept(rendered, ("one", 3)) == (1, 0, 1)
    assert states(rendered) == ["completed", "completed", "needs_review"]
    assert corpus(rendered).state == "completed_with_errors"
    assert accept(rendered, ("three",)) == (1, 0, 1)
    assert (states(rendered), corpus(rendered).state) == (["completed"] * 3, "completed")
    with rendered.database.read() as connection:
        ended = results.ended(connection, corpus(rendered))
        assert list(results.failures(connection, corpus(rendered), ended)) == []
    assert count(rendered) == 0


def test_all_of_it_at_once_is_told_to_webhooks(rendered):
    with rendered.database.write() as connection:
        endpoints.add(connection, "https://example.test/hook")
    assert accept(rendered) == (3, 0, 2)
    assert events(rendered) == ["job.completed", "job.completed", "corpus.completed"]


def test_what_is_fine_stays_fine_in_another_corpus_and_after_a_new_assembly(rendered, tmp_path):
    accept(rendered)
    with rendered.database.write() as connection:
        jobs.assemble_again(connection, [row.id for row in jobs.each(connection, corpus(rendered).id)])
        connection.execute(sa.text("UPDATE corpora SET state = 'running'"))
    corpus_maker.accepted(rendered.database, {"again": "QUIET is the third."}, name="second")
    work(rendered, tmp_path)
    with rendered.database.read() as connection:
        assert {row.state for row in connection.execute(sa.select(Job.c.state))} == {"completed"}


def test_what_cannot_be_accepted_changes_nothing(rendered):
    with pytest.raises(reviews.NothingToReviewError, match=r"Nothing in one:0 needs a listen. .*review corpus"):
        accept(rendered, ("one", 1), ("one", 0))
    with rendered.database.write() as connection:
        connection.execute(sa.text("UPDATE jobs SET state = 'assembling' WHERE custom_id = 'one'"))
    with pytest.raises(reviews.BusyJobError):
        accept(rendered)
    assert count(rendered) == 3


def test_a_file_that_a_publisher_would_not_take_is_listed(published):
    found = review.files(published.database, published.store, corpus(published))
    assert [(file.job, file.file) for file in found] == [
        (name, f"{name}.mp3") for name in ("one", "two", "three")
    ]
    assert found[1].problem.startswith("ACX would not take it: its RMS is ")
    assert job(published, "two").detail == found[1].problem
    assert Path(found[1].path).stat().st_size == job(published, "two").deliverables[1]["bytes"]
    assert count(published) == 3 + 3
    assert len(review.files(published.database, published.store, corpus(published), limit=2)) == 2


def test_a_job_waits_until_its_takes_and_its_file_are_accepted(published):
    with published.database.write() as connection:
        endpoints.add(connection, "https://example.test/hook")
    assert accept(published, ("one", 1), ("one", 3)) == (2, 0, 0)
    assert job(published, "one").state == "needs_review"
    assert job(published, "one").detail.startswith("ACX would not take it")
    assert events(published) == []
    with pytest.raises(reviews.NothingToReviewError):
        accept(published, ("two", 0))  # one sentence, and it is all right
    assert accept(published, ("one",), ("two",)) == (0, 2, 2)
    assert states(published) == ["completed", "completed", "needs_review"]
    plain, mp3 = job(published, "one").deliverables
    assert mp3["accepted"] is True
    assert mp3["problem"].startswith("ACX would not take it")
    assert "accepted" not in plain
    assert events(published) == ["job.completed"] * 2
    assert accept(published) == (1, 1, 1)
    assert (corpus(published).state, count(published)) == ("completed", 0)
    with pytest.raises(reviews.NothingToReviewError):
        accept(published, ("one",))


def test_a_file_is_not_asked_about_twice_where_its_bytes_are_the_same(published):
    accept(published, ("two",))
    plain, mp3 = ({**each, "accepted": False} for each in job(published, "two").deliverables)
    other = {**mp3, "sha256": "0" * 64}
    with published.database.read() as connection:
        again = reviews.remembered(connection, job(published, "two").id, [plain, mp3, other])
    assert [each["accepted"] for each in again] == [False, True, False]
    assert reviews.told((), again) == other["problem"]


def test_an_accepted_file_stays_accepted_in_another_corpus_and_after_a_new_assembly(published, tmp_path):
    accept(published)
    with published.database.write() as connection:
        jobs.assemble_again(connection, [job(published, "three").id])
        connection.execute(sa.text("UPDATE corpora SET state = 'running'"))
    corpus_maker.accepted(published.database, {"again": "All is good here."}, name="second", preset="acx")
    work(published, tmp_path)
    with published.database.read() as connection:
        found = list(connection.execute(sa.select(Job.c.state, Job.c.deliverables)))
    assert {row.state for row in found} == {"completed"}
    assert all(row.deliverables[1]["accepted"] for row in found)


def test_a_file_that_is_being_made_again_is_not_judged_by_the_last_one(published):
    with published.database.write() as connection:
        jobs.assemble_again(connection, [job(published, "two").id])
    assert count(published) == 5
    with pytest.raises(reviews.NothingToReviewError):
        accept(published, ("two",))
