"""What becomes of takes that fail a check."""

import json
import time
from collections.abc import Iterable, Iterator
from threading import Event, Thread

import numpy as np
import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches, jobs, segments, takes
from storage.database import Database
from storage.models import Corpus, Segment, Take
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import answers, render
from workers.audio import checks, edit
from workers.engines import espeak, maya1
from workers.engines.engine import Request, Result
from workers.engines.engine import Take as Rendered
from workers.engines.limits import WIDE


class Deterministic(tones.Spec):
    limits = WIDE
    uses_seed = False


class Lengths(tones.Tones):
    """Every attempt at a text lasts as many seconds as its list says."""

    def __init__(self, seconds: Iterable[float]) -> None:
        super().__init__()
        self.seconds = iter(seconds)

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        for request in requests:
            at = np.arange(int(next(self.seconds) * tones.RATE))
            pcm = (9000 * np.sin(at * (0.2 + request.seed % 1000 / 1e4))).astype("<i2").tobytes()
            self.rendered[request.key] += 1
            yield Rendered(request.key, pcm, tones.RATE, 10)


@pytest.fixture
def mill(database_url, tmp_path):
    database = Database(database_url)
    yield render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    database.close()


def other(mill, spec=None, engine=None):
    return render.Mill(mill.database, mill.store, spec or mill.spec, engine or mill.engine, "me")


