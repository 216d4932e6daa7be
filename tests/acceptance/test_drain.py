"""Workers that are told to leave, and workers that hang: what they held is done by others, and nothing twice."""

import re
import signal
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from storage.models import Segment
from tests import corpus_maker, fleet, slow_engine
from workers.exit_codes import WorkerExit

pytestmark = pytest.mark.timeout(180)

HURRY = 15.0  # seconds that a worker takes to leave, on a busy machine; it may take 25


def accept(mill: fleet.Fleet, texts: list[str]) -> None:
    corpus_maker.accepted(mill.database, texts, name="corpus", spec=slow_engine.SPEC)


def numbered(count: int, word: str = "Sentence") -> list[str]:
    return [f"{word} number {number}." for number in range(count)]


def finish(mill: fleet.Fleet) -> None:
    """Have other workers do what is left, and see that they had nothing to do again."""
    mill.open_gate()
    mill.start("worker", "--engine", "slow")
    mill.until_ended("corpus")
    assert set(mill.rendered().values()) == {1}
    assert mill.scalar(sa.select(sa.func.max(Segment.c.attempts))) == 0


def test_sigterm_gives_back_what_is_in_hand_and_nothing_is_rendered_twice(mill: fleet.Fleet) -> None:
    """Two batches are in the middle, and a third waits for them."""
    mill.environment["VOICEMILL_BATCH_SEGMENTS"] = "12"
    texts = [
        text for word in ("One", "Two") for text in (*numbered(10, word), f"HOLD {word}.", f"{word} more.")
    ]
    accept(mill, [*texts, *numbered(12, "Three")])
    scheduler = mill.start("scheduler")
    worker = mill.worker("--no-assemble")
    mill.until(lambda: mill.segments("corpus", "done") == 20)
    scheduler.terminate()  # what is given back is not planned anew while we look
    begun = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == WorkerExit.DRAINED
    assert time.monotonic() - begun < HURRY
    assert mill.segments("corpus", "done") == 20
    states = [(batch.state, batch.outcome) for batch in mill.batches()]
    assert states[:2] == [("finished", "interrupted")] * 2
    waiting = [state for state, _ in states].count("ready")
    assert mill.depth("render.slow") >= waiting, "a message was taken and not given back"
    assert mill.members() == []
    mill.start("scheduler")
    finish(mill)


def test_sigterm_while_the_engine_is_loaded_is_not_waited_with(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    """A download may take an hour: as long as nothing is in hand there is nothing to be stored, either."""
    mill = make_fleet(redis_url)
    accept(mill, numbered(3))
    mill.start("scheduler")
    worker = mill.start("worker", "--engine", "slow", "--no-assemble", settings={slow_engine.LOADS_SLOWLY: "1"})
    mill.until(mill.holders)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == WorkerExit.DRAINED
    finish(mill)


def test_a_settings_file_that_is_being_edited_does_not_disturb_a_drain(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    mill = make_fleet(redis_url)
    file = mill.folder / "voicemill.toml"
    file.write_text("drain_seconds = 25")
    accept(mill, ["HOLD this one."])
    mill.start("scheduler")
    worker = mill.worker("--no-assemble", settings={"VOICEMILL_CONFIG": str(file)})
    mill.until(mill.holders)
    file.write_text("drain_seconds = ")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == WorkerExit.DRAINED
    finish(mill)


def test_a_thread_that_does_not_hear_that_it_is_to_stop_is_ended_with_its_process(mill: fleet.Fleet) -> None:
    accept(mill, [*numbered(10), "HANG in here.", *numbered(10, "Later")])
    mill.start("scheduler")
    worker = mill.worker("--no-assemble", settings={"VOICEMILL_DRAIN_SECONDS": "3"})
    mill.until(lambda: mill.holders() and mill.segments("corpus", "done") == 10)
    begun = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == WorkerExit.WATCHDOG  # its supervisor had no need to kill it
    assert time.monotonic() - begun < HURRY
    assert "still at work 3 s after it was told to leave" in worker.log()
    assert re.search(r"slow_engine\.py\", line \d+ in ", worker.log()), "where it hangs is shown"
    finish(mill)
    assert mill.batches()[0].outcome == "lost"


def test_an_engine_that_hangs_and_keeps_its_lease_ends_its_process_and_a_fresh_one_goes_on(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    """Nobody else could tell: its lease is renewed for as long as it hangs."""
    mill = make_fleet(redis_url, settings={"VOICEMILL_STUCK_SECONDS": "8"})
    accept(mill, [*numbered(10), "HANG in here.", *numbered(10, "Later")])
    mill.start("scheduler")
    worker = mill.worker()
    mill.until(lambda: mill.holders() and mill.segments("corpus", "done") == 10)
    mill.until(lambda: "cpu: ended (code 75, the watchdog ended it), next start in" in worker.log())
    assert "s in batch 1: this process ends" in worker.log()
    mill.open_gate()
    mill.until_ended("corpus")
    assert set(mill.rendered().values()) == {1}
    assert mill.batches()[0].outcome == "lost"
    assert worker.terminate() == WorkerExit.DRAINED
