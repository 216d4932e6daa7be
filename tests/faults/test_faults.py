"""The fault harness, short: both brokers, two engines, most kinds of fault."""

import os
import subprocess
import sys

import pytest

from tests import fleet

FAULTS = 13
MISSING = 77  # as `tests.faults.__main__` has it


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute each where nothing else runs
@pytest.mark.skipif(sys.platform != "linux", reason="the harness needs /proc")
@pytest.mark.parametrize(("seed", "broker", "engine"), [(3, "rabbitmq", "espeak"), (4, "redis", "tones")])
def test_nothing_is_lost_doubled_or_left_over(seed: int, broker: str, engine: str) -> None:
    line = [sys.executable, "-m", "tests.faults", "--seed", str(seed), "--faults", str(FAULTS)]
    done = subprocess.run(
        [*line, "--broker", broker, "--engine", engine, "--workers", "2", "--gap", "0.5"],
        cwd=fleet.ROOT,
        env=os.environ | {"PYTHONPATH": str(fleet.ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode == MISSING and os.environ.get("VOICEMILL_TEST_REQUIRE_SERVERS") != "1":
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert "Nothing was lost, doubled or left over." in done.stdout
