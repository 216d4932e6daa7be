"""From a cloud's notice to the last byte stored, with as many sequences in flight as a GPU's worker has."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
import sqlalchemy as sa

from storage import pools
from storage.models import Batch, Partial, Segment
from tests import corpus_maker, fleet, metadata_servers
from workers.engines import maya1

tiny_maya1 = pytest.importorskip("tests.tiny_maya1", reason="needs voicemill[maya1]")

IN_FLIGHT = 512
SEGMENTS = 600
LIMIT = 5.0  # seconds, without those in which a thread that could go on had no processor


@pytest.mark.slow
def test_512_sequences_in_flight_are_stored_within_five_seconds_of_a_notice(
    make_fleet: Callable[..., fleet.Fleet],
    redis_url: str,
    s3_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A real worker with Google's metadata server, Postgres and S3; every sequence is one that goes on for a minute."""
    model = tiny_maya1.make(tmp_path / "tiny", end_bias=0)
    with metadata_servers.GoogleServer() as cloud:
        settings = {
            "VOICEMILL_MAYA1_MODEL": str(model / "model"),
            "VOICEMILL_MAYA1_SNAC": str(model / "snac"),
            "VOICEMILL_MAYA1_DEVICE": "cpu",
            "VOICEMILL_MAYA1_SLOTS": str(IN_FLIGHT),
            "VOICEMILL_MAYA1_CONTEXT": "768",
            "VOICEMILL_CHECKPOINT_SECONDS": "2",
            "VOICEMILL_LEASE_SECONDS": "60",
            "VOICEMILL_SPOT": "google",
            "VOICEMILL_SPOT_ENDPOINT": cloud.url,
            "OMP_NUM_THREADS": "1",
        }
        mill = make_fleet(redis_url, store_url=s3_url, settings=settings)
        with mill.database.write() as connection:
            pools.measured(connection, maya1.SPEC.pool, 30_000.0)  # so that a batch is as large as on a GPU
        texts = [
            f"Sentence number {number} of a crowd that is all in flight at once." for number in range(SEGMENTS)
        ]
        greedy = {"temperature": 0}  # what a CPU needs for a frame of 512 is mostly drawing random numbers
        corpus_maker.accepted(mill.database, texts, engine_options=greedy, spec=maya1.SPEC)
        scheduler = mill.start("scheduler")
        worker = mill.start("worker", "--engine", "maya1", "--no-assemble")
        begun = sa.select(sa.func.count()).select_from(Partial)
        mill.until(lambda: mill.scalar(begun) >= IN_FLIGHT, seconds=180)
        scheduler.terminate()  # it would plan what is given back, and has no part in what is measured

        with Queueing(mill.renderer(worker)) as queueing:
            noticed = time.time()
            cloud.preempt()
            assert worker.wait() == 0, worker.log()

    stored_at = mill.scalar(sa.select(sa.func.greatest(sa.func.max(Partial.c.updated_at), _last_finished())))
    queued = queueing.seconds(stored_at)
    with capsys.disabled():
        print(
            f"\n{mill.scalar(begun)} sequences in flight, all stored {stored_at - noticed:.2f} s after the notice,"
            f" {queued:.2f} s of them without a processor"
        )
    assert 0 < stored_at - noticed < LIMIT + queued
    assert mill.scalar(begun) >= IN_FLIGHT
    assert mill.segments("corpus", "pending") + mill.segments("corpus", "done") == SEGMENTS
    assert {batch.outcome for batch in mill.batches()} == {"interrupted"}
    assert mill.scalar(sa.select(sa.func.max(Segment.c.attempts))) == 0


class Queueing(threading.Thread):
    """How long a process' threads wait for a processor, though they could go on: others on this machine have them.

    A process has one lock for all of its Python, so its threads run one after the other, and so do their waits.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._folder = Path(f"/proc/{process}/task")
        self._looks = [self._look()]

    def seconds(self, until: float) -> float:
        """From the beginning to a time."""
        (_, first), *_ = self._looks
        *_, (_, last) = (look for look in self._looks if look[0] <= until)
        return sum(last.values()) - sum(first.values())

    def run(self) -> None:
        while (look := self._look())[1]:
            self._looks.append((look[0], self._looks[-1][1] | look[1]))  # also of threads that have ended since
            time.sleep(fleet.POLL)

    def _look(self) -> tuple[float, dict[str, float]]:
        """Now, and the seconds of each thread since it began."""
        found = {}
        with suppress(OSError):
            for thread in self._folder.iterdir():
                with suppress(OSError):
                    found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        return time.time(), found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()


def _last_finished() -> sa.ScalarSelect[float]:
    return sa.select(sa.func.max(Batch.c.finished_at)).scalar_subquery()
