import numpy as np
import pytest

from workers.audio import edit

RATE = 24000


def tone(ms: int, size: float = 8000.0, rate: int = RATE) -> bytes:
    times = np.arange(rate * ms // 1000) / rate
    return (size * np.cos(2 * np.pi * 220 * times)).astype("<i2").tobytes()


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, dtype="<i2").astype(int)


@pytest.mark.parametrize("rate", [22050, 24000])
def test_silence_around_is_cut_down_to_a_margin(rate: int) -> None:
    pcm = edit.silence(700, rate) + tone(500, rate=rate) + edit.silence(1200, rate)
    tidied = edit.tidy(pcm, rate)
    assert len(tidied) / 2 / rate == pytest.approx(0.5 + 2 * edit.MARGIN_MS / 1000, abs=0.003)
    loud = np.flatnonzero(abs(samples(tidied)) > edit.QUIET)
    assert loud[0] == pytest.approx(edit.MARGIN_MS * rate / 1000, abs=rate / 500)


def test_noise_below_the_threshold_counts_as_silence() -> None:
    noise = (np.random.default_rng(1).integers(-edit.QUIET, edit.QUIET + 1, RATE)).astype("<i2").tobytes()
    assert len(edit.tidy(noise + tone(500) + noise, RATE)) < 0.6 * 2 * RATE


def test_silence_inside_stays() -> None:
    pcm = tone(200) + edit.silence(2000, RATE) + tone(200)
    assert len(edit.tidy(pcm, RATE)) == pytest.approx(len(pcm), abs=2 * RATE / 500)


def test_edges_start_and_end_at_nothing() -> None:
    """A tone that begins at full swing: joined to silence it would click."""
    tidied = samples(edit.tidy(tone(500), RATE))
    assert abs(tidied[0]) < 100
    assert abs(tidied[-1]) < 100
    untouched = slice(RATE * edit.FADE_MS // 1000 + 2, -RATE * edit.FADE_MS // 1000 - 50)
    assert (tidied[untouched] == samples(tone(500))[: len(tidied)][untouched]).all()


@pytest.mark.parametrize("pcm", [b"", b"\0\0", bytes(2 * RATE), b"\x05\x00" * RATE])
def test_what_holds_no_sound_comes_back_as_it_is(pcm: bytes) -> None:
    assert edit.tidy(pcm, RATE) == pcm


@pytest.mark.parametrize("ms", [1, 3, 10, 19, 20, 21])
def test_very_short_sounds_survive(ms: int) -> None:
    tidied = edit.tidy(tone(ms), RATE)
    assert len(tidied) % 2 == 0
    assert abs(samples(tidied)).max() > 4000


def test_one_loud_sample_survives() -> None:
    assert abs(samples(edit.tidy(bytes(2000) + b"\x00\x40" + bytes(2000), RATE))).max() == 0x4000


def test_tidying_twice_fades_but_cuts_nothing_more() -> None:
    once = edit.tidy(edit.silence(300, RATE) + tone(400), RATE)
    assert len(edit.tidy(once, RATE)) == pytest.approx(len(once), abs=2 * RATE * edit.FADE_MS / 1000)


@pytest.mark.parametrize("rate", [22050, 24000])
def test_no_silence_is_a_sample_short(rate: int) -> None:
    assert all(len(edit.silence(ms, rate)) == 2 * (ms * rate // 1000) for ms in range(3000))


@pytest.mark.parametrize(
    ("ms", "rate", "count"), [(0, RATE, 0), (500, RATE, 12000), (333, 22050, 7342), (1, 22050, 22)]
)
def test_silence_has_its_length(ms: int, rate: int, count: int) -> None:
    assert edit.silence(ms, rate) == bytes(2 * count)
