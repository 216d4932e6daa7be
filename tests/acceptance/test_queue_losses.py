"""What is lost or doubled on the way and comes to the same end: workers, messages, leases."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import redis
import sqlalchemy as sa

from storage.models import Batch, Job, Segment
from storage.models import Worker as Member
from tests import corpus_maker, fleet, slow_engine
from workers.exit_codes import WorkerExit

pytestmark = pytest.mark.timeout(180)


def accept(mill: fleet.Fleet, texts: list[str], name: str = "corpus", **given: str) -> None:
    corpus_maker.accepted(mill.database, texts, name=name, spec=slow_engine.SPEC, **given)


def numbered(count: int, word: str = "Sentence") -> list[str]:
    return [f"{word} number {number}." for number in range(count)]


def test_a_worker_killed_in_the_middle_costs_what_was_in_flight(mill: fleet.Fleet) -> None:
    accept(mill, [*numbered(20), "HOLD this one.", *numbered(20, "Later")])
    mill.start("scheduler")
    first = mill.worker("--no-assemble")
    mill.until(lambda: mill.holders() and mill.segments("corpus", "done") == 20)
    begun = time.monotonic()
    first.signal(signal.SIGKILL)  # its children go with it
    first.wait()
    mill.open_gate()
    mill.start("worker", "--engine", "slow")
    mill.until_ended("corpus")
    assert time.monotonic() - begun < 60  # the start of a worker on a busy machine; no lease is waited for
    assert set(mill.rendered().values()) == {1}
    assert len(mill.rendered()) == 41
    assert "lost" in {batch.outcome for batch in mill.batches()}


def test_a_worker_that_sleeps_through_its_lease_cannot_write_any_more(mill: fleet.Fleet) -> None:
    mill.environment["VOICEMILL_LEASE_SECONDS"] = "5"
    accept(mill, ["HOLD this one."])
    mill.start("scheduler")
    first = mill.worker("--no-assemble")
    mill.until(mill.holders)
    zombie = mill.renderer(first)
    os.kill(zombie, signal.SIGSTOP)
    try:
        mill.open_gate()
        mill.worker("--no-assemble")
        mill.until(lambda: [batch.state for batch in mill.batches()] == ["finished"] * 2)
        before = mill.batches()
    finally:
        os.kill(zombie, signal.SIGCONT)
    mill.until(lambda: "is lost" in first.log())
    assert mill.batches() == before
    assert [batch.outcome for batch in before] == ["lost", "done"]
    assert mill.scalar(sa.select(Job.c.segments_done)) == 1


def test_messages_that_are_lost_are_rung_for_again(
    mill: fleet.Fleet, broker_url: str, request: pytest.FixtureRequest
) -> None:
    accept(mill, numbered(5))
    scheduler = mill.start("scheduler")
    mill.until(lambda: mill.batches() and mill.batches()[0].published_at)
    mill.start("worker", "--assemble-only")
    scheduler.terminate()
    empty(broker_url)
    mill.start("scheduler")
    mill.worker("--no-assemble")
    mill.until_ended("corpus")
    empty(broker_url)  # under running processes: what Redis knew of exchanges and queues is gone, too
    accept(mill, numbered(5, "More"), name="next")
    mill.until_ended("next")
    assert set(mill.rendered().values()) == {1}


def empty(broker_url: str) -> None:
    """Redis loses all it has, RabbitMQ what is in its queues."""
    if broker_url.startswith("redis"):
        with redis.Redis.from_url(broker_url) as client:
            client.flushdb()
        return
    import kombu

    with kombu.Connection(broker_url) as connection:
        for queue in ("render.slow", "assemble", "plan"):
            connection.default_channel.queue_purge(queue)


def test_a_night_without_workers_leaves_no_more_messages_than_there_is_work(
    make_fleet: Callable[..., fleet.Fleet], broker_url: str
) -> None:
    mill = make_fleet(broker_url, settings={"VOICEMILL_SWEEP_SECONDS": "0.5"})
    accept(mill, numbered(30), name="evening")
    mill.start("scheduler")
    renderer = mill.worker("--no-assemble")
    mill.until(lambda: mill.segments("evening", "done") == 30)
    assert renderer.terminate() == 0
    accept(mill, numbered(30, "Later"), name="night")
    mill.until(lambda: mill.depth("render.slow"))

    def waiting() -> dict[str, int]:
        return {queue: mill.depth(queue) for queue in ("render.slow", "assemble", "deliver")}

    before = waiting()
    for _ in range(10):
        sweep_after_all_patience(mill)
    ready = sum(batch.state == "ready" for batch in mill.batches())
    assert ready > 0
    assert waiting() == {
        "render.slow": max(ready, before["render.slow"]),
        "assemble": max(1, before["assemble"]),
        "deliver": 0,
    }
    mill.worker()
    mill.until_ended("evening", "night")
    mill.until(lambda: set(waiting().values()) == {0})
    assert set(mill.rendered().values()) == {1}


def sweep_after_all_patience(mill: fleet.Fleet) -> None:
    """Wait for a sweep to which every batch was rung for long ago. It forgets a worker of whom nothing was heard since."""
    with mill.database.write() as connection:
        connection.execute(sa.update(Batch).values(published_at=0.0))
        connection.execute(sa.insert(Member).values(name="forgotten", pool="slow", started_at=0.0, seen_at=0.0))
    mill.until(lambda: mill.scalar(sa.select(Member.c.name).where(Member.c.name == "forgotten")) is None)


def test_strange_messages_do_no_harm_and_small_tasks_are_quick(mill: fleet.Fleet) -> None:
    mill.start("scheduler")
    worker = mill.worker()
    accept(mill, numbered(3))
    mill.until_ended("corpus")
    finished, renderings = mill.batches(), mill.rendered()

    mill.send("render", [finished[0].id, "slow"], "render.slow")  # a double
    mill.send("render.version2", [1, 2, 3], "render.slow")  # of a version to come
    mill.send("render", [finished[0].id, "another"], "render.slow")  # for an engine that is not here
    mill.send("render", ["nonsense"], "render.slow")
    mill.until(lambda: "nothing to do" in worker.log() and "unregistered task" in worker.log())
    mill.until(lambda: "does not render for the pool another" in worker.log() and "TypeError" in worker.log())
    assert mill.batches() == finished
    assert mill.rendered() == renderings

    begun = time.monotonic()
    doubles = [mill.send("render", [finished[0].id, "slow"], "render.slow") for _ in range(20)]
    answers = [f"Task render[{double}] succeeded" for double in doubles]  # a sweep may have rung once more, too
    mill.until(lambda: all(answer in worker.log() for answer in answers))
    assert time.monotonic() - begun < 3 + 20 * 0.05  # the second part is our own, for sending
    assert [worker.log().count(answer) for answer in answers] == [1] * 20
    assert mill.batches() == finished
    assert mill.rendered() == renderings
    accept(mill, numbered(3, "After"), name="after")
    mill.until_ended("after")


def test_an_item_that_breaks_the_engine_fails_alone(mill: fleet.Fleet) -> None:
    bad = ["POISON in here.", "MEMORY runs out.", "EXIT through here.", "REFUSE to speak."]
    accept(mill, [*numbered(8), *bad, *numbered(8, "More")])
    mill.start("scheduler")
    mill.worker()
    mill.until_ended("corpus", state="completed_with_errors")
    with mill.database.read() as connection:
        rows = list(
            connection.execute(sa.select(Segment.c.text, Segment.c.attempts, Segment.c.reason, Segment.c.state))
        )
    failed = {row.text: (row.attempts, row.reason) for row in rows if row.state == "failed"}
    assert failed == {text: (3, "truncated" if "REFUSE" in text else "crashed") for text in bad}
    assert sum(row.state == "done" for row in rows) == 16
    accept(mill, numbered(3, "After"), name="after")
    mill.until_ended("after")
    assert set(mill.rendered().values()) == {1}


def test_an_item_that_kills_its_worker_again_and_again_fails_alone(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    mill = make_fleet(redis_url, settings={"VOICEMILL_LOSSES_ALLOWED": "5"})
    accept(mill, ["One of three.", "DIE here.", "Three of three."])
    mill.start("scheduler")
    mill.start("worker", "--engine", "slow")  # its supervisor starts it again each time
    mill.until_ended("corpus", state="completed_with_errors", seconds=120)
    assert mill.segments("corpus", "done") == 2
    with mill.database.read() as connection:
        (job,) = connection.execute(sa.select(Job).where(Job.c.state == "failed"))
    assert (job.reason, job.detail) == ("crashed", "its worker vanished 5 times while it was rendered")


def test_an_engine_that_cannot_be_loaded_ends_the_worker_before_it_takes_a_message(mill: fleet.Fleet) -> None:
    accept(mill, numbered(3))
    mill.start("scheduler")
    mill.until(lambda: mill.batches() and mill.batches()[0].published_at)
    worker = mill.start("worker", "--engine", "slow", settings={slow_engine.BROKEN: "1"})
    assert worker.wait() == WorkerExit.MODEL_FAILED
    assert "its model is damaged" in worker.log()
    assert "cpu: ended (code 3, the engine could not be loaded)" in worker.log()
    # its assembler has left with it: nobody would see that half of a worker goes on
    assert not [line for line in mill.left_behind().values() if re.search("--name (render|assemble)-", line)]
    assert mill.depth("render.slow") >= 1
    assert {batch.lease_number for batch in mill.batches()} == {0}


def test_a_worker_without_work_leaves_whole_and_only_when_all_of_it_has_none(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    """Its assembler has nothing to do while it renders: had it left, nobody would assemble."""
    mill = make_fleet(redis_url, settings={"VOICEMILL_MAX_IDLE": "4s"})
    accept(mill, ["HOLD this one."])
    mill.start("scheduler")
    worker = mill.start("worker", "--engine", "slow")
    mill.until(mill.holders)
    until = time.monotonic() + 6
    mill.until(lambda: time.monotonic() > until)  # longer than what counts as idle
    mill.open_gate()
    mill.until_ended("corpus")
    assert worker.wait() == 0


@pytest.mark.parametrize(
    "command", [["scheduler"], ["worker", "--engine", "slow"]], ids=["scheduler", "worker"]
)
def test_times_that_overlap_are_refused_at_the_start(
    mill: fleet.Fleet, command: list[str], broker_url: str
) -> None:
    wrong, advice = overlapping(broker_url)
    told = mill.run(*command, settings=wrong, code=2).stderr
    assert told.startswith("Error: A batch may take up to ")
    assert advice in told
    assert told.count("\n") == 1


def overlapping(broker_url: str) -> tuple[dict[str, str], str]:
    """Settings under which a broker would lose its patience, and what to do about it."""
    if broker_url.startswith("redis"):
        return {"VOICEMILL_VISIBILITY_TIMEOUT": "60"}, "Raise VOICEMILL_VISIBILITY_TIMEOUT"
    return {"VOICEMILL_BATCH_SECONDS": "600"}, "Lower VOICEMILL_BATCH_SECONDS"


@pytest.mark.parametrize(
    ("broker_url", "queues"),
    [("redis", "render.slow"), ("rabbitmq", "assemble"), ("redis", "deliver"), ("rabbitmq", "plan")],
    indirect=["broker_url"],
)
def test_times_that_overlap_end_a_plain_celery_worker_before_it_takes_a_message(
    mill: fleet.Fleet, queues: str, broker_url: str
) -> None:
    wrong, advice = overlapping(broker_url)
    app = "scheduler.tick" if queues in ("plan", "deliver") else "workers"
    line = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", "threads", "-c", "1", "-Q", queues]
    settings = mill.environment | wrong | {slow_engine.BROKEN: "1"}  # it would say so, had it come so far
    done = subprocess.run(line, env=settings, cwd=mill.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == WorkerExit.BAD_INPUT, done.stderr
    assert "A batch may take up to " in done.stderr
    assert advice in done.stderr
    assert "damaged" not in done.stderr
    assert "Traceback" not in done.stderr


def test_cancelled_work_stops_within_seconds_and_what_is_done_is_kept(mill: fleet.Fleet) -> None:
    mill.start("scheduler")
    mill.worker("--no-assemble")
    accept(mill, [*numbered(10), "HOLD this one.", *numbered(10, "Later")])
    mill.until(lambda: mill.holders() and mill.segments("corpus", "done") == 10)
    begun = time.monotonic()
    told = mill.json("cancel", "corpus")
    assert told == {"corpus": "corpus", "cancelled": True, "jobs": 21}
    mill.until(lambda: mill.batches()[0].state == "finished")
    assert time.monotonic() - begun < 8
    assert mill.batches()[0].outcome == "cancelled"
    assert mill.segments("corpus", "done") == 10
    assert mill.segments("corpus", "cancelled") == 11

    mill.close_gate()
    mill.run("retry", "corpus")  # half of the work of this one is cancelled, the other half goes on
    mill.open_gate()
    mill.start("worker", "--assemble-only")
    mill.until_ended("corpus")
    assert set(mill.rendered().values()) == {1}
