"""AAC in MP4: a head with the size of every frame, then the frames (ISO 14496-12).

The head is that of a file which ffmpeg made of a moment of silence: brand, decoder settings, tags, cover, both kinds of
chapters. The tables of the sound's track are written anew, and every duration. Its size is known from the number of
frames, so the frames are written behind a gap that is filled last: one pass, and playing starts before the end is there.
"""

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from workers.audio.splice.frames import BadReelError, Kept

FRAME = 1024  # samples, of AAC
PRIMING = 1024  # samples that ffmpeg's encoder puts before the sound
IN_CHUNK = 32  # frames that lie together: under one offset
Bytes = bytes | memoryview
_ADTS_HEADER = 7  # bytes, without a checksum
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


@dataclass(slots=True)
class _Sound:
    """What the head is to tell of."""

    samples: int
    sample_rate: int
    frames: int  # how many there will be
    sizes: "array[int]" = field(default_factory=lambda: array("I"))
    begins: int = 0  # where the first frame lies in the file
    moved: int = 0  # how much further than in the model whatever its `mdat` holds now lies

    @property
    def media_samples(self) -> int:
        return self.samples + PRIMING


def join(out: BinaryIO, head: bytes, reels: Iterable[Kept], samples: int, sample_rate: int) -> None:
    """Write a file of `samples` samples. Raises BadReelError."""
    sound = _Sound(samples, sample_rate, -(-samples // FRAME) + 1)
    boxes = {kind: (start, end) for kind, start, end in _boxes(head, 0, len(head))}
    kept = head[slice(*boxes[b"mdat"])]  # the chapters' titles are in it
    gap = sum(map(len, _opening(head, boxes, sound))) + 16
    sound.begins = gap + len(kept)
    sound.moved = gap - boxes[b"mdat"][0]
    out.write(bytes(gap) + kept)
    for reel in reels:
        frames = reel.of(_adts(reel.data))
        sound.sizes.extend(map(len, frames))
        out.write(b"".join(frames))
    if len(sound.sizes) != sound.frames:
        raise BadReelError(f"{len(sound.sizes)} frames for {samples} samples")
    size = out.tell() - (gap - 16)
    out.seek(0)
    out.writelines(_opening(head, boxes, sound))
    out.write(struct.pack(">I4sQ", 1, b"mdat", size))


def _adts(data: bytes) -> list[bytes]:
    """The frames of a stream, each without the header that MP4 has no use for."""
    found = []
    at = 0
    while at < len(data):
        if data[at] != 0xFF or data[at + 1] & 0xF7 != 0xF1:  # no checksum, layer 0
            raise BadReelError(f"no AAC frame at byte {at}")
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        found.append(data[at + _ADTS_HEADER : at + size])
        at += size
    return found


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of a stretch of a file: kind, and where what is in it begins and ends."""
    while at < end:
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            raise BadReelError(f"a box of {size} bytes")
        yield kind, at + 8, at + size
        at += size


def _box(kind: bytes, content: "list[Bytes]") -> "list[Bytes]":
    """A box in pieces: the table of sizes has 9 MB for 30 hours, and is not to be copied for every box around it."""
    return [struct.pack(">I4s", 8 + sum(map(len, content)), kind), *content]


def _opening(head: bytes, boxes: dict[bytes, tuple[int, int]], sound: _Sound) -> "list[Bytes]":
    """Everything before `mdat`: always as long for the same number of frames."""
    ticks = _timescale(head, *boxes[b"moov"])

    def written(start: int, end: int, is_sound: bool) -> list[Bytes]:
        """What lies between, with all that tells of length told anew."""
        parts: list[Bytes] = []
        for kind, begin, stop in _boxes(head, start, end):
            content = head[begin:stop]
            told: list[Bytes] = [content]
            if kind in _CONTAINERS:
                told = written(begin, stop, _is_sound(content) if kind == b"trak" else is_sound)
            elif kind == b"mvhd":
                told = [_long(content, 4, _scaled(sound.samples, sound.sample_rate, ticks))]
            elif is_sound and kind == b"stsz":
                told = _sizes(sound)
            elif is_sound and kind in _TOLD:
                told = [_TOLD[kind](content, sound, ticks)]
            elif kind == b"stco":
                told = [_moved(content, sound.moved)]
            parts += _box(_RENAMED.get(kind, kind), told)
        return parts

    return _box(b"ftyp", [head[slice(*boxes[b"ftyp"])]]) + _box(b"moov", written(*boxes[b"moov"], False))


def _is_sound(trak: bytes) -> bool:
    return b"hdlr" in trak and trak[trak.index(b"hdlr") + 12 :].startswith(b"soun")


def _timescale(head: bytes, start: int, end: int) -> int:
    """Ticks a second of the movie's own clock."""
    begin = next(begin for kind, begin, _ in _boxes(head, start, end) if kind == b"mvhd")
    begin += 4 + 2 * _time_bytes(head[begin:])
    return int.from_bytes(head[begin : begin + 4], "big")


def _scaled(samples: int, sample_rate: int, ticks: int) -> int:
    return -(-samples * ticks // sample_rate)


def _time_bytes(content: bytes) -> int:
    """How many bytes each time in a header box has: 8 in version 1, which long files have."""
    return 8 if content[0] == 1 else 4


def _long(content: bytes, between: int, duration: int) -> bytes:
    """A header box in version 1, without dates; `between` bytes lie between these and the duration."""
    width = _time_bytes(content)
    middle = 4 + 2 * width
    rest = middle + between + width
    told = content[middle : middle + between] + duration.to_bytes(8, "big") + content[rest:]
    return b"\x01" + content[1:4] + bytes(16) + told


def _track_header(content: bytes, sound: _Sound, ticks: int) -> bytes:
    return _long(content, 8, _scaled(sound.samples, sound.sample_rate, ticks))


def _media_header(content: bytes, sound: _Sound, ticks: int) -> bytes:
    return _long(content, 4, sound.media_samples)


def _edits(content: bytes, sound: _Sound, ticks: int) -> bytes:
    """One edit: the sound begins after the priming."""
    duration = _scaled(sound.samples, sound.sample_rate, ticks)
    return struct.pack(">IIQqI", 1 << 24, 1, duration, PRIMING, 1 << 16)


def _durations(content: bytes, sound: _Sound, ticks: int) -> bytes:
    last = sound.media_samples - (sound.frames - 1) * FRAME
    return struct.pack(">IIIIII", 0, 2, sound.frames - 1, FRAME, 1, last)


def _chunks(content: bytes, sound: _Sound, ticks: int) -> bytes:
    whole, rest = divmod(sound.frames, IN_CHUNK)
    runs = [(1, IN_CHUNK)] * bool(whole) + [(whole + 1, rest)] * bool(rest)
    return struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">III", *run, 1) for run in runs)


def _sizes(sound: _Sound) -> "list[Bytes]":
    told = _big_endian(sound.sizes) if sound.sizes else bytes(4 * sound.frames)
    return [struct.pack(">III", 0, 0, sound.frames), told]


def _offsets(content: bytes, sound: _Sound, ticks: int) -> bytes:
    count = -(-sound.frames // IN_CHUNK)
    offsets = array("Q")
    at = sound.begins
    for start in range(0, count * IN_CHUNK, IN_CHUNK):
        offsets.append(at)
        at += sum(sound.sizes[start : start + IN_CHUNK])
    return struct.pack(">II", 0, count) + bytes(_big_endian(offsets))


def _groups(content: bytes, sound: _Sound, ticks: int) -> bytes:
    """All frames in the one group that says how many to decode before a jump."""
    return content[:12] + sound.frames.to_bytes(4, "big") + content[16:]


def _description(content: bytes, sound: _Sound, ticks: int) -> bytes:
    """The decoder's settings as they are, but for the bit rates, which are measured from the frames."""
    seconds = sound.media_samples / sound.sample_rate
    average = round(8 * sum(sound.sizes) / seconds)
    largest = max(sound.sizes, default=0)
    told = bytearray(content)
    for mark, at in ((b"\x40\x15", 2), (b"btrt", 4)):  # AAC's sound stream in `esds`, and its repetition
        found = told.find(mark)
        if found < 0:
            continue
        begin = found + at
        width = 3 if mark == b"\x40\x15" else 4
        rates = largest.to_bytes(width, "big") + 2 * average.to_bytes(4, "big")
        told[begin : begin + len(rates)] = rates
    return bytes(told)


def _moved(content: bytes, by: int) -> bytes:
    count = int.from_bytes(content[4:8], "big")
    offsets = struct.unpack_from(f">{count}I", content, 8)
    return content[:8] + b"".join((offset + by).to_bytes(8, "big") for offset in offsets)


def _big_endian(numbers: "array[int]") -> memoryview:
    swapped = numbers[:]
    if sys.byteorder == "little":
        swapped.byteswap()
    return memoryview(swapped).cast("B")


_TOLD: dict[bytes, Callable[[bytes, _Sound, int], bytes]] = {
    b"tkhd": _track_header,
    b"mdhd": _media_header,
    b"elst": _edits,
    b"stsd": _description,
    b"stts": _durations,
    b"stsc": _chunks,
    b"stco": _offsets,
    b"sbgp": _groups,
}
_RENAMED = {b"stco": b"co64"}  # offsets of 64 bits from the start: how large the file will be is not known yet
