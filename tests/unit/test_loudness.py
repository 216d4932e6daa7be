"""Loudness measured and changed: what BS.1770 says of known sounds, and that nothing moves that need not."""

import numpy as np
import pytest

from workers.audio import loudness
from workers.audio.loudness import Level

RATE = 24000


def sine(seconds: float, level: float, hertz: float = 997.0, rate: int = RATE) -> bytes:
    """A sine of so many dBFS at its peak."""
    at = np.arange(int(seconds * rate)) / rate
    return np.rint(np.sin(2 * np.pi * hertz * at) * 32767 * 10 ** (level / 20)).astype("<i2").tobytes()


def speech(seconds: float, seed: int = 1) -> np.ndarray:
    """Something as uneven as speech, at about a third of full scale."""
    random = np.random.default_rng(seed)
    count = int(seconds * RATE)
    swell = np.abs(np.sin(np.arange(count) * 2 * np.pi * 2.3 / RATE)) ** 3
    noise = np.convolve(
        random.laplace(0, 4000, count), [0.25, 0.5, 0.25], mode="same"
    )  # little near half the rate
    return np.clip(noise * swell, -30000, 30000).astype("<i2")


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 48000])
def test_a_sine_has_the_loudness_that_the_recommendation_gives_it(rate: int) -> None:
    """997 Hz at 0 dBFS in one channel: -3.01 LUFS, whatever the sample rate."""
    level = Level.of([sine(5, -20, rate=rate)], rate)
    assert level.lufs == pytest.approx(-23.01, abs=0.05)
    assert level.peak == pytest.approx(-20, abs=0.05)
    assert level.rms == pytest.approx(-23.01, abs=0.05)


def test_what_is_much_quieter_does_not_count() -> None:
    loud, quiet = sine(20, -20), sine(20, -60)
    alone = Level.of([loud], RATE)
    assert Level.of([loud, quiet, loud], RATE).lufs == pytest.approx(alone.lufs, abs=0.05)
    assert Level.of([loud, sine(20, -26), loud], RATE).lufs < alone.lufs - 0.5


def test_pieces_of_any_size_are_measured_the_same() -> None:
    pcm = speech(9).tobytes()
    whole = Level.of([pcm], RATE)
    assert Level.of([pcm[at : at + 4098] for at in range(0, len(pcm), 4098)], RATE) == whole


@pytest.mark.parametrize("pieces", [[], [b""], [bytes(2 * RATE)], [bytes(20)]])
def test_silence_has_a_level(pieces: list[bytes]) -> None:
    level = Level.of(pieces, RATE)
    assert (level.lufs, level.peak) == (-70.0, -120.0)


def test_a_gain_that_reaches_no_peak_is_only_a_gain() -> None:
    pcm = speech(3)
    got = np.frombuffer(loudness.treated(pcm.tobytes(), RATE, -6.0, -1.0), dtype="<i2")
    assert np.abs(got - pcm * 10 ** (-6 / 20)).max() <= 0.51


def test_peaks_stay_under_the_ceiling_between_samples_too() -> None:
    """Four times as many samples, made by a filter that is not the limiter's."""
    pcm = speech(3)
    got = np.frombuffer(loudness.treated(pcm.tobytes(), RATE, 12.0, -1.0), dtype="<i2").astype(float)
    spectrum = np.fft.rfft(got)
    fine = np.fft.irfft(np.concatenate([spectrum, np.zeros(3 * len(got) // 2)]), 4 * len(got)) * 4
    assert 20 * np.log10(np.abs(fine).max() / 32768) <= -0.9
    assert Level.of([got.astype("<i2").tobytes()], RATE).lufs > Level.of([pcm.tobytes()], RATE).lufs + 8


def test_only_what_lies_near_a_peak_is_turned_down() -> None:
    pcm = np.frombuffer(sine(2, -20), dtype="<i2").copy()
    pcm[RATE : RATE + 5] = 30000
    got = np.frombuffer(loudness.treated(pcm.tobytes(), RATE, 6.0, -1.0), dtype="<i2")
    plain = np.rint(pcm * np.float32(10 ** (6 / 20)))
    touched = np.flatnonzero(got != plain)
    reach = 3 * loudness.LIMIT_MS * RATE // 1000
    assert len(touched)
    assert touched.min() >= RATE - reach
    assert touched.max() <= RATE + 5 + reach


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_takes_of_any_length(count: int) -> None:
    pcm = np.full(count, 32000, dtype="<i2").tobytes()
    got = np.frombuffer(loudness.treated(pcm, RATE, 10.0, -1.0), dtype="<i2")
    assert len(got) == count
    assert np.abs(got).max(initial=0) <= 29300
