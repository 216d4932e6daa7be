"""The guards that end a sequence, and the form in which one is kept when it is interrupted."""

import random
import struct
import zlib

import numpy as np
import pytest

from workers.engines.engine import Request
from workers.engines.maya1 import constants, decode, partials, sequence
from workers.engines.maya1.sequence import End, Sequence


def made(budget: int = 1000) -> Sequence:
    return Sequence(Request("k", "Hello.", "A voice.", 1), (1, 2, 3), (1,), budget, 0.4, 0.9, 1.1)


def frame(value: int) -> bytes:
    return struct.pack("<7h", *[value] * 7)


@pytest.mark.parametrize("period", [1, 2, 3, 4])
def test_a_cycle_of_one_to_four_frames_ends_at_its_eighth_round(period: int) -> None:
    one = made()
    for value in (500, 501, 502):
        one.add(frame(value))
    for turn in range(8):
        for value in range(period):
            assert one.end is None
            one.add(frame(value))
        assert one.end is (End.LOOP if turn == 7 else None)


def test_a_cycle_of_five_frames_or_a_broken_one_goes_on() -> None:
    long, broken = made(), made()
    for turn in range(60):
        long.add(frame(turn % 5))
        broken.add(frame(9 if turn % 7 == 0 else 0))
    assert long.end is None and broken.end is None


def test_the_budget_ends_a_sequence() -> None:
    one = made(budget=3)
    for value in range(3):
        assert one.end is None
        one.add(frame(value))
    assert one.end is End.BUDGET


def test_budgets_follow_the_text_within_the_limits() -> None:
    assert sequence.budget("a" * 100, 2048, 2000) == -(-910 // 7)
    assert sequence.budget("Ha <laugh> " + "a" * 89, 2048, 2000) == -(-1310 // 7)
    assert sequence.budget("a" * 300, 2048, 1500) == 1500 // 7
    with pytest.raises(ValueError, match="700 characters need about 3150 tokens, and there is room for 2044"):
        sequence.budget("a" * 700, 2048, 5000)
    with pytest.raises(ValueError, match="room for 0"):
        sequence.budget("a", 2048, -20)


def test_a_partial_is_read_back_and_anything_else_refused() -> None:
    cause = partials.cause((1, 2, 3), 7, {"temperature": 0.4})
    codes = random.Random(1).randbytes(14 * 20)
    state = partials.pack(cause, codes)
    assert len(state) == 4 + 8 + len(codes) + 4
    assert partials.unpack(state, cause) == codes
    assert partials.pack(cause, b"") == b"" and partials.unpack(b"", cause) == b""
    for position in range(len(state)):
        damaged = bytearray(state)
        damaged[position] ^= 1
        with pytest.raises(ValueError, match="damaged"):
            partials.unpack(bytes(damaged), cause)
    with pytest.raises(ValueError, match="damaged"):
        partials.unpack(state[:-14], cause)
    with pytest.raises(ValueError, match="another prompt"):
        partials.unpack(state, partials.cause((1, 2, 3), 8, {"temperature": 0.4}))
    cut = state[:-5]
    with pytest.raises(ValueError, match="inside a frame"):
        partials.unpack(cut + zlib.crc32(cut).to_bytes(4, "little"), cause)


def test_what_a_partial_belongs_to() -> None:
    one, other = made(), made()
    assert one.cause == other.cause
    other.temperature = 0.5
    assert one.cause != other.cause


def test_ids_unpack_as_the_published_code_does() -> None:
    """The authors' unpacking of a generation's ids, written down once more, gives the codes of each of SNAC's levels."""
    one = made()
    numbers = random.Random(2)
    for _ in range(9):
        one.add(struct.pack("<7h", *(numbers.randrange(4096) for _ in range(7))))
    ids = decode.known(one)[3:]
    levels: list[list[int]] = [[], [], []]
    for start in range(0, len(ids), 7):
        frame_ids = [(token - 128_266) % 4096 for token in ids[start : start + 7]]
        levels[0].append(frame_ids[0])
        levels[1].extend([frame_ids[1], frame_ids[4]])
        levels[2].extend([frame_ids[2], frame_ids[3], frame_ids[5], frame_ids[6]])
    codes = np.frombuffer(one.codes, "<i2").reshape(-1, 7)
    assert [codes[:, slots].ravel().tolist() for slots in constants.SNAC_LEVELS] == levels
    assert decode.last(one) == ids[-1]
    assert decode.last(made()) == 3
