"""Opus in Ogg: packets of 20 ms in pages of half a second (RFC 3533, RFC 7845)."""

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from workers.audio.splice.frames import BadReelError, Kept

CLOCK = 48000  # Hz: what positions count, whatever the sound's own rate
PACKET = CLOCK // 50  # positions in a packet
PACKETS = 25  # in a page
_CONTINUED, _FIRST, _LAST = 1, 2, 4  # flags of a page
_HEADER = 27  # bytes before a page's table of lacing values
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def join(out: BinaryIO, head: bytes, reels: Iterable[Kept], samples: int, sample_rate: int) -> None:
    """Write a file of `samples` samples. Raises BadReelError."""
    opening = list(_pages(head))
    serial = head[14:18]
    pages, ends = 0, 0
    for start, end, _ in opening:  # the pages of both headers, as they are
        if ends == 2:
            break
        out.write(head[start:end])
        pages += 1
        ends += sum(1 for value in head[start + _HEADER : start + _HEADER + head[start + 26]] if value < 255)
    skip = int.from_bytes(head[opening[0][2] + 10 : opening[0][2] + 12], "little")  # OpusHead's pre-skip
    end = skip + -(-samples * CLOCK // sample_rate)
    waiting: list[bytes] = []
    written = 0
    for reel in reels:
        waiting += reel.of(_packets(reel.data)[2:])
        while len(waiting) > PACKETS:  # the last page is not known to be the last before all is read
            written += PACKETS
            out.write(_page(waiting[:PACKETS], written * PACKET, pages, 0, serial))
            del waiting[:PACKETS]
            pages += 1
    written += len(waiting)
    if not (written - PACKETS) * PACKET < end <= written * PACKET:
        raise BadReelError(f"{written} packets for {samples} samples")
    out.write(_page(waiting, end, pages, _LAST, serial))


def _pages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each page begins and ends, and where what is in it begins."""
    at = 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            raise BadReelError(f"no Ogg page at byte {at}")
        body = at + _HEADER + data[at + 26]
        end = body + sum(data[at + _HEADER : body])
        yield at, end, body
        at = end


def _packets(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    begun: list[bytes] = []
    for start, _, body in _pages(data):
        for value in data[start + _HEADER : body]:
            begun.append(data[body : body + value])
            body += value
            if value < 255:
                found.append(b"".join(begun))
                begun = []
    return found


def _page(packets: list[bytes], position: int, number: int, flags: int, serial: bytes) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    if len(lacing) > 255:
        raise BadReelError(f"{len(packets)} packets do not fit a page")
    start = b"OggS\0" + bytes([flags]) + position.to_bytes(8, "little") + serial + number.to_bytes(4, "little")
    rest = bytes([len(lacing)]) + lacing + b"".join(packets)
    return start + _crc(start + bytes(4) + rest).to_bytes(4, "little") + rest


def _crc(data: bytes) -> int:
    """Ogg's checksum: zlib's polynomial with the bits the other way round, and nothing inverted."""
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
