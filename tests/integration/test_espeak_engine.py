"""The espeak engine: bytes that never change, children that come and go with it, and a voice that cannot be hijacked."""

import hashlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from workers import voices
from workers.audio import checks, edit
from workers.engines.engine import Engine, EngineUnavailableError, Failure, Reason, Request, Result, Take
from workers.engines.espeak import SPEC, process, speaker, wheel
from workers.engines.espeak import engine as espeak
from workers.engines.espeak.engine import EspeakEngine

SENTENCE = "Winston Smith slipped quickly through the glass doors of Victory Mansions."
TEXTS = (
    "Hello there, how are you?",
    "No!",
    '"Yes," he said; (quietly) - and left...',
    "What? Why? 12,345 dollars at 5 p.m.",
    "a clause without an end",
    "Привет мир",
    "",
    "...",
)
# Whispering and f3 use rand(), klatt voices another synthesiser, croak and robosoft echo and flutter
VOICES = (
    "en-us",
    "en-us+f3",
    "en+whisper",
    "en-us+klatt4",
    "en-us+croak",
    "en+m3",
    "en-us+robosoft3",
    "fr",
    "ru+f2",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[EspeakEngine]:
    engine = EspeakEngine(2)
    yield engine
    engine.close()


def one(engine: Engine, text: str, voice: str = "en-us", **options: int) -> Take:
    (take,) = engine.render([Request("key", text, voice, 0, options)], threading.Event())
    assert isinstance(take, Take), take
    return take


def seconds(take: Take) -> float:
    return len(take.pcm) / 2 / take.sample_rate


def test_what_was_spoken_before_changes_nothing(engine: EspeakEngine) -> None:
    """Given orders of many voices and texts in random orders, Then each has one rendering only, in every child."""
    wanted = [(text, voice, rate) for text in TEXTS for voice in VOICES for rate in (175, 300)] * 2
    random.Random(1).shuffle(wanted)
    requests = (Request(repr(each), each[0], each[1], 0, {"rate": each[2]}) for each in wanted)
    seen: dict[str, set[str]] = {}
    for result in engine.render(requests, threading.Event()):
        assert isinstance(result, Take), result
        seen.setdefault(result.key, set()).add(hashlib.sha256(result.pcm).hexdigest())
    assert len(seen) == len(wanted) // 2
    assert [key for key, digests in seen.items() if len(digests) > 1] == []
    assert len({next(iter(digests)) for digests in seen.values()}) > len(seen) * 0.7, (
        "they do differ from each other"
    )


def test_options_do_what_they_say(engine: EspeakEngine) -> None:
    plain = one(engine, SENTENCE)
    assert seconds(one(engine, SENTENCE, rate=80)) > 1.7 * seconds(plain)
    assert seconds(one(engine, SENTENCE, rate=450)) < 0.5 * seconds(plain)
    assert seconds(one(engine, SENTENCE, word_gap=50)) > seconds(plain) + 2
    quiet = checks.measure(one(engine, SENTENCE, volume=50).pcm, plain.sample_rate)
    assert quiet.rms_dbfs < checks.measure(plain.pcm, plain.sample_rate).rms_dbfs - 3
    sounds = {one(engine, SENTENCE, pitch=height, range=width).pcm for height in (0, 99) for width in (0, 99)}
    assert len(sounds | {plain.pcm}) == 5
    assert one(engine, SENTENCE) == plain, "an option must not outlive its request"


@pytest.mark.parametrize("options", [{"rate": 79}, {"rate": "fast"}, {"speed": 2}, {"volume": 201}])
def test_bad_options_fail_the_request(engine: EspeakEngine, options: dict[str, object]) -> None:
    (result,) = engine.render([Request("key", SENTENCE, "en-us", 0, options)], threading.Event())
    assert isinstance(result, Failure)
    assert result.reason is Reason.BAD_TEXT
    assert next(iter(options)) in result.detail
    assert "\n" not in result.detail


@pytest.mark.parametrize("text", ["a\x01+50Pb", "cut\x00off", "half a pair \ud83d"])
def test_commands_in_a_text_are_refused(engine: EspeakEngine, text: str) -> None:
    (result,) = engine.render([Request("key", text, "en-us", 0)], threading.Event())
    assert isinstance(result, Failure)
    assert result.reason is Reason.BAD_TEXT
    assert isinstance(
        next(
            engine.render([Request("key", SPEC.prepare(text, SPEC.options()), "en-us", 0)], threading.Event())
        ),
        Take,
    )


def test_markup_in_a_text_is_only_text(engine: EspeakEngine) -> None:
    """Neither SSML nor espeak's own phoneme brackets have any power: all of it is read out."""
    assert seconds(one(engine, '<speak>one<break time="9s"/>two</speak>')) < 8.0
    assert seconds(one(engine, "hello world")) < 1.2
    assert seconds(one(engine, "[[h@loU2w3:ld]]")) > 2.0


def test_a_text_larger_than_any_pipe(engine: EspeakEngine) -> None:
    assert seconds(one(engine, "one" + " " * 200_000 + "hundred")) > seconds(one(engine, "one")) + 0.2


def test_no_part_of_a_long_word_is_lost(engine: EspeakEngine) -> None:
    scream = "a" + "banana" * 100
    assert seconds(one(engine, scream)) < 15, "or else espeak has learned it, and `prepare` need not part it"
    assert seconds(one(engine, SPEC.prepare(scream, SPEC.options()))) > 25


def test_a_child_that_is_killed_is_replaced() -> None:
    engine = EspeakEngine(1)
    try:
        before = one(engine, SENTENCE)
        (victim,) = engine.pids
        os.kill(victim, signal.SIGKILL)
        ended(os.pidfd_open(victim))
        assert one(engine, SENTENCE) == before
        assert engine.pids != [victim]
    finally:
        engine.close()


def test_a_crash_fails_the_one_request() -> None:
    """Given a rendering on its way, When the process that does it breaks, Then that request fails, and only that."""
    engine = EspeakEngine(1)
    try:
        results = engine.render(
            [Request("long", "word " * 200_000, "en-us", 0), Request("next", SENTENCE, "en-us", 0)],
            threading.Event(),
        )
        thread_results: list[Result] = []
        thread = threading.Thread(target=lambda: thread_results.extend(results))
        thread.start()
        os.kill(fork_of(engine.pids[0]), signal.SIGSEGV)
        thread.join()
        assert [result.key for result in thread_results] == ["long", "next"]
        assert isinstance(thread_results[0], Failure)
        assert thread_results[0].reason is Reason.CRASHED
        assert thread_results[0].detail == "espeak broke: it ended by signal 11"
        assert isinstance(thread_results[1], Take)
    finally:
        engine.close()


def test_a_child_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "PATIENCE_SECONDS_PER_CHARACTER", 0.0)
    engine = EspeakEngine(1, patience=0.3)
    try:
        os.kill(engine.pids[0], signal.SIGSTOP)
        (result,) = engine.render([Request("key", SENTENCE * 2_000, "en-us", 0)], threading.Event())
        assert isinstance(result, Failure)
        assert result.reason is Reason.CRASHED
        assert "did not answer in time" in result.detail
    finally:
        engine.close()


