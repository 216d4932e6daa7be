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
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def python(script: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_dry_run_goes_through_every_part(tmp_path: Path) -> None:
    done = run("--dry-run-cpu", "--out", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == []
    assert len(found["checks"]) >= 30
    assert all(check["right"] for check in found["checks"])
    assert [result["name"] for result in found["runs"]] == [
        "float16",
        "float16, fp8 cache",
        "fp8 products and cache",
        "float16, the peers' requests",
        "float16, float16 cache, 2 rows",
        "float16, float8_e4m3fn cache, 2 rows",
    ]
    for result in found["runs"]:
        assert result["audio"] > 0
        assert 0 < result["prefill"] + result["frames"] <= result["total"]
    assert len(found["peers"]) == 2
    for peer in found["peers"]:
        assert peer["audio_per_second"] > 0 and peer["finished"] == peer["requests"] == 2
        assert peer["attention"] == "sdpa"
    assert {"torch", "triton", "transformers", "driver"} <= found["where"].keys()


@pytest.mark.slow
def test_one_part_alone_and_one_failure_of_many_leaves_the_rest_be(tmp_path: Path) -> None:
    """The vocoder's kernels are not to be had; the other checks are made, and the file has them."""
    script = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "sys.modules['workers.engines.maya1.vocoder.fused'] = None\n"
        f"sys.argv = ['gpu.py', '--dry-run-cpu', '--only', 'checks', '--out', {str(tmp_path / 'found.json')!r}]\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = python(script)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [failed.partition(":")[0] for failed in found["failed"]] == ["vocoder"]
    assert len(found["checks"]) >= 30 and not found["runs"]
    assert found["checks"][-1]["name"].startswith("logits after all layers")


def test_it_needs_few_wheels() -> None:
    """What its docstring names, and what these bring."""
    script = (
        "import sys, torch\n"
        f"sys.path[:0] = [{str(SCRIPT.parent)!r}, {str(ROOT)!r}]\n"
        "before = set(sys.modules)\n"
        "from gpu_parts import checks, peers, rates, runs\n"
        "from workers.engines.maya1.kernels import fast\n"
        "from workers.engines.maya1.vocoder import fused\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    brought = set(python(script).stdout.split()) - {"gpu_parts", "storage", "workers"}
    known = {
        "annotated_types",
        "dotenv",
        "numpy",
        "pydantic",
        "pydantic_core",
        "pydantic_settings",
        "torch",
        "triton",
    }
    assert {name for name in brought if not name.startswith("_")} <= known | {
        "typing_extensions",
        "typing_inspection",
    }


def test_a_part_that_there_is_none_of() -> None:
    done = run("--only", "chekcs")
    assert done.returncode == 2 and "there is no part chekcs" in done.stderr


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run()
    assert done.returncode == 0
    assert done.stdout == (
        "There is no CUDA device here: nothing was measured. --dry-run-cpu shows that the script works.\n"
    )
