"""The drawing of one code a row.

    penalised = seen ? (x < 0 ? x * penalty : x / penalty) : x;   scores = penalised / temperature
    out of the nucleus: the least likely whose probabilities add up to at most `tail`
    code = argmax(score + Gumbel noise of Philox(seed, index)), at temperature 0 argmax(penalised)

One program a row holds all 4,096 scores in registers (the end of speech, of slot 0 only, is one number beside them).
Instead of sorting, the nucleus' edge is found by halving the range of the scores' bit patterns, whose order is that of
the scores: 31 sums at most. Equal scores at the edge leave in the order of their codes, as in a stable sort.
Moves 12 KB a row in 16 bits: its logits and its `seen` bytes.
"""

# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl
from torch import Tensor

from workers.engines.maya1 import constants
from workers.engines.maya1.kernels import Rows

NEVER = tl.constexpr(float("-inf"))
UNDERFLOW = tl.constexpr(104.0)  # exp of less than minus this is 0 in fp32


@triton.jit
def _order(x):
    """Whole numbers in the order of the scores."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def uniform(bits):
    """Numbers in [0, 1) of 32 random bits each, as `triton.language.rand` makes them."""
    signed = bits.to(tl.int32, bitcast=True)
    return (signed ^ (signed >> 31)).to(tl.float32) * 4.6566127342e-10


@triton.jit
def _gumbel(bits):
    return -tl.log(-tl.log(uniform(bits)))


@triton.jit
def _nucleus(score, mass, end, end_mass, top, tail):
    """Which codes stay, and whether the end of speech does."""
    key = _order(score)
    end_key = _order(end)
    low = _order(top - UNDERFLOW).to(tl.int64)  # up to this score there is at most `tail`
    edge = _order(top).to(tl.int64)  # up to this one there is more, or it is the likeliest
    while edge - low > 1:
        middle = (low + edge) >> 1
        bound = middle.to(tl.int32)
        most = tl.sum(tl.where(key <= bound, mass, 0.0), 0) + tl.where(end_key <= bound, end_mass, 0.0)
        edge = tl.where(most <= tail, edge, middle)
        low = tl.where(most <= tail, middle, low)
    bound = edge.to(tl.int32)
    tied = key == bound
    rank = tl.cumsum(tied.to(tl.int32), 0)
    last = tl.max(rank, 0) + (end_key == bound).to(tl.int32)
    each = tl.maximum(tl.max(tl.where(tied, mass, 0.0), 0), tl.where(end_key == bound, end_mass, 0.0))
    less = tl.sum(tl.where(key < bound, mass, 0.0), 0) + tl.where(end_key < bound, end_mass, 0.0)
    dropped = (key < bound) | (tied & (rank < last) & (less + rank * each <= tail))
    return dropped == 0, end_key >= bound


@triton.jit(do_not_specialize=["frame_slot"])
def _sample(
    logits, end_logits, seen_map, slots, indices, seeds, temperatures, tails, penalties, codes, tokens, positions, done,
    frame_slot, CODES: tl.constexpr, FRAME: tl.constexpr, AUDIO_START: tl.constexpr, MIN_TOKENS: tl.constexpr,
    END: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    code = tl.arange(0, CODES)
    index = tl.load(indices + row)
    temperature = tl.load(temperatures + row)
    penalty = tl.load(penalties + row)
    seen = seen_map + (tl.load(slots + row) * FRAME + frame_slot) * CODES
    score = tl.load(logits + row * CODES + code).to(tl.float32)
    penalised = tl.where(score < 0, score * penalty, tl.div_rn(score, tl.zeros_like(score) + penalty))
    score = tl.where(tl.load(seen + code) != 0, penalised, score)
    end = NEVER
    if END:
        end = tl.where(index < MIN_TOKENS, NEVER, tl.load(end_logits + row).to(tl.float32))
    if temperature > 0:
        score = tl.div_rn(score, tl.zeros_like(score) + temperature)
        end = tl.div_rn(end, temperature)
        top = tl.maximum(tl.max(score, 0), end)
        mass = tl.exp(score - top)
        end_mass = tl.exp(end - top)
        tail = tl.load(tails + row) * (tl.sum(mass, 0) + end_mass)
        kept, end_kept = _nucleus(score, mass, end, end_mass, top, tail)
        seed = tl.load(seeds + row)
        zero = tl.zeros((CODES // 4,), tl.int32)
        a, b, c, d = tl.philox(seed, tl.arange(0, CODES // 4), zero + index.to(tl.int32), zero, zero)
        noise = _gumbel(tl.interleave(tl.interleave(a, c), tl.interleave(b, d)))
        score = tl.where(kept, score + noise, NEVER)
        if END:
            zero = tl.zeros((1,), tl.int32)
            a, b, c, d = tl.philox(seed, zero + CODES // 4, zero + index.to(tl.int32), zero, zero)
            end = tl.where(end_kept, end + tl.sum(_gumbel(a), 0), NEVER)
    choice = tl.argmax(score, 0)
    stopped = tl.load(done + row) | (end > tl.max(score, 0))
    going = stopped == 0
    tl.store(codes + row * FRAME + frame_slot, tl.where(stopped, -1, choice).to(tl.int16))
    tl.store(done + row, stopped)
    tl.store(seen + choice, 1, going)
    tl.store(tokens + row, choice.to(tl.int64) + AUDIO_START + frame_slot * CODES, going)
    tl.store(positions + row, tl.load(positions + row) + 1, going)
    tl.store(indices + row, index + 1, going)


def sample(logits: Tensor, end_logits: Tensor | None, slot: int, rows: Rows) -> None:
    """See `Kernels.sample`."""
    assert logits.is_contiguous() and rows.codes.is_contiguous()
    _sample[(len(logits),)](
        logits, end_logits, rows.seen, rows.slot, rows.index, rows.seed, rows.temperature, rows.tail, rows.penalty,
        rows.codes, rows.token, rows.position, rows.done, slot, CODES=constants.CODES, FRAME=constants.FRAME,
        AUDIO_START=constants.AUDIO_START, MIN_TOKENS=constants.MIN_FRAMES * constants.FRAME,
        END=end_logits is not None, num_warps=8,
    )  # fmt: skip
