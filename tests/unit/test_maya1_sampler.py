"""The sampler against transformers' own processors, and its random numbers against their published definition."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from workers.engines.maya1 import cache, constants, decode, sampler
from workers.engines.maya1.architecture import Architecture
from workers.engines.maya1.kernels import plain

torch.set_num_threads(1)

COLUMNS = constants.CODES + 1
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
SHAPE = Architecture(1, 8, 1, 1, 8, 8, 8, 8, 1e-5, True, ROPE)


def full(value: float, rows: int) -> torch.Tensor:
    return torch.full((rows,), value)


@pytest.mark.parametrize("penalty", [1.0, 1.1, 1.4])
@pytest.mark.parametrize("temperature", [0.3, 0.4, 1.0])
@pytest.mark.parametrize("top_p", [0.5, 0.9, 0.95])
def test_probabilities_equal_those_of_transformers(penalty: float, temperature: float, top_p: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(4, COLUMNS, generator=generator)
    history = torch.randint(0, COLUMNS, (4, 300), generator=generator)
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            TemperatureLogitsWarper(temperature),
            TopPLogitsWarper(top_p),
        ]
    )
    theirs = processors(history, logits.clone()).softmax(-1)
    seen = torch.zeros(4, COLUMNS, dtype=torch.bool).scatter_(1, history, True)
    warped = sampler.warp(logits, seen, full(penalty, 4), full(temperature, 4), full(1 - top_p, 4))
    torch.testing.assert_close(warped.softmax(-1), theirs, atol=1e-6, rtol=0)
    assert ((warped == -torch.inf) == (theirs == 0)).all()


def test_ids_outside_the_slot_do_not_matter() -> None:
    """Cutting to a slot's columns first gives what masking the whole vocabulary gives, penalty included."""
    generator = torch.Generator().manual_seed(5)
    whole = 3 * torch.randn(1, 1000, generator=generator)
    history = torch.randint(0, 1000, (1, 400), generator=generator)
    band = slice(300, 556)
    masked = RepetitionPenaltyLogitsProcessor(1.1)(history, whole.clone())
    masked[:, : band.start] = masked[:, band.stop :] = -torch.inf
    theirs = TopPLogitsWarper(0.9)(history, masked / 0.4).softmax(-1)[:, band]
    seen = torch.zeros(1, 1000, dtype=torch.bool).scatter_(1, history, True)[:, band]
    mine = sampler.warp(whole[:, band], seen, full(1.1, 1), full(0.4, 1), full(1 - 0.9, 1)).softmax(-1)
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_philox_is_the_published_one() -> None:
    """Known answers of Random123 for Philox4x32-10, cut to counters that end in two zeros."""
    zero = torch.zeros(1, dtype=torch.int64)
    assert [int(x) for x in sampler.philox(zero, zero, zero)] == [
        0x6627E8D5,
        0xE169C58D,
        0xBC57AC4C,
        0x9B00DBD8,
    ]


def test_random_numbers_depend_on_seed_and_index_alone() -> None:
    seeds = torch.tensor([1, 2**62 + 5, 1, 9])
    index = torch.tensor([0, 7, 1, 123])
    together = sampler.uniform(seeds, index, COLUMNS)
    for row in range(4):
        alone = sampler.uniform(seeds[row : row + 1], index[row : row + 1], COLUMNS)
        assert torch.equal(alone[0], together[row])
    assert not torch.equal(together[0], together[2])
    assert together.min() >= 0 and together.max() < 1
    assert abs(float(together.mean()) - 0.5) < 0.01


def test_draws_follow_the_distribution() -> None:
    """Chi-square over 20,000 draws from 12 columns, seeds in a row: the 99.9 % point of 11 degrees is 31.3."""
    draws = 20_000
    logits = torch.linspace(-1, 2, 12).repeat(draws, 1)
    none = torch.zeros(draws, 12, dtype=torch.bool)
    chosen = sampler.choose(
        logits,
        none,
        full(1, draws),
        full(0.7, draws),
        full(0, draws),
        torch.arange(draws),
        torch.arange(draws) % 700,
    )
    expected = (logits[0] / 0.7).softmax(-1) * draws
    observed = torch.bincount(chosen, minlength=12)
    assert float(((observed - expected) ** 2 / expected).sum()) < 31.3


def test_draws_stay_in_the_nucleus_and_greedy_takes_the_best() -> None:
    rows = 500
    logits = torch.tensor([3.0, 2.9, 0.0, -1.0]).repeat(rows, 1)
    none = torch.zeros(rows, 4, dtype=torch.bool)
    seeds, index = torch.arange(rows), torch.zeros(rows, dtype=torch.int64)
    chosen = sampler.choose(logits, none, full(1, rows), full(1, rows), full(0.4, rows), seeds, index)
    assert set(chosen.tolist()) == {0, 1}
    temperature = torch.arange(rows) % 2  # every other row is greedy
    mixed = sampler.choose(logits, none, full(1, rows), temperature.float(), full(0.4, rows), seeds, index)
    assert (mixed[temperature == 0] == 0).all()
    assert torch.equal(mixed[temperature == 1], chosen[temperature == 1])


def test_a_sampled_token_moves_its_row_on_and_an_end_stops_it() -> None:
    rows = decode.empty_rows(cache.Cache(SHAPE, 3, 8, torch.float32, torch.device("cpu")))
    rows.slot.copy_(torch.tensor([2, 0, 1]))
    rows.index.copy_(torch.tensor([28, 28, 27]))  # the third is too young to end
    rows.done.fill_(False)
    logits = torch.zeros(3, constants.CODES)
    logits[0, 5] = logits[1, 6] = logits[2, 7] = 1.0
    plain.sample(logits, torch.tensor([0.0, 9.0, 9.0]), 0, rows)
    assert rows.codes[:, 0].tolist() == [5, -1, 7]
    assert rows.done.tolist() == [False, True, False]
    assert rows.position.tolist() == [1, 0, 1]
    assert rows.index.tolist() == [29, 28, 28]
    assert rows.token.tolist() == [128_271, 0, 128_273]
    assert rows.seen.nonzero().tolist() == [[1, 0, 7], [2, 0, 5]]
    plain.sample(logits, None, 6, rows)
    assert rows.codes[:, 6].tolist() == [5, -1, 7]
    assert rows.token.tolist() == [128_266 + 6 * 4096 + 5, 0, 128_266 + 6 * 4096 + 7]
