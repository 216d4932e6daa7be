"""The life of a batch, whatever happens to it."""

from threading import Event, Thread

import pytest
import sqlalchemy as sa

from scheduler import planner, sweep
from storage import batches, jobs, keys, states
from storage.database import Database
from storage.models import Job, Partial, Segment, Take
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import render


@pytest.fixture
def mill(database_url, tmp_path):
    database = Database(database_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


def plan(mill):
    return planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))


def run_all(mill, stop=None):
    """Batch after batch until there is nothing to plan."""
    reports = []
    while True:
        plan(mill)
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            return reports
        reports.append(render.run(mill, batch_id, stop or Event()))


def segments_of(mill):
    with mill.database.read() as connection:
        return list(connection.execute(sa.select(Segment).order_by(Segment.c.id)))


def job_states(mill):
    with mill.database.read() as connection:
        return [row.state for row in connection.execute(sa.select(Job).order_by(Job.c.id))]


def test_every_segment_done_has_its_take_in_the_store(mill):
    corpus_maker.accepted(mill.database, ["The first text.", "The second text.", "The third text."])
    (report,) = run_all(mill)
    assert (report.outcome, report.rendered, report.failed) == (states.Outcome.DONE, 3, 0)
    for row in segments_of(mill):
        assert row.state == "done"
        assert mill.store.size(keys.take(row.take_key)) > 44
    assert job_states(mill) == ["rendered"] * 3
    assert "3 of 3" in report.line()


def test_the_same_text_is_rendered_once(mill):
    corpus_maker.accepted(mill.database, ["Again and again."] * 5 + ["Once."])
    run_all(mill)
    assert sum(mill.engine.rendered.values()) == 2
    assert all(row.state == "done" for row in segments_of(mill))
    corpus_maker.accepted(mill.database, ["Again and again.", "New."], name="next")
    reports = run_all(mill)
    assert sum(mill.engine.rendered.values()) == 3
    assert [(report.skipped, report.rendered) for report in reports] == [(1, 1)]


def test_a_second_worker_on_the_same_batch_does_nothing(mill):
    corpus_maker.accepted(mill.database, ["Some text."])
    (batch_id,) = plan(mill)
    assert render.run(mill, batch_id, Event()) is not None
    assert render.run(mill, batch_id, Event()) is None
    assert sum(mill.engine.rendered.values()) == 1


def test_a_refused_item_fails_alone_after_its_attempts(mill):
    corpus_maker.accepted(mill.database, ["Good text.", "REFUSE this text.", "More good text."])
    run_all(mill)
    assert job_states(mill) == ["rendered", "failed", "rendered"]
    bad = segments_of(mill)[1]
    assert (bad.reason, bad.attempts) == ("truncated", 3)


def test_a_poisonous_item_is_found_by_halving_and_fails_alone(mill):
    texts = [f"Good text number {number}." for number in range(20)]
    texts[13] = "POISON in the text."
    corpus_maker.accepted(mill.database, texts)
    reports = run_all(mill)
    assert job_states(mill).count("rendered") == 19
    assert segments_of(mill)[13].reason == "crashed"
    assert any(report.outcome == states.Outcome.SPLIT for report in reports)
    assert max(mill.engine.rendered.values()) == 1  # what was done before the engine broke is kept


def test_a_failed_check_is_one_more_attempt_with_another_seed(mill):
    corpus_maker.accepted(mill.database, ["ONCE in a while it is silent."])
    run_all(mill)
    (row,) = segments_of(mill)
    assert (row.state, row.attempts, row.reason) == ("done", 1, None)


def test_a_take_that_fails_its_checks_to_the_end_is_kept_and_flagged(mill):
    corpus_maker.accepted(mill.database, ["QUIET as a mouse is this."])
    run_all(mill)
    (row,) = segments_of(mill)
    assert (row.state, row.reason) == ("done", "silent")
    assert mill.store.size(keys.take(row.take_key)) is not None


def test_stop_keeps_what_is_done_and_gives_the_rest_back(mill):
    corpus_maker.accepted(mill.database, ["Quick.", "SLOW one.", "Never begun."])
    (batch_id,) = plan(mill)
    stop, reports = Event(), []
    thread = Thread(target=lambda: reports.append(render.run(mill, batch_id, stop)))
    thread.start()
    assert mill.engine.waiting.wait(5)
    stop.set()
    thread.join(10)
    assert reports[0].outcome == states.Outcome.INTERRUPTED
    assert [row.state for row in segments_of(mill)] == ["done", "pending", "pending"]
    assert [row.interruptions for row in segments_of(mill)] == [0, 1, 1]
    assert all(row.attempts == 0 for row in segments_of(mill))
    with mill.database.read() as connection:
        assert connection.scalar(sa.select(Partial.c.state)) == b"half"
    mill.engine.gate.set()
    run_all(mill)
    assert job_states(mill) == ["rendered"] * 3
    assert max(mill.engine.rendered.values()) == 1
    with mill.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Partial)) == 0


def test_a_zombie_cannot_write(mill):
    """Its lease ran out, another worker has finished the batch: whatever it still brings is refused."""
    corpus_maker.accepted(mill.database, ["SLOW text."])
    (batch_id,) = plan(mill)
    reports = []
    thread = Thread(target=lambda: reports.append(render.run(mill, batch_id, Event())))
    thread.start()
    assert mill.engine.waiting.wait(5)
    with mill.database.write() as connection:
        connection.execute(sa.text("UPDATE batches SET lease_expires_at = 0"))
    sweep.sweep(mill.database)
    other = tones.Tones()
    other.gate.set()
    run_all(render.Mill(mill.database, mill.store, mill.spec, other, "you"))
    before = segments_of(mill)
    mill.engine.gate.set()
    thread.join(10)
    assert reports[0].outcome == states.Outcome.LOST
    assert segments_of(mill) == before
    with mill.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Take)) == 1


def test_cancelled_segments_are_passed_over(mill):
    accepted = corpus_maker.accepted(mill.database, ["Some text.", "Other text."])
    (batch_id,) = plan(mill)
    with mill.database.write() as connection:
        assert jobs.cancel(connection, accepted.id) == 2
    render.run(mill, batch_id, Event())
    assert not mill.engine.rendered
    assert [row.state for row in segments_of(mill)] == ["cancelled"] * 2
    with mill.database.write() as connection:
        assert jobs.retry(connection, accepted.id) == (2, 2)
    run_all(mill)
    assert job_states(mill) == ["rendered"] * 2


def test_counters_equal_a_recount(mill):
    texts = ["Good text.", "REFUSE this.", ["Two.", "Paragraphs."], "QUIET text here it is.", "Good text."]
    corpus_maker.accepted(mill.database, {f"j{n}": text for n, text in enumerate(texts)})
    run_all(mill)
    with mill.database.read() as connection:
        for job in list(connection.execute(sa.select(Job))):
            mine = [row for row in segments_of(mill) if row.job_id == job.id]
            assert job.segments_total == len(mine)
            assert job.segments_done == sum(row.state == "done" for row in mine)
            assert job.segments_failed == sum(row.state == "failed" for row in mine)
