"""The kernels in Triton, for CUDA: what `Kernels` asks for, a file each. `plain` is what they are held against."""

import os

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not set

from workers.engines.maya1.kernels.activation import silu_mul
from workers.engines.maya1.kernels.attention import decode_attention
from workers.engines.maya1.kernels.draw import sample
from workers.engines.maya1.kernels.matrix import linear, quantised
from workers.engines.maya1.kernels.norm import add_rms_norm
from workers.engines.maya1.kernels.rotary import rope_and_store

__all__ = ["add_rms_norm", "decode_attention", "linear", "quantised", "rope_and_store", "sample", "silu_mul"]
