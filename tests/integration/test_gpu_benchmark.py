"""The GPU benchmark is a script that runs from its first line to its last, so that a GPU's time is not lost on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_dry_run_goes_through_every_part(tmp_path: Path) -> None:
    done = run("--dry-run-cpu", "--out", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == []
    assert len(found["checks"]) >= 20
    assert all(check["right"] for check in found["checks"])
    assert [result["name"] for result in found["runs"]] == [
        "float16",
        "float16, the peers' requests",
        "float16, fp8 cache",
        "float16",
        "fp8 products and cache",
    ]
    for result in found["runs"]:
        assert result["audio"] > 0
        assert 0 < result["prefill"] + result["frames"] <= result["total"]
    assert len(found["peers"]) == 2
    assert all(peer["audio_per_second"] > 0 for peer in found["peers"])


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run()
    assert done.returncode == 0
    assert done.stdout == (
        "There is no CUDA device here: nothing was measured. --dry-run-cpu shows that the script works.\n"
    )
