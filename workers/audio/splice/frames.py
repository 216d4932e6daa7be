"""What a splice is made of: an encoded reel and which of its frames are kept."""

from dataclasses import dataclass


class BadReelError(ValueError):
    """An encoded reel is not what its recipe promised."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An encoded reel; `count` of its frames are kept after the first `skip` ones, all that follow where it is None."""

    data: bytes
    skip: int
    count: int | None

    def of(self, frames: list[bytes]) -> list[bytes]:
        """The frames that are kept. Raises BadReelError where there are too few."""
        end = None if self.count is None else self.skip + self.count
        kept = frames[self.skip : end]
        if not kept or (self.count is not None and len(kept) != self.count):
            raise BadReelError(f"{len(frames)} frames where {self.skip} + {self.count} were expected")
        return kept
