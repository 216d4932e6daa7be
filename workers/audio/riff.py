"""A WAV file written as a stream, of any length: RIFF up to 4 GiB, RF64 (EBU Tech 3306) above."""

import os
import struct
from contextlib import suppress
from pathlib import Path

UINT32_MAX = 2**32 - 1
_HEADER = struct.Struct("<4sI4s4sIQQQI4sIHHIIHH4sI")
HEADER_BYTES = (
    _HEADER.size
)  # 80: the 64-bit sizes have their place from the start, since nothing can be put in later
_SIZES_BYTES = 28


def header(data_bytes: int, sample_rate: int) -> bytes:
    """The first 80 bytes of a file with so much mono PCM16."""
    riff_bytes = HEADER_BYTES - 8 + data_bytes + data_bytes % 2
    sound = (b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16, b"data")
    if riff_bytes <= UINT32_MAX:
        sizes = (b"RIFF", riff_bytes, b"WAVE", b"JUNK", _SIZES_BYTES, 0, 0, 0, 0)
        return _HEADER.pack(*sizes, *sound, data_bytes)
    sizes = (b"RF64", UINT32_MAX, b"WAVE", b"ds64", _SIZES_BYTES, riff_bytes, data_bytes, data_bytes // 2, 0)
    return _HEADER.pack(*sizes, *sound, UINT32_MAX)


class Writer:
    """Writes one file; `finish` makes it whole."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._bytes = 0
        self._file = path.open("wb")
        self._file.write(header(0, sample_rate))

    def write(self, data: bytes) -> None:
        """Append PCM."""
        self._file.write(data)
        self._bytes += len(data)

    def finish(self) -> None:
        """Fill in the sizes and close."""
        try:
            self._file.seek(0, os.SEEK_SET)
            self._file.write(header(self._bytes, self._sample_rate))
        finally:
            self._file.close()

    def kill(self) -> None:
        """Close what is finished, or will be thrown away."""
        with suppress(OSError):
            self._file.close()