def test_children_end_with_a_parent_that_is_killed() -> None:
    program = (
        "import sys, threading\n"
        "from workers.engines.engine import Request\n"
        "from workers.engines.espeak.engine import EspeakEngine\n"
        "engine = EspeakEngine(2)\n"
        "words = (Request(str(n), 'word ' * 20, 'en-us', 0) for n in range(10**9))\n"
        "for n, take in enumerate(engine.render(words, threading.Event())):\n"
        "    if n == 10: print(*engine.pids, flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        children = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
    finally:
        parent.kill()
        parent.communicate()
    for child in children:
        ended(child)


def test_signals_are_for_the_parent(engine: EspeakEngine) -> None:
    """A worker that is told to stop finishes what is in flight, so its children must outlive the same signal."""
    before = set(engine.pids)
    for pid in before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    list(engine.render([Request(str(n), SENTENCE, "en-us", 0) for n in range(8)], threading.Event()))
    assert before <= set(engine.pids)


def test_close_ends_the_children() -> None:
    engine = EspeakEngine(2)
    list(engine.render([Request(str(n), SENTENCE, "en-us", 0) for n in range(4)], threading.Event()))
    children = [os.pidfd_open(pid) for pid in engine.pids]
    results = engine.render([Request("late", SENTENCE, "en-us", 0)], threading.Event())
    engine.close()
    for child in children:
        ended(child)
    with pytest.raises(RuntimeError, match="closed"):
        next(results)


def test_a_library_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(wheel, "find", lambda: wheel.Wheel(broken, tmp_path))
    with pytest.raises(EngineUnavailableError, match="espeak cannot run here: it ended with exit status 1"):
        EspeakEngine(1)


def test_a_missing_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> wheel.Wheel:
        raise LookupError("the package espeakng-loader is not installed")

    monkeypatch.setattr(wheel, "find", missing)
    assert SPEC.unavailable() == "the package espeakng-loader is not installed"
    with pytest.raises(EngineUnavailableError, match="not installed"):
        SPEC.load()


def test_a_deep_installation(tmp_path: Path) -> None:
    """The library copies the path of its data into 160 bytes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    found = wheel.find()
    (deep / "data").symlink_to(found.data)
    child = process.Process(wheel.Wheel(found.shared_object, deep / "data"))
    try:
        assert child.sample_rate == 22050
    finally:
        child.close()


def test_identity_follows_the_files(engine: EspeakEngine, tmp_path: Path) -> None:
    assert engine.identity["name"] == "espeak"
    assert engine.identity["version"] == "1.52.0"
    assert engine.identity["data_version"] == "0x14801"
    (tmp_path / "library").write_bytes(b"one")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "phondata").write_bytes(b"two")
    small = wheel.Wheel(tmp_path / "library", tmp_path / "data")
    first = small.digest()
    (tmp_path / "data" / "phondata").write_bytes(b"three")
    assert len({first, small.digest(), engine.identity["digest"]}) == 3


def test_every_language_and_variant_can_be_spoken(engine: EspeakEngine) -> None:
    names = [*wheel.languages(), *(f"en-us+{variant}" for variant in wheel.variants())]
    requests = [Request(name, "1 2", speaker.named(name), 0) for name in names]
    results = list(engine.render(requests, threading.Event()))
    assert [result for result in results if not isinstance(result, Take)] == []


def test_the_built_in_voices_sound_distinct_and_healthy(engine: EspeakEngine) -> None:
    heights: dict[str, float] = {}
    for voice in voices.load().values():
        take = one(engine, SENTENCE, SPEC.voice(voice))
        pcm = edit.tidy(take.pcm, take.sample_rate)
        metrics = checks.measure(pcm, take.sample_rate)
        assert checks.judge(metrics, SENTENCE, checks.limits(SPEC)) is None, voice.name
        assert -26 < metrics.rms_dbfs < -17, voice.name
        heights[voice.name] = pitch(pcm, take.sample_rate)
    women = ("storyteller", "newsreader", "teacher", "presenter", "grandmother")
    assert min(heights[name] for name in women) > 160
    assert max(height for name, height in heights.items() if name not in women) < 140


def test_the_estimate_fits_what_is_spoken(engine: EspeakEngine) -> None:
    text = (SENTENCE + " ") * 5
    tokens = len(text) * SPEC.tokens_per_character
    assert seconds(one(engine, text)) == pytest.approx(tokens / SPEC.token_rate, rel=0.2)


def pitch(pcm: bytes, sample_rate: int) -> float:
    """The median pitch in Hz, by autocorrelation of what is loud."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(float)
    found = []
    for start in range(0, len(samples) - 1500, 2200):
        window = samples[start : start + 1500] - samples[start : start + 1500].mean()
        if np.sqrt((window**2).mean()) < 800:
            continue
        correlation = np.correlate(window, window, "full")[len(window) - 1 :]
        lag = sample_rate // 450 + int(correlation[sample_rate // 450 : sample_rate // 55].argmax())
        if correlation[lag] > 0.45 * correlation[0]:
            found.append(sample_rate / lag)
    return float(np.median(found))


def ended(pidfd: int) -> None:
    """Wait until a process has ended."""
    try:
        readable, _, _ = select.select([pidfd], [], [], 20.0)
        assert readable, "the process still runs"
    finally:
        os.close(pidfd)


def fork_of(pid: int) -> int:
    """The process that a child has forked to speak; waits until there is one."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        if forks := listing.read_text().split():
            return int(forks[0])
    raise AssertionError("nothing was forked")
