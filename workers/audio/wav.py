"""How a take lies in the store: mono PCM16 in a plain RIFF file, and codec tokens as a NumPy file."""

import io
import struct

import numpy as np

HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
SLOTS = 7  # codec tokens a frame


class BadTakeError(ValueError):
    """Bytes that are no take of ours."""


def wrap(pcm: bytes, sample_rate: int) -> bytes:
    """PCM (mono, signed 16-bit little-endian) as a WAV file."""
    return header(len(pcm), sample_rate) + pcm


def header(data_bytes: int, sample_rate: int) -> bytes:
    """The 44 bytes before so many bytes of PCM; below 4 GiB."""
    return HEADER.pack(
        b"RIFF",
        36 + data_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate,
        2 * sample_rate,
        2,
        16,
        b"data",
        data_bytes,
    )


def unwrap(wav: bytes) -> bytes:
    """The PCM of a file that `wrap` made. Raises BadTakeError."""
    if len(wav) < HEADER.size:
        raise BadTakeError("shorter than a header")
    riff, _, wave, _, _, coding, channels, _, _, _, bits, data, size = HEADER.unpack_from(wav)
    if (riff, wave, data, coding, channels, bits) != (b"RIFF", b"WAVE", b"data", 1, 1, 16):
        raise BadTakeError("not mono PCM16")
    if len(wav) != HEADER.size + size:
        raise BadTakeError(f"{len(wav) - HEADER.size} bytes of sound where the header says {size}")
    return wav[HEADER.size :]


def npy(codes: bytes) -> bytes:
    """Codec tokens (int16 little-endian, row by row) as a NumPy file of shape [frames, 7]."""
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(codes, dtype="<i2").reshape(-1, SLOTS), allow_pickle=False)
    return buffer.getvalue()


def unnpy(file: bytes) -> bytes:
    """The codec tokens of a file that `npy` made. Raises BadTakeError."""
    try:
        codes = np.load(io.BytesIO(file), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadTakeError(f"no NumPy file: {error}") from error
    if codes.dtype != np.dtype("<i2") or codes.ndim != 2 or codes.shape[1] != SLOTS:
        raise BadTakeError(f"{codes.dtype} of shape {list(codes.shape)}, not int16 of [frames, {SLOTS}]")
    return bytes(codes.tobytes())
