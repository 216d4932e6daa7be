"""Maya1's engine on a GPU: do its kernels compute the right thing, and how fast is it beside its bound and its peers?

    python benchmarks/gpu.py [--out FILE.json]        on the GPU: no network, no weights, at most 8 minutes
    python benchmarks/gpu.py --only checks,exact      some of its parts
    python benchmarks/gpu.py --dry-run-cpu            the same steps at toy sizes, to see that the script works

Weights are random, of the true shape; so is the text. Lengths are forced: each request ends at a frame drawn beforehand
(lognormal, mean about 700 tokens), and while that is timed the end of speech is computed but never drawn. Times leave out
start-up: loading, compiling, capturing. Audio-seconds are those of kept codes, through the vocoder, on the host.

A bare GPU image needs, beside torch 2.6 or later with its Triton, `pip install numpy pydantic-settings` (which brings
pydantic) and nothing of the project but this checkout; `transformers` for the peers, and for the other vocoder `onnx`,
`onnxscript` and `tensorrt-rtx-cu13-libs` with `-bindings`. What is not installed is skipped, and said to be.

FILE.json is written anew after every step, so that what was found outlives whatever ends the rest.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

DRY = "--dry-run-cpu" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # has to be chosen before Triton is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from gpu_parts import bench, checks, inputs, peers, rates, runs  # noqa: E402

# In the order of their worth: time may not do for all of them.
PARTS: dict[str, Callable[[bench.Bench, Path], None]] = {
    "checks": checks.run,
    "operations": rates.operations,
    "exact": runs.exact,
    "fp8-cache": runs.fp8_cache,
    "fp8-products": runs.fp8_products,
    "peers": peers.run,
    "vocoders": rates.vocoders,
    "sweep": runs.sweep,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run-cpu", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--seconds", type=float, default=470, help="steps that would not fit are skipped")
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    if DRY:
        torch.set_num_threads(1)
    if not DRY and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured. --dry-run-cpu shows that the script works.")
        return 0
    sizes, device = (bench.TOY, "cpu") if DRY else (bench.Sizes(), "cuda")
    one = bench.Bench(sizes, torch.device(device), options.seconds, options.out)
    one.found["where"] = where(one)
    print("\n".join(f"{name}: {value}" for name, value in one.found["where"].items()), flush=True)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        codec = inputs.codec(Path(folder), sizes)
        one.step("device", 0, lambda: rates.device(one))
        for name in options.only:
            print(f"\n## {name}", flush=True)
            PARTS[name](one, codec)
    one.write()
    print(f"\n{one.wrong} checks wrong; {time.monotonic() - one.started:.0f} s")
    return 1 if one.wrong else 0


def parts(given: str) -> list[str]:
    names = given.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


def where(one: bench.Bench) -> dict[str, Any]:
    """What the numbers hold for."""
    found = {
        "device": torch.cuda.get_device_name() if one.cuda else "CPU",
        "memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9) if one.cuda else None,
        "driver": driver() if one.cuda else None,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(sys.argv),
    }
    return found | {name: version(name) for name in ("torch", "triton", "transformers")}


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return None


if __name__ == "__main__":
    sys.exit(main())
