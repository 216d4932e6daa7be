"""From a cloud's notice to the last byte stored, with as many sequences in flight as a GPU's worker has."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import pools
from storage.models import Batch, Partial, Segment
from tests import corpus_maker, fleet, metadata_servers
from workers.engines import maya1

tiny_maya1 = pytest.importorskip("tests.tiny_maya1", reason="needs voicemill[maya1]")

IN_FLIGHT = 512
SEGMENTS = 600
LIMIT = 5.0  # seconds, with a processor to itself; where others want it too, in proportion


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
        mill.start("scheduler")
        worker = mill.start("worker", "--engine", "maya1", "--no-assemble")
        begun = sa.select(sa.func.count()).select_from(Partial)
        mill.until(lambda: mill.scalar(begun) >= IN_FLIGHT, seconds=180)

        noticed = time.time()
        cloud.preempt()
        assert worker.wait() == 0, worker.log()

    stored_at = mill.scalar(sa.select(sa.func.greatest(sa.func.max(Partial.updated_at), _last_finished())))
    with capsys.disabled():
        print(
            f"\n{mill.scalar(begun)} sequences in flight, all stored {stored_at - noticed:.2f} s after the notice"
        )
    crowd = max(1.0, max(os.getloadavg()[:2]) / (os.cpu_count() or 1))
    assert 0 < stored_at - noticed < LIMIT * crowd
    assert mill.scalar(begun) >= IN_FLIGHT
    assert mill.segments("corpus", "pending") + mill.segments("corpus", "done") == SEGMENTS
    assert {batch.outcome for batch in mill.batches()} == {"interrupted"}
    assert mill.scalar(sa.select(sa.func.max(Segment.attempts))) == 0


def _last_finished() -> sa.ScalarSelect[float]:
    return sa.select(sa.func.max(Batch.finished_at)).scalar_subquery()
