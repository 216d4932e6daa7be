"""The gate of a layer's second half.

    inner = gate * sigmoid(gate) * up

One program a row. Moves 6 bytes an element of the result, 5 when it comes out in 8 bits.
"""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl
from torch import Tensor

from workers.engines.maya1.kernels import Matrix
from workers.engines.maya1.kernels.matrix import empty, to_fp8


@triton.jit
def _silu_mul(gate_up, out, scales, width, QUANTISE: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < width
    kind = gate_up.dtype.element_ty
    gate = tl.load(gate_up + row * 2 * width + column, inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + column, inside, other=0.0).to(tl.float32)
    gate = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    result = (gate * up).to(kind)
    if QUANTISE:
        quantised, scale = to_fp8(result.to(tl.float32))
        tl.store(out + row * width + column, quantised, inside)
        tl.store(scales + row, scale)
    else:
        tl.store(out + row * width + column, result, inside)


def silu_mul(gate_up: Tensor, quantise: bool = False) -> Matrix:
    """See `Kernels.silu_mul`."""
    rows, width = len(gate_up), gate_up.shape[1] // 2
    out = empty(rows, width, gate_up.device) if quantise else None
    values, scales = out or (gate_up.new_empty(rows, width), None)
    _silu_mul[(rows,)](gate_up, values, scales, width, QUANTISE=quantise, WIDTH=triton.next_power_of_2(width))
    return out or values
