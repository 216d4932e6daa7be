"""Drawing codes in Triton: the same codes and the same state as in plain torch. Run by test_kernels_interpreted.py."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from workers.engines.maya1 import constants
from workers.engines.maya1.kernels import Rows, fast, plain

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time

ROWS = 10


def make_rows(seed: int) -> Rows:
    """Rows of every kind: greedy, done, before and after the end of speech is allowed, with and without top-p."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (ROWS,), generator=generator)

    return Rows(
        slot=torch.randperm(ROWS, generator=generator),
        position=numbers(0, 2000),
        token=numbers(0, 9),
        index=torch.tensor([27, 28, 0, 700, 28, 35, 42, 1400, 2044, 29]),
        done=torch.tensor([0, 0, 1, 0, 0, 0, 0, 0, 0, 1], dtype=torch.bool),
        seed=numbers(0, 2**62) * 2 + 1,
        temperature=torch.tensor([0.4, 1, 1, 0, 0.4, 0.7, 2, 0.4, 1e-3, 0]),
        tail=torch.tensor([0.1, 0, 0.3, 0.1, 0.1, 0.5, 0.05, 0.999, 0.1, 0.1]),
        penalty=torch.tensor([1.1, 1, 1.3, 1.1, 1.1, 2, 1.1, 1.1, 0.9, 1.1]),
        codes=torch.full((ROWS, constants.FRAME), 9, dtype=torch.int16),
        seen=(torch.rand(ROWS, 7, constants.CODES, generator=generator) < 0.3).to(torch.uint8),
    )


def same(logits: Tensor, end: Tensor | None, slot: int, seed: int) -> Rows:
    expected, got = make_rows(seed), make_rows(seed)
    plain.sample(logits, end, slot, expected)
    fast.sample(logits, end, slot, got)
    for field in fields(Rows):
        assert torch.equal(getattr(got, field.name), getattr(expected, field.name)), field.name
    return got


@pytest.mark.parametrize(
    ("dtype", "spread", "slot"), [(torch.float32, 1, 0), (torch.float16, 8, 0), (torch.float32, 8, 6)]
)
def test_the_same_codes_as_plain_torch(dtype: torch.dtype, spread: float, slot: int) -> None:
    torch.manual_seed(int(spread) + slot)
    logits = (torch.randn(ROWS, constants.CODES) * spread).to(dtype)
    end = (torch.randn(ROWS) * spread).to(dtype) if slot == 0 else None
    same(logits, end, slot, seed=slot)


def test_equal_logits_at_the_edge_of_the_nucleus_leave_in_the_order_of_their_codes() -> None:
    torch.manual_seed(1)
    coarse = (torch.randn(ROWS, constants.CODES) * 2).round()  # some ten different values
    same(coarse, coarse[:, 0].clone(), 0, seed=4)
    same(torch.zeros(ROWS, constants.CODES), torch.zeros(ROWS), 0, seed=5)


def test_the_end_of_speech_is_drawn_from_frame_four_on_and_stops_the_row() -> None:
    end = torch.full((ROWS,), 50.0)
    before = make_rows(6)
    rows = same(torch.randn(ROWS, constants.CODES), end, 0, seed=6)
    allowed = before.index >= 28
    assert torch.equal(rows.done, allowed | before.done)
    assert torch.equal(rows.codes[:, 0] < 0, allowed | before.done)
    assert torch.equal(rows.index, before.index + ~rows.done)
