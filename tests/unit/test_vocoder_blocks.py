"""Cutting takes into blocks and blocks into batches."""

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.maya1.vocoder import blocks

LENGTHS = st.lists(st.integers(0, 900), max_size=12)


@given(LENGTHS, st.integers(1, 300))
def test_what_is_kept_covers_every_take_once_with_its_context(lengths: list[int], block: int) -> None:
    kept: list[list[int]] = [[] for _ in lengths]
    for piece in blocks.cut(lengths, block):
        kept[piece.take] += range(piece.keep_from, piece.keep_to)
        assert piece.start == max(0, piece.keep_from - blocks.CONTEXT)
        assert piece.stop == min(lengths[piece.take], piece.keep_to + blocks.CONTEXT)
        assert piece.frames <= block + 2 * blocks.CONTEXT
    assert kept == [list(range(length)) for length in lengths]


@given(LENGTHS, st.integers(1, 2000))
def test_batches_hold_every_block_once_within_their_budget(lengths: list[int], budget: int) -> None:
    pieces = list(blocks.cut(lengths))
    batches = list(blocks.group(pieces, budget))
    assert sorted((p.take, p.start) for batch in batches for p in batch) == [(p.take, p.start) for p in pieces]
    for batch in batches:
        assert batch[0].frames == max(p.frames for p in batch)
        assert len(batch) == 1 or batch[0].frames * len(batch) <= budget
