"""The key/value cache: a stretch of `length` positions for each sequence in flight, so nothing is ever moved."""

import torch
from torch import Tensor

from workers.engines.maya1 import constants, kernels
from workers.engines.maya1.architecture import Architecture
from workers.engines.maya1.kernels import plain

KV_DTYPES = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
SCALE_BYTES = 4
RESERVE = 0.10  # of the free memory, for activations, graphs and the vocoder
CPU_SLOTS = 8
GPU_SLOTS = 512  # more gains nothing with a 16-bit cache: reading it is what takes the time
GPU_SLOTS_8_BIT = 1024


class Cache:
    """`slots` stretches and a spare one, the last, that empty rows of a batch may scribble in."""

    def __init__(
        self, shape: Architecture, slots: int, length: int, kv_dtype: torch.dtype, device: torch.device
    ) -> None:
        self.slots = slots
        self.length = length
        size = (shape.layers, slots + 1, length, shape.kv_heads, 2, shape.head_dim)
        self.data = torch.zeros(size, dtype=kv_dtype, device=device)
        self.scale: Tensor | None = None
        if kv_dtype in KV_DTYPES.values():
            self.scale = torch.zeros(shape.layers, slots + 1, shape.kv_heads, length, 2, device=device)

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
        """What is kept, as [layers, slots, length, ...]."""
        data = plain.movable(self.data)
        return [data] if self.scale is None else [data, self.scale.transpose(2, 3)]


def usual_slots(shape: Architecture, length: int, kv_dtype: torch.dtype, device: torch.device) -> int:
    """How many sequences are decoded at once, where nobody says."""
    if device.type != "cuda":
        return CPU_SLOTS
    most = GPU_SLOTS_8_BIT if kv_dtype in KV_DTYPES.values() else GPU_SLOTS
    return min(most, fitting(shape, length, kv_dtype, device))


def fitting(shape: Architecture, length: int, kv_dtype: torch.dtype, device: torch.device) -> int:
    """As many slots as the free memory of a GPU holds, in eights."""
    free, _ = torch.cuda.mem_get_info(device)
    seen = constants.FRAME * constants.CODES  # bytes
    count = int(free * (1 - RESERVE)) // (slot_bytes(shape, length, kv_dtype) + seen) - 1
    return max(1, count // 8 * 8)


def slot_bytes(shape: Architecture, length: int, kv_dtype: torch.dtype) -> int:
    """Device memory that one slot takes."""
    scale = SCALE_BYTES if kv_dtype in KV_DTYPES.values() else 0
    return shape.layers * length * shape.kv_heads * 2 * (shape.head_dim * kv_dtype.itemsize + scale)
