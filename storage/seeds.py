"""Seeds that follow from others, so that whoever reckons them comes to the same."""

import hashlib


def of_attempt(seed: int, attempt: int) -> int:
    """The seed of an attempt: the segment's own at first, then others that follow from it. 0 .. 2**63 - 1."""
    return seed if attempt == 0 else _following(f"{seed}:{attempt}")


def another(seed: int, times: int) -> int:
    """The seed with which a person has a segment rendered again, for the so-manieth time."""
    return _following(f"{seed}:again:{times}")


def _following(cause: str) -> int:
    return int.from_bytes(hashlib.sha256(cause.encode()).digest()[:8], "big") >> 1
