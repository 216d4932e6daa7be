"""Encoded stretches of a programme ("reels") become one file, frame by frame, without being encoded again.

Reels meet in digital silence, at whole frames, so that no frame needs its neighbour: nothing of the sound depends on
where one encoder ended and the next began. What stands before the sound (tags, chapters, cover, decoder settings) is
taken from a file of the same kind that ffmpeg made of a moment of silence; only the tables that tell of length are new.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from workers.audio.splice import mp3, mp4, ogg
from workers.audio.splice.frames import BadReelError, Kept

__all__ = ["BadReelError", "Kept", "Kind", "of_format"]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one format is spliced."""

    muxer: tuple[str, ...]  # ffmpeg's arguments for the container of a reel
    guard: int  # frames of silence before a cut: what an encoder that began at the cut could not have heard
    lead_in: (
        int  # frames that an encoder hears before those that are kept, so that its rate control has settled
    )
    frame: Callable[[int], int]  # samples in a frame at a sample rate
    join: Callable[[BinaryIO, bytes, Iterable[Kept], int, int], None]


_KINDS: Mapping[str, Kind] = {
    "m4b": Kind(("-f", "adts"), 2, 64, lambda rate: mp4.FRAME, mp4.join),
    "mp3": Kind(
        ("-write_xing", "0", "-id3v2_version", "0", "-f", "mp3"), 4, 0, mp3.samples_per_frame, mp3.join
    ),
    "opus": Kind(("-f", "opus"), 3, 50, lambda rate: rate // 50, ogg.join),
}


def of_format(name: str) -> Kind | None:
    """How files of a format are spliced; None for those that one encoder makes faster than anything can read."""
    return _KINDS.get(name)
