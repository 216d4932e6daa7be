"""One take, made ready to be joined: no silence around it, and edges that do not click."""

import warnings

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for an ffmpeg on the PATH, which nothing here needs, and warns
    from pydub import AudioSegment

EDIT_VERSION = 1  # part of every take key: goes up when the same sound comes out otherwise

QUIET = 104  # of 32,767: -50 dBFS. What stays below is silence, or the noise of a codec that renders one
MARGIN_MS = 40  # of what is quiet stays on either side: breath, the onset of an f, the end of an s
FADE_MS = 5
SHORTEST_FADED_MS = 4 * FADE_MS


def tidy(pcm: bytes, sample_rate: int) -> bytes:
    """Mono PCM16 without the silence around it, faded in and out over 5 ms. What holds no sound comes back as it is."""
    edges = _edges(pcm, sample_rate)
    if edges is None:
        return pcm
    segment = _segment(pcm, sample_rate)[edges[0] : edges[1]]
    if len(segment) >= SHORTEST_FADED_MS:
        segment = segment.fade_in(FADE_MS).fade_out(FADE_MS)
    return bytes(segment.raw_data)


def silence(ms: int, sample_rate: int) -> bytes:
    """So many milliseconds of nothing, mono PCM16: `ms * sample_rate // 1000` samples, to the sample.

    pydub's own silence reckons in floating point and is a sample short for one length in fifteen, which adds up in a book.
    """
    return bytes(2 * (ms * sample_rate // 1000))


def _segment(pcm: bytes, sample_rate: int) -> AudioSegment:
    return AudioSegment(data=pcm, sample_width=2, frame_rate=sample_rate, channels=1)


def _edges(pcm: bytes, sample_rate: int) -> tuple[int, int] | None:
    """Where the sound begins and ends, margins included, in milliseconds; None where there is none.

    pydub's own search measures slice after slice in Python; one pass of NumPy finds the same a hundred times faster.
    """
    samples = np.frombuffer(pcm, dtype="<i2")
    loud = (samples > QUIET) | (samples < -QUIET)
    if not loud.any():
        return None
    start, end = int(loud.argmax()), len(loud) - int(loud[::-1].argmax())
    first, last = start * 1000 // sample_rate, -(-end * 1000 // sample_rate)
    return max(0, first - MARGIN_MS), min(last + MARGIN_MS, len(samples) * 1000 // sample_rate)
