"""Matrix products, in 16 or 8 bits, and the quantising of a whole matrix.

    16 bits: x W^T, by cuBLAS.    8 bits: (X s) (W t)^T = (X W^T) * s * t^T, one scale for each row of X and of W.

An 8-bit product of n rows moves in * out bytes of weights, half of what 16 bits take, and doubles the peak rate.
"""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from workers.engines.maya1.kernels import Matrix, Quantised

FP8 = torch.float8_e4m3fn
FP8_LARGEST = tl.constexpr(448.0)
FEW_ROWS, LONG_ROW = 256, 8192  # cuBLAS may refuse scales by row for so few rows of so many columns


def linear(x: Matrix, weight: Matrix) -> Tensor:
    """See `Kernels.linear`. 8-bit products come out as bfloat16."""
    if isinstance(x, Tensor):
        assert isinstance(weight, Tensor)
        return functional.linear(x, weight)
    assert isinstance(weight, Quantised)
    rows, columns = x.values.shape
    if rows <= FEW_ROWS and columns >= LONG_ROW:
        more = (0, 0, 0, FEW_ROWS + 16 - rows)
        x = Quantised(functional.pad(x.values.view(torch.uint8), more).view(FP8), functional.pad(x.scale, more))
    product: Tensor = torch._scaled_mm(
        x.values, weight.values.T, x.scale, weight.scale.T, out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return product[:rows]


@triton.jit
def to_fp8(x):
    """A row in fp32 as fp8 and its scale: the largest value becomes 448."""
    scale = tl.maximum(tl.max(tl.abs(x), 0), 1e-12) / FP8_LARGEST
    return tl.div_rn(x, tl.zeros_like(x) + scale).to(tl.float8e4nv), scale


@triton.jit
def _quantise(x, values, scales, width, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < width
    quantised, scale = to_fp8(tl.load(x + row * width + column, inside, other=0.0).to(tl.float32))
    tl.store(values + row * width + column, quantised, inside)
    tl.store(scales + row, scale)


def quantised(x: Tensor) -> Quantised:
    """See `Kernels.quantised`. Moves 3 bytes an element."""
    rows, width = x.shape
    out = empty(rows, width, x.device)
    _quantise[(rows,)](x.contiguous(), *out, width, WIDTH=triton.next_power_of_2(width))
    return out


def empty(rows: int, width: int, device: torch.device) -> Quantised:
    """Room for an 8-bit matrix."""
    return Quantised(
        torch.empty(rows, width, dtype=FP8, device=device),
        torch.empty(rows, 1, dtype=torch.float32, device=device),
    )