def run_all(mill):
    reports = []
    while True:
        planner.plan(mill.database, "tones", planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None:
            return reports
        reports.append(render.run(mill, batch_id, Event()))


def rows(mill, model=Segment):
    with mill.database.read() as connection:
        return list(connection.execute(sa.select(model).order_by(*model.primary_key)))


def until(found, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_failed_is_held_until_its_batch_ends_and_goes_on_together(mill, monkeypatch):
    monkeypatch.setattr(answers, "FLUSH_TAKES", 1)
    texts = [f"ONCE number {n} is silent." for n in range(5)] + [f"Good text {n}." for n in range(20)]
    corpus_maker.accepted(mill.database, [*texts, "SLOW text."])
    how = planner.Plan(workers=1, linger_seconds=0)
    (first,) = planner.plan(mill.database, "tones", how)
    reports: list[render.Report | None] = []
    thread = Thread(target=lambda: reports.append(render.run(mill, first, Event())))
    thread.start()
    until(lambda: sum(row.attempts for row in rows(mill)) == 5)
    assert planner.plan(mill.database, "tones", how) == [], "nothing is pending while its batch is under way"
    mill.engine.gate.set()
    thread.join(30)
    (second,) = planner.plan(mill.database, "tones", how)
    report = render.run(mill, second, Event())
    assert (reports[0].segments, reports[0].failed, reports[0].rendered) == (26, 5, 21)
    assert (report.segments, report.rendered) == (5, 5)
    assert {row.state for row in rows(mill)} == {"done"}
    assert not any(row.reason for row in rows(mill))


def test_failing_twice_in_one_transaction_is_counted_once(mill):
    """A transaction whose outcome was not seen is run again."""
    corpus_maker.accepted(mill.database, ["Some text."])
    (batch_id,) = planner.plan(mill.database, "tones", planner.Plan(workers=1))
    (row,) = rows(mill)
    for _ in range(2):
        with mill.database.write() as connection:
            segments.hold(connection, batch_id, [segments.Refused(row.id, 0, "silent", "it is")])
    assert [(row.state, row.attempts) for row in rows(mill)] == [("batched", 1)]


def test_metrics_are_stored_with_each_take_good_or_bad(mill):
    corpus_maker.accepted(mill.database, ["Good text is this.", "QUIET text is this."])
    run_all(mill)
    found = rows(mill, Take)
    assert len(found) == 4
    assert all({"seconds", "rms_dbfs", "gap_seconds", "clipped_ratio"} <= set(row.metrics) for row in found)
    assert sorted(row.metrics["rms_dbfs"] == checks.NOTHING_DBFS for row in found) == [False, True, True, True]


def test_an_engine_without_seeds_is_not_asked_again(mill):
    corpus_maker.accepted(mill.database, ["QUIET as it is.", "Fine as it is."])
    mine = other(mill, Deterministic())
    (report,) = run_all(mine)
    assert (report.rendered, report.failed) == (2, 0)
    assert [(row.state, row.reason, row.attempts) for row in rows(mill)] == [
        ("done", "silent", 0),
        ("done", None, 0),
    ]
    assert espeak.SPEC.uses_seed is False
    assert maya1.SPEC.uses_seed is True


def test_the_best_of_several_bad_takes_is_delivered(mill):
    text = "A text of forty letters, or thereabouts."
    limit = 5.0 + 0.3 * checks.speech_units(text)
    mine = other(mill, engine=Lengths([limit + 9, limit + 1, limit + 5]))
    corpus_maker.accepted(mill.database, [text])
    reports = run_all(mine)
    assert [report.failed for report in reports] == [1, 1, 0]
    (row,) = rows(mill)
    (best,) = [take for take in rows(mill, Take) if take.take_key == row.take_key]
    assert row.reason == "too_slow"
    assert f"{limit + 1:.1f} s, where" in row.detail
    assert best.samples / best.sample_rate == pytest.approx(limit + 1, abs=0.1)


def test_a_known_bad_take_is_flagged_wherever_it_is_used(mill):
    """It was once taken for good because it was there."""
    corpus_maker.accepted(mill.database, ["QUIET it is."])
    run_all(mill)
    corpus_maker.accepted(mill.database, ["QUIET it is.", "A new text."], name="another")
    before = sum(mill.engine.rendered.values())
    run_all(mill)
    assert sum(mill.engine.rendered.values()) == before + 1, "bad takes are not rendered twice either"
    assert [row.reason for row in rows(mill)] == ["silent", "silent", None]


def test_what_a_person_approved_is_good_everywhere(mill):
    corpus_maker.accepted(mill.database, ["QUIET it is."])
    run_all(mill)
    with mill.database.write() as connection:
        takes.approve(connection, [row.take_key for row in rows(mill)])
    corpus_maker.accepted(mill.database, ["QUIET it is."], name="another")
    run_all(mill)
    assert [row.reason for row in rows(mill)][1:] == [None]


def test_retry_gives_what_needs_a_listen_other_seeds(mill):
    accepted = corpus_maker.accepted(mill.database, {"one": ["QUIET text here.", "Good text here."]})
    run_all(mill)
    made = len(rows(mill, Take))
    with mill.database.write() as connection:
        assert jobs.retry(connection, accepted.id) == (0, 0), "the job is not assembled yet"
        connection.execute(sa.text("UPDATE jobs SET state = 'needs_review'"))
        connection.execute(sa.text("UPDATE corpora SET state = 'completed_with_errors'"))
        assert jobs.retry(connection, accepted.id) == (1, 1)
    run_all(mill)
    assert len(rows(mill, Take)) == made + 3
    assert [row.redone for row in rows(mill)] == [1, 0]


def test_the_time_of_a_worker_is_told_apart_by_corpus(mill):
    corpus_maker.accepted(mill.database, ["A short text."], name="small")
    corpus_maker.accepted(mill.database, [f"A long text number {n} it is." for n in range(40)], name="large")
    reports = run_all(mill)
    small, large = rows(mill, Corpus)
    assert 0 < 10 * small.worker_seconds < large.worker_seconds
    assert small.worker_seconds + large.worker_seconds >= sum(report.wall_seconds for report in reports)


SPOKEN = (
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "No, no, no! Ha ha ha. Mmmmm... 1984, 50% of £3.50, at 12:45.",
    "She sells sea shells by the sea shore; the shells she sells are sea shells, I'm sure.",
)


def test_real_speech_passes_every_check_and_damaged_speech_does_not():
    """espeak's voice, held to the narrower limits of Maya1."""
    engine = espeak.SPEC.load()
    try:
        found = list(engine.render([Request(text, text, "en-us", 0) for text in SPOKEN], Event()))
    finally:
        engine.close()
    pcms = {take.key: edit.tidy(take.pcm, take.sample_rate) for take in found if isinstance(take, Rendered)}
    rate = engine.sample_rate

    def verdict(pcm, text):
        metrics = json.loads(json.dumps(checks.measure(pcm, rate).as_dict()))
        found = checks.judge(checks.Metrics.stored(metrics), text, maya1.LIMITS)
        return found and found.reason.value

    assert [verdict(pcms[text], text) for text in SPOKEN] == [None] * 3
    text = SPOKEN[0]
    whole = np.frombuffer(pcms[text], "<i2")
    stuck = whole[rate : rate + rate * 7 // 10]
    damaged = {
        "too_short": whole[: len(whole) // 6],
        "too_slow": np.repeat(whole, 3),
        "silent": np.concatenate([whole, np.zeros(5 * rate, "<i2"), whole[-rate:]]),
        "clipped": np.clip(whole.astype(int) * 20, -32768, 32767).astype("<i2"),
        "loop": np.concatenate([whole[:rate], *[stuck] * 4, whole[2 * rate :]]),
    }
    assert {name: verdict(wave.tobytes(), text) for name, wave in damaged.items()} == {
        name: name for name in damaged
    }
