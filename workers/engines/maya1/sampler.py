"""How a token is drawn: Hugging Face's processors in their order, then a draw that (seed, index) alone decide.

Order: repetition penalty, temperature, top-p. Restricting the columns to one slot's 4,096 codes (and the end
of speech) before all that is the same as masking the others with -inf: an id of another slot cannot be drawn,
so its penalty cannot matter, and the end of speech ends a sequence before it can be penalised.

The draw is Gumbel's: the largest of logit + noise. It needs no running sum, so rounding in the last bit of one
logit changes the drawn token only where two sums were that close already.
"""

import torch
from torch import Tensor

MASK = 0xFFFF_FFFF
ROUND_A, ROUND_B = 0xD2511F53, 0xCD9E8D57
KEY_A, KEY_B = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
UNIT = 4.6566127342e-10  # just under 2**-31, so that the largest integer stays below 1 in float32


def philox(seed: Tensor, c0: Tensor, c1: Tensor) -> list[Tensor]:
    """Philox4x32-10 of counter (c0, c1, 0, 0) under a 64-bit key: four int64 tensors of 32-bit values.

    The same numbers as `triton.language.philox(seed, c0, c1, 0, 0)`. int64 products wrap: no bit is lost.
    """
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    x0, x1, x2, x3 = c0, c1, torch.zeros_like(c0), torch.zeros_like(c1)
    for _ in range(ROUNDS):
        low, high = ROUND_A * x0, ROUND_B * x2
        x0, x2 = ((high >> 32) & MASK) ^ x1 ^ k0, ((low >> 32) & MASK) ^ x3 ^ k1
        x1, x3 = high & MASK, low & MASK
        k0, k1 = (k0 + KEY_A) & MASK, (k1 + KEY_B) & MASK
    return [x0, x1, x2, x3]


def uniform(seed: Tensor, index: Tensor, columns: int) -> Tensor:
    """float32 [n, columns] in [0, 1): column i of row r is lane i % 4 of the counter (i // 4, index[r])."""
    counter = torch.arange(-(-columns // 4), device=seed.device)[None, :]
    lanes = torch.stack(philox(seed[:, None], counter, index[:, None]), dim=-1).flatten(1)[:, :columns]
    signed = torch.where(
        lanes > MASK >> 1, MASK - lanes, lanes
    )  # as triton.language.rand: -x - 1 of a negative x
    return signed.float() * UNIT


def gumbel(seed: Tensor, index: Tensor, columns: int) -> Tensor:
    """float32 [n, columns] of standard Gumbel noise, -inf where the uniform number is 0."""
    return -torch.log(-torch.log(uniform(seed, index, columns)))


def penalise(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """HF's repetition penalty: where `seen`, positive logits are divided, negative multiplied. [n, columns]."""
    factor = penalty[:, None]
    return torch.where(seen, torch.where(logits < 0, logits * factor, logits / factor), logits)


def nucleus(logits: Tensor, tail: Tensor) -> Tensor:
    """HF's top-p: -inf for the least likely columns that add up to at most `tail` [n] of probability."""
    ordered, columns = torch.sort(logits, dim=-1, stable=True)
    dropped = ordered.softmax(-1).cumsum(-1) <= tail[:, None]
    dropped[:, -1] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(1, columns, dropped), -torch.inf)


def warp(logits: Tensor, seen: Tensor, penalty: Tensor, temperature: Tensor, tail: Tensor) -> Tensor:
    """The logits that a token is drawn from, float32 [n, columns]; their softmax is the distribution."""
    scores = penalise(logits.float(), seen, penalty)
    return nucleus(scores / torch.where(temperature > 0, temperature, 1.0)[:, None], tail)


def choose(
    logits: Tensor,
    seen: Tensor,
    penalty: Tensor,
    temperature: Tensor,
    tail: Tensor,
    seed: Tensor,
    index: Tensor,
) -> Tensor:
    """One column a row, int64 [n]. logits, seen (bool): [n, columns]; the rest: [n]. Temperature 0: greedy."""
    penalised = penalise(logits.float(), seen, penalty)
    if not bool((temperature > 0).any()):  # the same answer without the work
        return penalised.argmax(-1)
    scores = warp(logits, seen, penalty, temperature, tail)
    noise = gumbel(seed, index, scores.shape[-1])
    return torch.where((temperature > 0)[:, None], scores + noise, penalised).argmax(-1)
