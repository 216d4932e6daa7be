"""One run of the benchmark: where it is, what it has found, how much time it has left."""

import dataclasses
import gc
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from workers.engines.maya1 import cache, constants
from workers.engines.maya1.architecture import Architecture

# mypy: disable-error-code="no-untyped-call"

ROPE = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
NO_END = 10**6  # frames before which the end of speech may not be drawn: never
FP8, INT8 = torch.float8_e4m3fn, torch.int8

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run: the real thing, or a toy that shows that the script works."""

    layers: int = 28
    hidden: int = 3072
    heads: int = 24
    kv_heads: int = 8
    head_dim: int = 128
    intermediate: int = 8192
    codec_dim: int = 1024
    codec_latent: int = 768
    mean_tokens: int = 700
    longest: int = 1900  # tokens
    context: int = 2176
    waves: int = 4  # requests for each slot
    slots: int = cache.GPU_SLOTS_8_BIT  # at most, whatever memory holds
    sweep: tuple[int, ...] = (64, 128, 256, 384, 512, 640, 768, 1024)
    peer_requests: int = 128
    check_rows: int = 256
    check_length: int = 700
    far_slots: int = 512  # of one layer: from 482 on a 16-bit element's offset does not fit 31 bits
    copy_bytes: int = 1 << 31
    square: int = 8192

    def shape(self) -> Architecture:
        return Architecture(
            layers=self.layers, hidden=self.hidden, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
            intermediate=self.intermediate, vocabulary=156_960, positions=131_072, epsilon=1e-5, tied=True, rope=ROPE,
        )  # fmt: skip


TOY = Sizes(
    layers=1, hidden=48, heads=3, kv_heads=1, head_dim=16, intermediate=64, codec_dim=64, codec_latent=32,
    mean_tokens=30, longest=60, context=320, waves=2, slots=3, sweep=(2,), peer_requests=2, check_rows=2,
    check_length=70, far_slots=5, copy_bytes=1 << 16, square=64,
)  # fmt: skip


class Bench:
    """Runs steps one by one. What one of them finds is in the file before the next one begins."""

    def __init__(self, sizes: Sizes, device: torch.device, seconds: float, out: Path | None) -> None:
        self.sizes, self.device, self.out = sizes, device, out
        self.cuda = device.type == "cuda"
        # Triton's interpreter does not know bfloat16 well.
        self.exact = torch.bfloat16 if self.cuda else torch.float16
        self.started, self.seconds = time.monotonic(), seconds
        self.found: dict[str, Any] = {"checks": [], "operations": [], "runs": [], "peers": [], "failed": []}
        self.wrong = 0

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    def step(self, name: str, needs: float, work: Callable[[], Found]) -> Found | None:
        """A step: skipped without the seconds it needs (on a GPU), and its failure leaves the others be."""
        try:
            if self.cuda and self.left() < needs:
                raise TimeoutError(f"{self.left():.0f} s are left, and it may need {needs:.0f}")
            return work()
        except Exception as error:
            self.found["failed"].append(f"{name}: {type(error).__name__}: {error}")
            print(f"Failed: {self.found['failed'][-1]}", flush=True)
            if not isinstance(error, TimeoutError):
                traceback.print_exc()
            return None
        finally:
            self.tidy()
            self.write()

    def write(self) -> None:
        if self.out is not None:
            self.out.write_text(json.dumps(self.found, indent=1))

    def tidy(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], Any], repeats: int = 10) -> float:
        """Seconds that one call takes, the median after three to warm up."""
        times = []
        for index in range(repeats + 3 if self.cuda else 1):
            self.sync()
            start = time.perf_counter()
            work()
            self.sync()
            times += [time.perf_counter() - start] if index >= 3 or not self.cuda else []
        return sorted(times)[len(times) // 2]

    def check(self, name: str, error: float, allowed: float) -> None:
        right = error <= allowed
        self.wrong += not right
        self.found["checks"].append({"name": name, "error": error, "allowed": allowed, "right": right})
        print(f"{'ok   ' if right else 'WRONG'} {name}: {error:.2g} (at most {allowed:g})", flush=True)

    def rate(self, name: str, value: float, unit: str) -> None:
        self.found["operations"].append({"name": name, unit: value})
        print(f"{name}: {value:.3g} {unit}", flush=True)

    def random(self, *size: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*size, device=self.device) * scale).to(self.exact)

    def fitting(self, kv_dtype: torch.dtype) -> int:
        """Slots that the memory left holds, as the engine counts them."""
        if not self.cuda:
            return self.sizes.slots
        return min(
            self.sizes.slots, cache.fitting(self.sizes.shape(), self.sizes.context, kv_dtype, self.device)
        )

    def usual(self, kv_dtype: torch.dtype) -> int:
        """Slots that the engine would take."""
        return min(
            self.sizes.slots, cache.usual_slots(self.sizes.shape(), self.sizes.context, kv_dtype, self.device)
        )


@contextmanager
def no_end() -> Iterator[None]:
    """The end of speech is computed and never drawn: lengths are forced. Only around what is timed."""
    before, constants.MIN_FRAMES = constants.MIN_FRAMES, NO_END
    try:
        yield
    finally:
        constants.MIN_FRAMES = before


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square error beside the root mean square."""
    return float((got.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-9))


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
