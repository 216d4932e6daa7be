"""What ACX asks of a file, as figures and as sentences."""

import math
import wave
from pathlib import Path

import numpy as np
import pytest

from workers.audio import acx
from workers.audio.acx import Measured

GOOD = {"rms": -20.0, "peak": -3.5, "noise_floor": -70.0, "seconds": 1800.0}


def test_what_meets_every_figure_has_no_problem() -> None:
    assert Measured(**GOOD).problem() is None
    assert Measured(-23.0, -3.0, -60.0, 7200.0).problem() is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rms": -23.4}, "its RMS is -23.4 dB, not between -23 and -18"),
        ({"rms": -17.5}, "its RMS is -17.5 dB"),
        ({"peak": -2.6}, "its peak is -2.6 dB, not below -3"),
        ({"noise_floor": -55.0}, "its noise floor is -55.0 dB, not below -60"),
        ({"seconds": 7260.0}, "it has 121 minutes, more than 120: use --split chapter"),
        ({"rms": -30.0, "peak": 0.0}, "its RMS is -30.0 dB, not between -23 and -18; its peak is 0.0 dB"),
    ],
)
def test_what_does_not_is_told_with_its_figure(changed: dict[str, float], told: str) -> None:
    problem = Measured(**{**GOOD, **changed}).problem()
    assert problem is not None
    assert told in problem


def test_a_file_is_measured_as_it_sounds(tmp_path: Path) -> None:
    """Two seconds of a sine at -6 dBFS, two of noise at -66 dB RMS: decoded, then measured."""
    at = np.arange(2 * acx.SAMPLE_RATE) / acx.SAMPLE_RATE
    tone = np.sin(2 * np.pi * 440 * at) * 10 ** (-6 / 20)
    hiss = np.random.default_rng(1).normal(0, 10 ** (-66 / 20), len(at))
    path = tmp_path / "file.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, acx.SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((np.concatenate([tone, hiss]) * 32768).astype("<i2").tobytes())
    measured = acx.measure(path)
    assert measured.peak == pytest.approx(-6.0, abs=0.05)
    assert measured.rms == pytest.approx(-6 - 10 * math.log10(2) - 10 * math.log10(2), abs=0.05)
    assert measured.noise_floor == pytest.approx(-66, abs=0.3)
    assert measured.seconds == pytest.approx(4)
