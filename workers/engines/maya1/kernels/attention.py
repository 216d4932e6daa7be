"""Attention of one new token a row over its stretch of the cache: the read that a decode step's time goes into.

    score_i = q . k_i / sqrt(D);   out = sum_i softmax(score)_i v_i,   with a running maximum and sum over blocks of 64

One program for each row and key/value head reads that head's keys and values once, for all its queries (padded to 16, the
least that a tensor core takes). That is 64 programs even for 8 rows, and 512 fill the chip: no split over the length.
Moves 4 D bytes a token and key/value head in 16 bits, 2 D + 8 in 8 bits. An 8-bit cache is multiplied in fp16, which
holds both its types exactly: K's scale is applied to the scores, V's to the probabilities, less its largest in the block.
"""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl
from torch import Tensor

from workers.engines.maya1.kernels import LayerCache

BLOCK = 64  # tokens
LEAST_QUERIES = 16


@triton.jit
def _decode_attention(
    query, cache, scales, slots, positions, out, length, kv_heads, scaling,
    SHARE: tl.constexpr, QUERIES: tl.constexpr, WIDTH: tl.constexpr, QUANTISED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    column = tl.arange(0, WIDTH)
    index = tl.arange(0, QUERIES)[:, None]
    token = tl.arange(0, BLOCK)
    known = tl.load(positions + row) + 1
    slot = tl.load(slots + row)
    own_scales = (slot * kv_heads + head) * length  # times two: K's and V's side by side
    lines = (row * kv_heads + head) * SHARE + index
    q = tl.load(query + lines * WIDTH + column[None, :], index < SHARE, other=0.0)
    if QUANTISED:
        q = q.to(tl.float16)
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)
    mass = tl.zeros((QUERIES,), tl.float32)
    total = tl.zeros((QUERIES, WIDTH), tl.float32)
    for start in range(0, known, BLOCK):
        inside = start + token < known
        pair = ((slot * length + start + token) * kv_heads + head) * 2
        place = cache + pair[:, None] * WIDTH + column[None, :]
        scale = (own_scales + start + token) * 2
        k = tl.load(place, inside[:, None], other=0.0).to(q.dtype)
        v = tl.load(place + WIDTH, inside[:, None], other=0.0).to(q.dtype)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scaling
        if QUANTISED:
            scores *= tl.load(scales + scale, inside, other=0.0)[None, :]
        scores = tl.where(inside[None, :], scores, float("-inf"))
        above = tl.maximum(largest, tl.max(scores, 1))
        p = tl.exp2(scores - above[:, None])
        shrink = tl.exp2(largest - above)
        mass = mass * shrink + tl.sum(p, 1)
        largest = above
        if QUANTISED:
            v_scale = tl.load(scales + scale + 1, inside, other=0.0)
            most = tl.maximum(tl.max(v_scale, 0), 1e-30)  # so that a product with it stays within fp16
            p *= (v_scale / most)[None, :]
            total = total * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee") * most
        else:
            total = total * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
    total /= mass[:, None]
    tl.store(out + lines * WIDTH + column[None, :], total.to(out.dtype.element_ty), index < SHARE)


def decode_attention(query: Tensor, cache: LayerCache, slot: Tensor, position: Tensor, longest: int) -> Tensor:
    """See `Kernels.decode_attention`. D must be a power of two and at least 16."""
    _, length, kv_heads, _, width = cache.data.shape
    rows, heads, _ = query.shape
    out = query.new_empty(rows, heads * width)
    scaling = width**-0.5 * 1.4426950408889634  # log2(e), for exp2
    _decode_attention[(rows, kv_heads)](
        query.contiguous(), cache.data, cache.scale, slot, position, out, length, kv_heads, scaling,
        SHARE=heads // kv_heads, QUERIES=max(LEAST_QUERIES, triton.next_power_of_2(heads // kv_heads)), WIDTH=width,
        QUANTISED=cache.scale is not None, BLOCK=BLOCK, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out
