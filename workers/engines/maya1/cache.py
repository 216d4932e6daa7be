"""The key/value cache: a stretch of `length` positions for each sequence in flight, so nothing is ever moved."""

import torch
from torch import Tensor

from workers.engines.maya1 import kernels
from workers.engines.maya1.architecture import Architecture

KV_DTYPES = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
SCALE_BYTES = 4


class Cache:
    """`slots` stretches and a spare one, the last, that empty rows of a batch may scribble in."""

    def __init__(
        self, shape: Architecture, slots: int, length: int, kv_dtype: torch.dtype, device: torch.device
    ) -> None:
        self.slots = slots
        self.length = length
        size = (shape.layers, slots + 1, length, shape.kv_heads, 2)
        self.data = torch.zeros(*size, shape.head_dim, dtype=kv_dtype, device=device)
        self.scale = torch.zeros(size, device=device) if kv_dtype in KV_DTYPES.values() else None

    def layer(self, index: int) -> kernels.LayerCache:
        """One layer's part, sharing memory."""
        return kernels.LayerCache(self.data[index], None if self.scale is None else self.scale[index])

    def take_out(self, slot: int, length: int) -> list[Tensor]:
        """A copy of the first `length` positions of a slot, all layers."""
        return [part[:, slot, :length].clone() for part in self._parts()]

    def put_in(self, copy: list[Tensor], slots: Tensor) -> None:
        """Writes what `take_out` gave at the start of each of the slots (int64)."""
        for part, stored in zip(self._parts(), copy, strict=True):
            part[:, slots, : stored.shape[1]] = stored[:, None]

    def _parts(self) -> list[Tensor]:
        return [self.data] if self.scale is None else [self.data, self.scale]


def slot_bytes(shape: Architecture, length: int, kv_dtype: torch.dtype) -> int:
    """Device memory that one slot takes."""
    scale = SCALE_BYTES if kv_dtype in KV_DTYPES.values() else 0
    return shape.layers * length * shape.kv_heads * 2 * (shape.head_dim * kv_dtype.itemsize + scale)
