"""What ACX asks of a file, as figures and as sentences."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.audio import acx, acx_file, encode
from workers.audio.acx import Measured

GOOD = {"rms": -20.0, "peak": -3.5, "noise_floor": -70.0, "seconds": 1800.0, "head": 0.76, "tail": 2.0}
Sound = NDArray[np.float64]


def test_what_meets_every_figure_has_no_problem() -> None:
    assert Measured(**GOOD).problem() is None
    assert Measured(-23.0, -3.0, -60.0, 7200.0, 0.5, 5.0).problem() is None
    assert Measured(-18.0, -3.0, None, 7200.0, 1.0, 1.0).problem() is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rms": -23.4}, "its RMS is -23.4 dB, not between -23 and -18"),
        ({"rms": -17.5}, "its RMS is -17.5 dB"),
        ({"peak": -2.6}, "its peak is -2.6 dB, not below -3"),
        ({"noise_floor": -55.0}, "its noise floor is -55.0 dB, not below -60"),
        ({"head": 0.49}, "the quiet before it has 0.49 seconds, not 0.5 to 1"),
        ({"head": 1.2}, "the quiet before it has 1.20 seconds, not 0.5 to 1"),
        ({"tail": 0.0}, "the quiet after it has 0.00 seconds, not 1 to 5"),
        ({"tail": 5.5}, "the quiet after it has 5.50 seconds, not 1 to 5"),
        ({"seconds": 7260.0}, "it has 121 minutes, more than 120: use --split chapter"),
        ({"rms": -30.0, "peak": 0.0}, "its RMS is -30.0 dB, not between -23 and -18; its peak is 0.0 dB"),
    ],
)
def test_what_does_not_is_told_with_its_figure(changed: dict[str, float], told: str) -> None:
    problem = Measured(**{**GOOD, **changed}).problem()
    assert problem is not None
    assert told in problem


def tone(seconds: float, level: float = -14.0) -> Sound:
    at = np.arange(int(seconds * acx.SAMPLE_RATE)) / acx.SAMPLE_RATE
    return np.sin(2 * np.pi * 440 * at) * 10 ** (level / 20)


def silence(seconds: float) -> Sound:
    return np.zeros(int(seconds * acx.SAMPLE_RATE))


def hiss(seconds: float, level: float) -> Sound:
    return np.random.default_rng(1).normal(0, 10 ** (level / 20), int(seconds * acx.SAMPLE_RATE))


def measured(folder: Path, *sounds: Sound, kind: str = "mp3") -> Measured:
    """As the preset has it encoded."""
    path = folder / f"file.{kind}"
    bitrate = acx.BITRATE if kind == "mp3" else None
    with encode.Encoder(path, kind, acx.SAMPLE_RATE, bitrate=bitrate) as encoder:
        encoder.write(np.rint(np.concatenate(sounds) * 32767).astype("<i2").tobytes())
    return acx_file.measure(path)


@pytest.mark.parametrize(("kind", "near"), [("wav", 0.05), ("mp3", 0.35)])
def test_a_file_is_measured_as_it_sounds(tmp_path: Path, kind: str, near: float) -> None:
    """Two seconds of a sine at -6 dBFS, a pause and two ends of noise at -66 dB RMS: encoded, decoded, measured."""
    sounds = (hiss(0.75, -66), tone(1, -6), hiss(0.5, -66), tone(1, -6), hiss(2, -66))
    found = measured(tmp_path, *sounds, kind=kind)
    assert found.peak == pytest.approx(-6.0, abs=near)
    assert found.rms == pytest.approx(-6 - 10 * math.log10(2) + 10 * math.log10(2 / 5.25), abs=near)
    assert found.noise_floor == pytest.approx(-66, abs=1)  # MP3 leaves out what is above 19 kHz of it
    assert found.seconds == pytest.approx(5.25, abs=0.001)
    assert found.head == pytest.approx(0.75, abs=0.021)
    assert found.tail == pytest.approx(2, abs=0.021)


def test_silence_that_was_put_there_does_not_hide_noise(tmp_path: Path) -> None:
    """The preset's own head, tail and pauses are digital silence: the floor is what the voice has between its words."""
    noisy = np.concatenate([tone(2), silence(0.4), tone(2)]) + hiss(4.4, -50)
    pauses = (silence(0.75), noisy, silence(0.6), noisy, silence(2))
    found = measured(tmp_path, *pauses)
    assert found.noise_floor == pytest.approx(-50, abs=1)
    assert found.problem() == f"its noise floor is {found.noise_floor:.1f} dB, not below -60"


def test_where_every_pause_is_digital_silence_there_is_no_noise_to_measure(tmp_path: Path) -> None:
    """What an encoder smears beside such a pause is no floor, and neither is the quietest word."""
    word = np.concatenate([tone(2), tone(0.3, -26), tone(1)])
    found = measured(tmp_path, silence(0.75), word, silence(0.6), word, silence(2))
    assert found.noise_floor is None
    assert found.problem() is None


@pytest.mark.parametrize(
    ("head", "tail", "told"),
    [
        (0.3, 2.0, "the quiet before it has"),
        (1.3, 2.0, "the quiet before it has"),
        (0.75, 0.5, "the quiet after it has"),
        (0.75, 6.0, "the quiet after it has"),
        (0.75, 2.0, None),
    ],
)
def test_the_quiet_around_it_is_measured_on_the_encoded_file(
    tmp_path: Path, head: float, tail: float, told: str | None
) -> None:
    found = measured(tmp_path, silence(head), tone(8, -15), silence(tail))
    assert found.head == pytest.approx(head, abs=0.021)
    assert found.tail == pytest.approx(tail, abs=0.021)
    problem = found.problem()
    assert (problem is None) if told is None else (problem or "").startswith(told)


def test_a_file_without_a_sound_is_quiet_all_over(tmp_path: Path) -> None:
    found = measured(tmp_path, silence(3))
    assert found.head == found.tail == pytest.approx(3)
    assert found.noise_floor is None
