"""The residual sum and RMS norm before each half of a layer.

    total = x + residual;   normed = weight * (total / sqrt(mean(total²) + epsilon))

One program a row, the row in registers. Moves 8 bytes an element (x and the residual in, the sum and the norm out), 7 when
the norm comes out in 8 bits; in 16-bit precision every step is rounded where Hugging Face's Llama rounds it.
"""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.engines.maya1.kernels import Matrix
from workers.engines.maya1.kernels.matrix import empty, to_fp8


@triton.jit
def _add_rms_norm(
    x, residual, weight, epsilon, total, normed, scales, width,
    ADD: tl.constexpr, QUANTISE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < width
    place = row * width + column
    kind = x.dtype.element_ty
    value = tl.load(x + place, inside, other=0.0).to(tl.float32)
    if ADD:
        value = (value + tl.load(residual + place, inside, other=0.0).to(tl.float32)).to(kind)
        tl.store(total + place, value, inside)
        value = value.to(tl.float32)
    value = (value * tl.rsqrt(tl.sum(value * value, 0) / width + epsilon)).to(kind).to(tl.float32)
    value = (value * tl.load(weight + column, inside, other=0.0).to(tl.float32)).to(kind)
    if QUANTISE:
        quantised, scale = to_fp8(value.to(tl.float32))
        tl.store(normed + place, quantised, inside)
        tl.store(scales + row, scale)
    else:
        tl.store(normed + place, value, inside)


def add_rms_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float, quantise: bool = False
) -> tuple[Matrix, Tensor]:
    """See `Kernels.add_rms_norm`."""
    rows, width = x.shape
    total = x if residual is None else torch.empty_like(x)
    normed = empty(rows, width, x.device) if quantise else None
    values, scales = normed or (torch.empty_like(x), None)
    _add_rms_norm[(rows,)](
        x, residual, weight, epsilon, total, values, scales, width,
        ADD=residual is not None, QUANTISE=quantise, WIDTH=triton.next_power_of_2(width),
    )  # fmt: skip
    return normed or values, total
