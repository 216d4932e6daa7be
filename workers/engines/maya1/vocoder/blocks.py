"""Takes of any length cut into blocks, and blocks put into batches of bounded size, without changing a sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONTEXT = 3  # frames; the decoder sees 4,756 samples = 2.32 frames to each side
BLOCK = 250  # frames that one block keeps, 21 s: nearly every take is one block


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a take, in frames: `start` to `stop` is decoded, `keep_from` to `keep_to` is kept."""

    take: int
    start: int
    stop: int
    keep_from: int
    keep_to: int

    @property
    def frames(self) -> int:
        """Frames decoded."""
        return self.stop - self.start


def cut(lengths: Sequence[int], block: int = BLOCK) -> Iterator[Block]:
    """The blocks of takes of these lengths (frames): what is kept covers each take once."""
    for take, frames in enumerate(lengths):
        for begin in range(0, frames, block):
            end = min(begin + block, frames)
            yield Block(take, max(begin - CONTEXT, 0), min(end + CONTEXT, frames), begin, end)


def group(blocks: Sequence[Block], budget: int) -> Iterator[list[Block]]:
    """Batches of blocks of like length whose frames, padding included, stay within the budget; longest first."""
    batch: list[Block] = []
    for block in sorted(blocks, key=lambda block: -block.frames):
        if batch and batch[0].frames * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(block)
    if batch:
        yield batch
