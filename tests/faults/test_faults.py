"""The fault harness, short: both brokers, two engines, and between the two runs every kind of fault."""

import os
import subprocess
import sys

import pytest

from tests import fleet
from tests.faults import kinds

HANDS = [kinds.hand(number, 2) for number in (1, 2)]
PRIVILEGED = {"disk full", "clock jump"}  # take a file system of one's own, and a C compiler
MISSING = 77  # as `tests.faults.__main__` has it


def test_the_two_runs_leave_no_kind_of_fault_out() -> None:
    assert {kind for hand in HANDS for kind in hand} == kinds.KINDS.keys()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute and a half each where nothing else runs
@pytest.mark.skipif(sys.platform != "linux", reason="the harness needs /proc")
@pytest.mark.parametrize(
    ("seed", "hand", "broker", "engine"), [(3, 1, "rabbitmq", "espeak"), (4, 2, "redis", "tones")]
)
def test_nothing_is_lost_doubled_or_left_over(seed: int, hand: int, broker: str, engine: str) -> None:
    line = [sys.executable, "-m", "tests.faults", "--seed", str(seed), "--hand", f"{hand}/2"]
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
    left_out = {kind for kind in HANDS[hand - 1] if f"{kind}: cannot be done here" in done.stdout}
    assert left_out <= PRIVILEGED, done.stdout[-20_000:]
