"""What is kept of a sequence that was interrupted: its codes so far, and what they are the beginning of.

4 bytes   b"VMM1": Voicemill, Maya1, version 1 of this format
8 bytes   blake2b of the cause: the prompt's ids, the seed and the sampling
n bytes   the codes, int16 little-endian, 14 bytes a frame
4 bytes   crc32 of all that, little-endian
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

MAGIC = b"VMM1"
CAUSE = 8  # bytes
FRAME = 14  # bytes
CHECK = 4  # bytes


def cause(prompt: Sequence[int], seed: int, sampling: Mapping[str, Any]) -> bytes:
    """What two sequences must share for one to go on from the other's codes."""
    text = json.dumps([list(prompt), seed, dict(sampling)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=CAUSE).digest()


def pack(cause: bytes, codes: bytes) -> bytes:
    """The state of a `Partial`; nothing at all where there is no frame yet."""
    if not codes:
        return b""
    state = MAGIC + cause + codes
    return state + zlib.crc32(state).to_bytes(CHECK, "little")


def unpack(state: bytes, cause: bytes) -> bytes:
    """The codes of a packed state. Raises ValueError if it is damaged or the beginning of something else."""
    if not state:
        return b""
    body, check = state[:-CHECK], state[-CHECK:]
    if zlib.crc32(body).to_bytes(CHECK, "little") != check or not body.startswith(MAGIC):
        raise ValueError("it is damaged or of another version")
    codes = body[len(MAGIC) + CAUSE :]
    if body[len(MAGIC) : len(MAGIC) + CAUSE] != cause:
        raise ValueError("it belongs to another prompt, seed or sampling")
    if len(codes) % FRAME:
        raise ValueError("it ends inside a frame")
    return codes
