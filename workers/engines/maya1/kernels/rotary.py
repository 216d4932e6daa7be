"""Rotation of queries and keys, and the writing of keys and values into the cache.

    (a, b) -> (a cos - b sin, b cos + a sin) for a in the first half of a head and b in its second
    8-bit cache: scale = max |v| / largest of the type, for each token, head and K or V; stored round(v / scale)

One program takes a row's V (key/value head count) heads: H / V programs for the queries, one for K, one for V.
Moves 2 (2 H + 4 V) D bytes a row in 16 bits; H = 24, V = 8, D = 128: 20 KB.
"""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from workers.engines.maya1.kernels import LayerCache

LIMITS = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}


@triton.jit
def _rope_and_store(
    qkv, rotation, query, cache, scales, slots, positions, length, groups, heads,
    LARGEST: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)  # of H / V groups of query heads, then the keys, then the values
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, WIDTH // 2)[None, :]
    inside = (head < heads) & (column >= 0)
    position = tl.load(positions + row)
    source = qkv + (row * (groups + 2) * heads + group * heads + head) * WIDTH + column
    first = tl.load(source, inside, other=0.0)
    second = tl.load(source + WIDTH // 2, inside, other=0.0)
    if group <= groups:
        cosine = tl.load(rotation + position * WIDTH + column)
        sine = tl.load(rotation + position * WIDTH + WIDTH // 2 + column)
        a = first.to(tl.float32)
        b = second.to(tl.float32)
        first = (a * cosine - b * sine).to(first.dtype)
        second = (b * cosine + a * sine).to(second.dtype)
    if group < groups:
        place = query + (row * groups * heads + group * heads + head) * WIDTH + column
        tl.store(place, first, inside)
        tl.store(place + WIDTH // 2, second, inside)
    else:
        slot = tl.load(slots + row)
        which = group - groups  # 0: keys, 1: values
        stored = cache + (((slot * length + position) * heads + head) * 2 + which) * WIDTH + column
        if LARGEST > 0:
            a = first.to(tl.float32)
            b = second.to(tl.float32)
            largest = tl.maximum(tl.max(tl.abs(a), 1), tl.max(tl.abs(b), 1))[:, None]
            scale = tl.maximum(largest, 1e-12) / LARGEST
            tl.store(scales + ((slot * heads + head) * length + position) * 2 + which, scale, head < heads)
            _store_8_bit(stored, a, scale, inside, LARGEST)
            _store_8_bit(stored + WIDTH // 2, b, scale, inside, LARGEST)
        else:
            tl.store(stored, first, inside)
            tl.store(stored + WIDTH // 2, second, inside)


@triton.jit
def _store_8_bit(place, value, scale, inside, LARGEST: tl.constexpr):
    value = tl.div_rn(value, tl.zeros_like(value) + scale)
    if LARGEST == 127:  # to the nearest whole number, halves to the even one: fp32 rounds so beyond 2**23
        value = (value + 12582912.0) - 12582912.0
    tl.store(place, value.to(place.dtype.element_ty), inside)


def rope_and_store(qkv: Tensor, rotation: Tensor, cache: LayerCache, slot: Tensor, position: Tensor) -> Tensor:
    """See `Kernels.rope_and_store`. D must be a power of two."""
    _, length, kv_heads, _, width = cache.data.shape
    rows, groups = len(qkv), qkv.shape[1] // (kv_heads * width) - 2
    query = qkv.new_empty(rows, groups * kv_heads, width)
    _rope_and_store[(rows, groups + 2)](
        qkv, rotation, query, cache.data, cache.scale, slot, position, length, groups, kv_heads,
        LARGEST=LIMITS.get(cache.data.dtype, 0), HEADS=triton.next_power_of_2(kv_heads), WIDTH=width,
    )  # fmt: skip
    return query
