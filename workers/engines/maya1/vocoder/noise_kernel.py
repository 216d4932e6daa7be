"""`noise.normal` in Triton: one program for each latent step of each row. Moves the 4 bytes a value that it writes."""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.engines.maya1.kernels import draw


@triton.jit
def _radius(bits):
    return tl.sqrt(-2.0 * tl.log(1.0 - draw.uniform(bits)))


@triton.jit
def _normal(seeds, starts, out, steps, values, KEY: tl.constexpr, TURN: tl.constexpr, COUNTERS: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    step = tl.program_id(0)
    zero = tl.zeros((COUNTERS,), tl.int32)
    index = zero + (tl.load(starts + row) + step).to(tl.int32)
    a, b, c, d = tl.philox(tl.load(seeds + row) ^ KEY, tl.arange(0, COUNTERS), index, zero, zero)
    first, second = _radius(a), _radius(c)
    b, d = TURN * draw.uniform(b), TURN * draw.uniform(d)
    cosines = tl.interleave(first * tl.cos(b), second * tl.cos(d))
    sines = tl.interleave(first * tl.sin(b), second * tl.sin(d))
    place = tl.arange(0, 4 * COUNTERS)
    tl.store(out + (row * steps + step) * values + place, tl.interleave(cosines, sines), place < values)


def normal(seeds: Tensor, starts: Tensor, steps: int, values: int, key: int, turn: float) -> Tensor:
    """See `noise.normal`."""
    out = torch.empty(len(seeds), steps, values, device=seeds.device)
    counters = triton.next_power_of_2(triton.cdiv(values, 4))
    _normal[(steps, len(seeds))](seeds, starts, out, steps, values, KEY=key, TURN=turn, COUNTERS=counters)
    return out
