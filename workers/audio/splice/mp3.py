"""MPEG audio layer III: frames one after another, behind an ID3 tag and a frame that tells the length (Xing, LAME).

An encoder begins with an empty bit reservoir, so the first frame of a reel needs no bytes of the frame before it. Frame
headers as in ISO 11172-3 and 13818-3; the length frame as the Xing and LAME encoders have made it customary.
"""

from collections.abc import Iterable
from typing import BinaryIO

from workers.audio.splice.frames import BadReelError, Kept

ENCODER_DELAY = (
    576  # samples that LAME puts before the sound, as its tag counts them; a decoder adds 529 of its own
)

_KILOBITS = {  # by whether it is MPEG 1, then by the header's four bits
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)  # Hz, of MPEG 1
_DIVISORS = {3: 1, 2: 2, 0: 4}  # of the rates, by version: MPEG 1, 2 and 2.5
_ID3_HEADER = 10
_TOC = 100  # entries of the seek table
_LAME_TAG = 9 + 1 + 1 + 8 + 1 + 1  # bytes from the encoder's name to the delays
_CRC_END = 190  # bytes of the frame that the tag's checksum covers


def samples_per_frame(sample_rate: int) -> int:
    """1152 in MPEG 1, half of it in the low rates of MPEG 2 and 2.5."""
    return 1152 if sample_rate >= 32000 else 576


def join(out: BinaryIO, head: bytes, reels: Iterable[Kept], samples: int, sample_rate: int) -> None:
    """Write a file of `samples` samples. Raises BadReelError."""
    tag, info = _head(head)
    out.write(tag + info)
    count, size = 0, len(info)
    for reel in reels:
        kept = reel.of(_frames(reel.data))
        count += len(kept)
        size += out.write(b"".join(kept))
    out.seek(len(tag))
    out.write(_told(info, count, size, count * samples_per_frame(sample_rate) - ENCODER_DELAY - samples))


def _frames(data: bytes) -> list[bytes]:
    found = []
    at = 0
    while at < len(data):
        size = _size(data, at)
        found.append(data[at : at + size])
        at += size
    return found


def _size(data: bytes, at: int) -> int:
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:  # layer III after 11 set bits
        raise BadReelError(f"no MP3 frame at byte {at}")
    version = data[at + 1] >> 3 & 3
    bits, rate, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version not in _DIVISORS or not 0 < bits < 15 or rate == 3:
        raise BadReelError(f"no MP3 frame at byte {at}")
    is_first = version == 3
    hertz = _RATES[rate] // _DIVISORS[version]
    return (144 if is_first else 72) * 1000 * _KILOBITS[is_first][bits] // hertz + padding


def _head(head: bytes) -> tuple[bytes, bytes]:
    """A file's ID3 tag and its length frame."""
    tag = 0
    if head.startswith(b"ID3"):
        size = 0
        for byte in head[6:_ID3_HEADER]:
            size = size << 7 | byte
        tag = _ID3_HEADER + size
    return head[:tag], head[tag : tag + _size(head, tag)]


def _told(info: bytes, count: int, size: int, padding: int) -> bytes:
    """The length frame of a file with so many frames and bytes, so many samples of which at the end are not sound."""
    at = next((found for name in (b"Info", b"Xing") if (found := info.find(name)) > 0), -1)
    if at < 0 or not 0 <= padding < 1 << 12:
        raise BadReelError(f"a length that cannot be told: padding of {padding} samples")
    told = bytearray(info)
    told[at + 8 : at + 16] = count.to_bytes(4, "big") + size.to_bytes(4, "big")
    table = at + 16
    sound = size - len(info)
    told[table : table + _TOC] = bytes(
        256 * (len(info) + sound * percent // 100) // size for percent in range(_TOC)
    )
    delays = table + _TOC + 4 + _LAME_TAG
    told[delays : delays + 3] = (ENCODER_DELAY << 12 | padding).to_bytes(3, "big")
    told[delays + 7 : delays + 13] = size.to_bytes(4, "big") + b"\0\0"  # no checksum of the sound
    told[_CRC_END : _CRC_END + 2] = _crc(bytes(told[:_CRC_END])).to_bytes(2, "big")
    return bytes(told)


def _crc(data: bytes) -> int:
    """CRC-16 with the polynomial 0x8005, bits reversed."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
