import json

import numpy as np
import pytest

from tests import tones
from workers.audio import checks
from workers.engines import espeak, maya1
from workers.engines.engine import EngineSpec, Reason

RATE = 24000
TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."  # 73 characters


SPECS: dict[str, EngineSpec] = {"maya1": maya1.SPEC, "espeak": espeak.SPEC, "someone-elses": tones.Spec()}


def sine(seconds: float, size: float = 6000.0) -> bytes:
    return sound(size * np.sin(2 * np.pi * 200 * np.arange(int(seconds * RATE)) / RATE))


def babble(seconds: float, size: float = 6000.0) -> bytes:
    """What is like speech to the checks: another tone every 80 ms, never the same again."""
    chosen = np.random.default_rng(5)
    steps = chosen.uniform(100, 4000, (int(seconds * RATE) * 1000 // (80 * RATE) + 1, 3))
    at = np.arange(int(seconds * RATE))
    pitches = steps[at * 1000 // (80 * RATE)]
    return sound(size * np.sin(2 * np.pi * np.cumsum(pitches, axis=0) / RATE).mean(axis=1) * 1.6)


def sound(wave: np.ndarray) -> bytes:
    return np.clip(wave, -32768, 32767).astype("<i2").tobytes()


def verdict(pcm: bytes, text: str = TEXT, engine: str = "maya1") -> Reason | None:
    found = checks.judge(checks.measure(pcm, RATE), text, checks.limits(SPECS[engine]))
    if found is None:
        return None
    assert not found.detail.endswith("."), "it becomes part of a sentence"
    assert found.excess > 0
    return found.reason


def test_levels() -> None:
    metrics = checks.measure(sine(2.0, 16384), RATE)
    assert metrics.seconds == 2.0
    assert metrics.rms_dbfs == pytest.approx(-9.03, abs=0.02)
    assert metrics.peak_dbfs == pytest.approx(-6.02, abs=0.02)
    assert metrics.silence_ratio == 0
    assert metrics.clipped_ratio == 0


def test_silence_and_clipping_ratios() -> None:
    assert checks.measure(sine(1.0) + bytes(3 * 2 * RATE), RATE).silence_ratio == pytest.approx(0.75, abs=0.01)
    square = np.where(np.arange(RATE) % 4 == 0, 32767, 1000).astype("<i2")
    assert checks.measure(square.tobytes(), RATE).clipped_ratio == pytest.approx(0.25)
    lowest = np.full(100, -32768, dtype="<i2")
    assert checks.measure(lowest.tobytes(), RATE).clipped_ratio == 1


@pytest.mark.parametrize("pcm", [b"", bytes(2), bytes(2 * RATE)])
def test_nothing_measures_as_silence_and_stays_json(pcm: bytes) -> None:
    metrics = checks.measure(pcm, RATE)
    assert metrics.rms_dbfs == metrics.peak_dbfs == checks.NOTHING_DBFS
    assert metrics.silence_ratio == 1
    assert json.loads(json.dumps(metrics.as_dict(), allow_nan=False))["silence_ratio"] == 1
    assert verdict(pcm) is Reason.SILENT


@pytest.mark.parametrize(
    ("pcm", "expected"),
    [
        (babble(4.5), None),
        (babble(2.5), None),  # a fast reader
        (babble(7.0), None),  # a slow one
        (babble(0.5), Reason.TOO_SHORT),
        (babble(15.0), Reason.TOO_SLOW),
        (babble(4.5, 100), Reason.SILENT),
        (babble(1.0) + bytes(4 * 2 * RATE), Reason.SILENT),
        (sine(4.5, 80000), Reason.CLIPPED),
        (babble(2.0) + bytes(5 * 2 * RATE) + babble(2.0), Reason.SILENT),  # a hole in it
        (babble(2.0) + bytes(2 * 2 * RATE) + babble(2.0), None),  # a pause for effect
        (babble(1.0) + 9 * babble(0.4), Reason.LOOP),
        (babble(1.0) + 3 * babble(1.5), Reason.LOOP),
        (sine(4.5), Reason.LOOP),  # one tone, the same again and again
    ],
)
def test_verdicts(pcm: bytes, expected: Reason | None) -> None:
    assert verdict(pcm) is expected


@pytest.mark.parametrize("engine", ["maya1", "espeak", "someone-elses"])
@pytest.mark.parametrize(("text", "seconds"), [("No!", 0.3), ("A", 0.25), ("Why?", 1.5), ("1,234,567", 3.8)])
def test_short_texts_and_numbers_pass(engine: str, text: str, seconds: float) -> None:
    assert verdict(babble(seconds), text, engine) is None


@pytest.mark.parametrize("text", ["...", "—", "", "<laugh>", '"!"'])
def test_a_text_without_words_cannot_be_missed(text: str) -> None:
    assert verdict(bytes(200), text) is None


def test_a_tag_may_take_its_time() -> None:
    assert verdict(babble(7.0), "Oh.") is Reason.TOO_SLOW
    assert verdict(babble(7.0), "Oh. <laugh>") is None


def test_digits_and_signs_are_spoken_longer() -> None:
    assert checks.speech_units("abc d") == 5
    assert checks.speech_units("50%") == 17
    assert checks.speech_units("é") == 1
    assert checks.speech_units("你") > 1


@pytest.mark.parametrize(
    ("period", "rounds", "found"),
    [(0.1, 20, 2.0), (0.3, 6, 1.8), (0.5, 4, 2.0), (1.2, 2, 2.4), (2.0, 3, 6.0), (0.5, 2, 0.0), (0.9, 1, 0.0)],
)
def test_a_loop_is_measured_with_its_first_round(period: float, rounds: int, found: float) -> None:
    pcm = babble(0.7, 5000) + babble(period) * rounds + babble(0.9, 3000)[2 * 700 :]
    measured = checks.measure(pcm, RATE)
    assert measured.loop_seconds == pytest.approx(found, abs=0.2)
    assert checks.measure(pcm, RATE, loops=False).loop_seconds == 0


def test_a_loop_is_found_under_noise_and_at_other_levels() -> None:
    chosen = np.random.default_rng(3)
    rounds = [np.frombuffer(babble(0.4), "<i2") * level for level in (1.0, 0.8, 1.2, 0.9, 1.1, 1.0)]
    wave = np.concatenate(rounds)
    assert checks.measure(sound(wave + chosen.normal(0, 60, len(wave))), RATE).loop_seconds > 2


def test_silence_is_no_loop() -> None:
    assert checks.measure(babble(1.0) + bytes(6 * 2 * RATE) + babble(1.0), RATE).loop_seconds == 0


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("It was a bright cold day.", 0),
        ("No, no, no!", 6),
        ("Never give up. Never give up.", 22),
        ("the sea was the sea", 0),
        ("Ha ha ha", 6),
        ("Hahahaha!", 8),
        ("Mmmmm.", 5),
        ("", 0),
    ],
)
def test_what_a_text_says_again(text: str, letters: int) -> None:
    assert checks.repeated(text) == letters


def test_a_text_that_says_the_same_again_may_sound_the_same_again() -> None:
    pcm = babble(1.0) * 3
    assert verdict(pcm, "Never give in. Never give in. Never give in.") is None
    assert verdict(pcm, "Never give in to force or to the might of others.") is Reason.LOOP


def test_of_two_bad_takes_the_better_is_known() -> None:
    within = checks.limits(maya1.SPEC)

    def judged(pcm: bytes) -> checks.Verdict:
        found = checks.judge(checks.measure(pcm, RATE), TEXT, within)
        assert found is not None
        return found

    slow, slower, silent = judged(babble(9.0)), judged(babble(14.0)), judged(bytes(2 * RATE))
    assert checks.better(slow, slower)
    assert checks.better(slower, silent)
    assert not checks.better(slow, slow)


def test_stored_metrics_are_judged_as_fresh_ones() -> None:
    metrics = checks.measure(babble(4.5), RATE)
    again = checks.Metrics.stored(json.loads(json.dumps(metrics.as_dict())))
    assert again.as_dict() == metrics.as_dict()
    older = {name: value for name, value in metrics.as_dict().items() if name != "loop_seconds"}
    assert checks.Metrics.stored(older | {"approved": True}).loop_seconds == 0
