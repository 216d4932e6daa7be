"""The whole engine on a tiny checkpoint: threads, stops, partials, guards, and what goes wrong."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from storage import errors
from tests import tiny_maya1
from workers.engines.engine import DeviceFaultError, Failure, Partial, Reason, Request, Result, Take
from workers.engines.maya1 import (
    SPEC,
    cache,
    checkpoint,
    constants,
    decode,
    engine,
    faults,
    hub,
    revoice,
    sequence,
    speech,
    vocoder,
)
from workers.engines.maya1.checkpoint import Checkpoint
from workers.engines.maya1.engine import Maya1Engine
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.settings import Maya1Settings
from workers.engines.maya1.vocoder import Vocoder

torch.set_num_threads(1)

CPU = torch.device("cpu")
CONTEXT = 640
VOICES = ("A calm voice.", "An old man, hoarse and slow.")


class Watched:
    """The plain kernels with a hook before each frame: `before(n)` is called ahead of the n-th, from 1."""

    def __init__(self, before: Callable[[int], None]) -> None:
        self.frames = 0
        self.before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(plain, name)

    def sample(self, logits: torch.Tensor, end_logits: torch.Tensor | None, slot: int, rows: Any) -> None:
        if slot == 0:
            self.frames += 1
            self.before(self.frames)
        plain.sample(logits, end_logits, slot, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_maya1.make(tmp_path_factory.mktemp("maya1"), end_bias=26)


@pytest.fixture(scope="module")
def opened(folder: Path) -> Checkpoint:
    return checkpoint.open_directory(folder / "model")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A model that does not come to an end of speech."""
    return checkpoint.open_directory(tiny_maya1.make_model(tmp_path_factory.mktemp("endless"), end_bias=0))


@pytest.fixture(scope="module")
def sound(folder: Path) -> Vocoder:
    return vocoder.load(folder / "snac", CPU, folder)


@contextlib.contextmanager
def running(
    opened: Checkpoint, sound: Vocoder, slots: int = 6, kernels: Any = plain, **arguments: Any
) -> Iterator[Maya1Engine]:
    model = Model(opened.shape, opened.load(CPU, torch.float32), kernels, CONTEXT)

    def make(count: int) -> decode.Decoder:
        return decode.Decoder(model, cache.Cache(model.shape, count, CONTEXT, torch.float32, CPU))

    prompts = Prompts(opened.tokenizer, double_bos=True)
    arguments = {"make_decoder": make} | arguments
    made = Maya1Engine(slots=slots, prompts=prompts, vocoder=sound, identity={}, context=CONTEXT, **arguments)
    try:
        yield made
    finally:
        made.close()
        made.close()


def requests(count: int, **options: Any) -> list[Request]:
    return [
        Request(f"k{n}", "A sentence" + " and more" * (n % 4) + ".", VOICES[n % 2], n * 2**50, options)
        for n in range(count)
    ]


def rendered(made: Maya1Engine, asked: list[Request]) -> dict[str, Result]:
    results = list(made.render(asked, threading.Event()))
    assert len(results) == len(asked)
    return {result.key: result for result in results}


def take(result: Result) -> Take:
    assert isinstance(result, Take), result
    return result


@pytest.fixture(scope="module")
def reference(opened: Checkpoint, sound: Vocoder) -> dict[str, Result]:
    """Eight requests rendered one at a time."""
    with running(opened, sound, slots=1) as made:
        return rendered(made, requests(8))


def test_takes_have_their_codes_and_sound(reference: dict[str, Result], sound: Vocoder) -> None:
    takes = [result for result in reference.values() if isinstance(result, Take)]
    assert len(takes) >= 6
    for one in takes:
        assert one.codes is not None and one.sample_rate == 24_000
        codes = np.frombuffer(one.codes, "<i2").reshape(-1, 7)
        assert codes.min() >= 0 and codes.max() < 4096
        assert one.tokens == codes.size
        assert len(one.pcm) == 2 * 2048 * (len(codes) - 1)  # the first frame is left out
        seed = int(one.key[1:]) * 2**50
        whole = sound.decode([codes], [seed])[0][2048:]
        assert np.abs(np.frombuffer(one.pcm, "<i2") / 32767 - whole).max() < 1e-4


def test_several_threads_share_the_batch(
    opened: Checkpoint, sound: Vocoder, reference: dict[str, Result]
) -> None:
    answers: dict[str, Result] = {}
    with running(opened, sound) as made:
        parts = [requests(8)[start::3] for start in range(3)]
        threads = [threading.Thread(target=lambda p=p: answers.update(rendered(made, p))) for p in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {k: v.codes for k, v in answers.items() if isinstance(v, Take)} == {
        k: v.codes for k, v in reference.items() if isinstance(v, Take)
    }
    assert len(answers) == 8


def test_interrupted_again_and_again_is_uninterrupted(
    opened: Checkpoint, sound: Vocoder, reference: dict[str, Result]
) -> None:
    """Every third frame the call is stopped, and what was in flight asked for again with its partial."""
    stop = threading.Event()
    kernels = Watched(lambda frame: stop.set() if frame % 3 == 0 else None)
    waiting, answers = {r.key: r for r in requests(8)}, {}
    with running(opened, sound, kernels=kernels) as made:
        while waiting:
            stop.clear()
            for result in made.render(list(waiting.values()), stop):
                if isinstance(result, Partial):
                    old = waiting[result.key]
                    waiting[result.key] = Request(old.key, old.text, old.voice, old.seed, {}, result.state)
                else:
                    answers[result.key] = result
                    del waiting[result.key]
    assert answers == reference


def test_a_stop_amid_512_sequences_is_answered_within_a_frame(endless: Checkpoint, sound: Vocoder) -> None:
    stop, stopped_at = threading.Event(), []

    def before(frame: int) -> None:
        if frame == 3:
            stop.set()
            stopped_at.append(frame)

    kernels = Watched(before)
    with running(endless, sound, slots=512, kernels=kernels) as made:
        results = list(made.render(requests(600, temperature=0), stop))
        assert kernels.frames == stopped_at[0]  # the frame that was under way, and none after it
    assert len(results) == len({r.key for r in results}) == 600
    assert all(isinstance(r, Partial) for r in results)
    assert sorted({r.tokens for r in results if isinstance(r, Partial)}) == [0, 21]
    assert sum(r.tokens == 0 and r.state == b"" for r in results if isinstance(r, Partial)) == 88


def test_a_stop_before_the_start_renders_nothing(opened: Checkpoint, sound: Vocoder) -> None:
    stop = threading.Event()
    stop.set()
    kept = b"of an attempt before this one"
    asked = [Request("a", "A sentence.", VOICES[0], 1), Request("b", "Another.", VOICES[0], 2, {}, kept)]
    with running(opened, sound) as made:
        results = sorted(made.render(asked, stop), key=lambda r: r.key)
    assert results == [Partial("a", b"", 0), Partial("b", b"", 0)]


def test_checkpoints_go_out_while_it_goes_on(endless: Checkpoint, sound: Vocoder) -> None:
    handed: list[Partial] = []
    with running(endless, sound, on_checkpoint=handed.extend, checkpoint_interval=0) as made:
        result = rendered(made, requests(4, max_tokens=420)[3:])["k3"]
        made.close()
        assert isinstance(result, Failure) and result.reason is Reason.TRUNCATED
    first = engine.CHECKPOINT_FRAMES
    assert [p.tokens for p in handed] == [7 * frames for frames in range(first, len(handed) + first)]
    assert len(handed) >= 3
    stop = threading.Event()
    stop.set()
    asked = requests(4, max_tokens=420)[3]
    again = Request(asked.key, asked.text, asked.voice, asked.seed, asked.options, handed[-1].state)
    with running(endless, sound) as made:
        assert list(made.render([again], stop)) == [handed[-1]]  # it is read, and given back as it was


def test_what_has_ended_since_is_in_no_checkpoint(sound: Vocoder) -> None:
    """Its failure is written down, and nobody would ever come for the partial."""
    handed: list[Partial] = []
    goes_on, failed = (SimpleNamespace(end=end) for end in (None, sequence.End.LOOP))
    parts: list[Any] = [(one, Partial(str(one.end), b"state", 7)) for one in (goes_on, failed)]
    made = speech.Speech(sound, 1, True, None, lambda: False, lambda error: None)
    made.hand_out(parts, handed.extend)
    made.close()
    assert [partial.key for partial in handed] == ["None"]


def test_a_checkpoint_that_fails_is_only_logged(
    endless: Checkpoint, sound: Vocoder, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(partials: list[Partial]) -> None:
        raise OSError("the disk is full")

    with running(endless, sound, on_checkpoint=fail, checkpoint_interval=0) as made:
        assert isinstance(rendered(made, requests(4)[3:])["k3"], Failure)
        made.close()
    assert "was not kept" in caplog.text and "the disk is full" in caplog.text


@pytest.mark.parametrize("state", [b"rubbish", b"VMM1" + bytes(40)])
def test_a_corrupt_partial_is_told_and_rendered_afresh(
    opened: Checkpoint,
    sound: Vocoder,
    reference: dict[str, Result],
    state: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(opened, sound) as made:
        asked = [Request(r.key, r.text, r.voice, r.seed, {}, state) for r in requests(2)]
        assert rendered(made, asked) == {key: reference[key] for key in ("k0", "k1")}
    assert "The partial of k0 is not used: it is damaged" in caplog.text
    assert "Traceback" not in caplog.text


def test_out_of_memory_halves_the_slots_and_loses_nothing(
    opened: Checkpoint, sound: Vocoder, reference: dict[str, Result], caplog: pytest.LogCaptureFixture
) -> None:
    errors = {
        3: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        9: torch.AcceleratorError(
            "CUDA error: out of memory"
        ),  # the driver's own, of a library that loads code
    }

    def before(frame: int) -> None:
        if frame in errors:
            raise errors[frame]

    with running(opened, sound, slots=8, kernels=Watched(before)) as made:
        assert rendered(made, requests(8)) == reference
        assert made.slots == 2
    assert "Out of device memory with 8 sequences at once; going on with 4." in caplog.text


def test_as_many_slots_as_there_is_memory_for(opened: Checkpoint, sound: Vocoder) -> None:
    model = Model(opened.shape, opened.load(CPU, torch.float32), plain, CONTEXT)

    def make(slots: int) -> decode.Decoder:
        if slots > 12:
            raise torch.OutOfMemoryError
        if slots > 6:
            raise RuntimeError("Triton Error [CUDA]: out of memory")
        if slots > 3:  # amid a graph's capture, which ends with an error of its own
            try:
                raise torch.OutOfMemoryError
            finally:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        return decode.Decoder(model, cache.Cache(model.shape, slots, CONTEXT, torch.float32, CPU))

    with running(opened, sound, slots=100, make_decoder=make) as made:
        assert made.slots == 3
        assert isinstance(rendered(made, requests(1))["k0"], Take)

    def never(slots: int) -> decode.Decoder:
        raise torch.OutOfMemoryError

    with pytest.raises(faults.OutOfDeviceMemoryError, match="no memory for even one"):
        running(opened, sound, make_decoder=never).__enter__()


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access"), ZeroDivisionError("a mistake of ours")]
)
def test_a_decoder_that_fails_is_the_devices_fault_in_every_call(
    opened: Checkpoint, sound: Vocoder, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that workers end their process: this engine can answer nothing any more, whatever a batch is cut down to."""
    with running(opened, sound) as made:

        def step() -> list[Any]:
            raise error

        monkeypatch.setattr(made._decoder, "step", step)
        for _ in range(2):
            with pytest.raises(DeviceFaultError, match=f"{type(error).__name__}: {error}"):
                list(made.render(requests(3), threading.Event()))


def test_a_device_that_fails_in_the_vocoder_ends_the_engine_too(opened: Checkpoint, sound: Vocoder) -> None:
    def decode(codes: Any, seeds: Any) -> list[np.ndarray]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with running(opened, Other(sound, decode)) as made:
        for _ in range(2):
            with pytest.raises(DeviceFaultError, match="device-side assert"):
                list(made.render(requests(8), threading.Event()))


def test_a_mistake_beside_the_vocoder_hangs_nobody(
    opened: Checkpoint, sound: Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoice, "pcm", lambda sound, trim: 1 / 0)
    with running(opened, sound) as made:
        for _ in range(2):
            with pytest.raises(DeviceFaultError, match="ZeroDivisionError"):
                list(made.render(requests(8), threading.Event()))


def test_a_vocoder_without_memory_gets_some_of_the_decoders(
    opened: Checkpoint, sound: Vocoder, reference: dict[str, Result]
) -> None:
    """There is room for the vocoder beside two slots, and not beside more."""

    def decode(codes: Any, seeds: Any) -> list[np.ndarray]:
        if made.slots > 2:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return sound.decode(codes, seeds)

    with running(opened, Other(sound, decode), slots=8) as made:
        assert rendered(made, requests(8)) == reference
        assert made.slots == 2


def test_a_vocoder_that_no_memory_is_enough_for_ends_the_engine(opened: Checkpoint, sound: Vocoder) -> None:
    def decode(codes: Any, seeds: Any) -> list[np.ndarray]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    refused = pytest.raises(DeviceFaultError, match="no memory for even one sequence")
    with running(opened, Other(sound, decode)) as made, refused:
        list(made.render(requests(8), threading.Event()))


def test_the_first_of_both_kinds_of_length_is_not_a_takes(opened: Checkpoint, sound: Vocoder) -> None:
    """Triton compiles a vocoder's kernels for lengths (four steps a frame) that 16 divides, and for the others."""
    frames: list[int] = []

    def decode(codes: Any, seeds: Any) -> list[np.ndarray]:
        frames.extend(map(len, codes))
        return sound.decode(codes, seeds)

    with running(opened, Other(sound, decode)) as made:
        made.warm_up()
    assert {count * 4 % 16 == 0 for count in frames[-2:]} == {True, False}


class Other:
    """A vocoder that says it is the real one, and decodes in another way."""

    def __init__(self, real: Vocoder, decode: Callable[[Any, Any], list[np.ndarray]]) -> None:
        self.sample_rate, self.identity, self.decode = real.sample_rate, real.identity, decode


def test_a_take_that_the_vocoder_fails_on_fails_alone(
    opened: Checkpoint, sound: Vocoder, reference: dict[str, Result], caplog: pytest.LogCaptureFixture
) -> None:
    key = next(k for k, result in reference.items() if isinstance(result, Take))

    def decode(codes: Any, seeds: Any) -> list[np.ndarray]:
        if int(key[1:]) * 2**50 in seeds:
            raise ValueError("no such sound")
        return sound.decode(codes, seeds)

    with running(opened, Other(sound, decode)) as made:
        answers = rendered(made, requests(8))
    assert answers.pop(key) == Failure(key, Reason.CRASHED, "vocoder: no such sound")
    assert answers == {k: v for k, v in reference.items() if k != key}


def test_what_cannot_be_rendered_fails_alone(opened: Checkpoint, sound: Vocoder) -> None:
    asked = [
        Request("long", "word " * 60, VOICES[0], 1),
        Request("tight", "A sentence of some length.", VOICES[0], 1, {"max_tokens": 35}),
        Request("smuggled", "A <|eot_id|> sentence.", VOICES[0], 1),
        Request("option", "A sentence.", VOICES[0], 1, {"temperature": 9}),
        requests(1)[0],
    ]
    with running(opened, sound) as made:
        answers = rendered(made, asked)
    reasons = {key: result.reason for key, result in answers.items() if isinstance(result, Failure)}
    assert reasons == {
        "long": Reason.TOO_LONG,
        "tight": Reason.TOO_LONG,
        "smuggled": Reason.BAD_TEXT,
        "option": Reason.BAD_TEXT,
    }
    assert "temperature" in answers["option"].detail  # type: ignore[union-attr]


def test_loops_and_truncations_are_failures(endless: Checkpoint, sound: Vocoder) -> None:
    with running(endless, sound) as made:
        truncated = rendered(made, requests(1, max_tokens=105))["k0"]
        assert truncated == Failure(
            "k0", Reason.TRUNCATED, "no end of speech within the budget: 105 tokens (1.3 s) of 11 characters"
        )
    stuck = Watched(lambda frame: None)

    def sample(logits: torch.Tensor, end_logits: torch.Tensor | None, slot: int, rows: Any) -> None:
        one = torch.eye(1, 4096).expand_as(logits)
        plain.sample(one, end_logits if end_logits is None else end_logits * 0, slot, rows)

    stuck.sample = sample  # type: ignore[method-assign]
    with running(endless, sound, kernels=stuck) as made:
        looped = rendered(made, requests(1, temperature=0))["k0"]
    assert looped == Failure(
        "k0", Reason.LOOP, "the same few frames again and again: 56 tokens (0.7 s) of 11 characters"
    )


def test_the_longest_begin_first(endless: Checkpoint, sound: Vocoder) -> None:
    asked = [Request(f"k{n}", "word " * n, VOICES[0], 1, {"max_tokens": 42 * n}) for n in (2, 4, 1, 3)]
    with running(endless, sound, slots=1) as made:
        assert [r.key for r in made.render(asked, threading.Event())] == ["k4", "k3", "k2", "k1"]


def test_closing_gives_partials_and_an_abandoned_call_leaves_no_trace(
    endless: Checkpoint, sound: Vocoder
) -> None:
    reached = threading.Event()
    kernels = Watched(lambda frame: reached.set() if frame >= 5 else None)
    with running(endless, sound, kernels=kernels) as made:
        short, long = Request("s", "Hi.", VOICES[0], 1, {"max_tokens": 35}), requests(3)
        abandoned = made.render([short, *long], threading.Event())
        assert next(abandoned).key == "s"
        abandoned.close()  # type: ignore[attr-defined]
        assert rendered(made, [short])["s"].key == "s"
        reached.clear()
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.extend(made.render(requests(9), threading.Event())))
        thread.start()
        assert reached.wait(60)
        made.close()
        thread.join()
        assert len(results) == 9 and all(isinstance(result, Partial) for result in results)
        with pytest.raises(faults.EngineClosedError, match="closed"):
            list(made.render(requests(1), threading.Event()))


@pytest.fixture
def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "MODEL": folder / "model",
        "SNAC": folder / "snac",
        "DEVICE": "cpu",
        "CACHE": folder,
    }.items():
        monkeypatch.setenv(f"VOICEMILL_MAYA1_{name}", str(value))
    return monkeypatch


def test_loaded_by_its_spec(environment: pytest.MonkeyPatch) -> None:
    made = SPEC.load()
    try:
        assert made.slots == cache.CPU_SLOTS and made.sample_rate == 24_000
        assert made.identity["precision"] == {"model": "fp32", "cache": "fp32", "products": "fp32"}
        answers = rendered(made, requests(3))
        assert all(isinstance(result, Take | Failure) for result in answers.values())
    finally:
        made.close()


def test_eight_bits_show_in_the_identity_the_recipe_and_the_log(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("VOICEMILL_MAYA1_KV_DTYPE", "int8")
    environment.setenv("VOICEMILL_MAYA1_GEMM", "fp8")
    environment.setenv("VOICEMILL_MAYA1_BOS", "single")
    environment.setenv("VOICEMILL_MAYA1_SLOTS", "2")
    caplog.set_level(logging.INFO)
    made = SPEC.load()
    try:
        takes = [result for result in rendered(made, requests(4)).values() if isinstance(result, Take)]
    finally:
        made.close()
    precision = {"model": "bf16", "cache": "int8", "products": "fp8"}
    assert made.identity["precision"] == precision
    assert made.identity["bos"] == "single"
    assert takes and all(take.recipe and take.recipe["precision"] == precision for take in takes)
    (told,) = [record.message for record in caplog.records if "sequences at once" in record.message]
    assert "head tied; 20 tags, ids 156940 .. 156959" in told and "rope_type llama3" in told
    assert told.endswith("on cpu, model in bf16, cache in int8, products in fp8, 2 sequences at once")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DEVICE", "cuda", "VOICEMILL_MAYA1_DEVICE is cuda, and torch"),
        ("DEVICE", "gpu", "there is no kind of device named 'gpu'"),
        ("SLOTS", "none", "maya1_slots is wrong (VOICEMILL_MAYA1_SLOTS): Input should be a valid integer"),
        ("KV_DTYPE", "fp4", "maya1_kv_dtype is wrong (VOICEMILL_MAYA1_KV_DTYPE): Input should be"),
        (
            "DTYPE",
            "fp16",
            "8-bit products come out as bf16 (VOICEMILL_MAYA1_GEMM), which VOICEMILL_MAYA1_DTYPE=fp16",
        ),
        ("DTYPE", "fp32", "which VOICEMILL_MAYA1_DTYPE=fp32 is not"),
    ],
)
def test_what_this_machine_cannot_do_is_told(
    environment: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    if value == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    environment.setenv(f"VOICEMILL_MAYA1_{name}", value)
    if name == "DTYPE":
        environment.setenv("VOICEMILL_MAYA1_GEMM", "fp8")
    with pytest.raises(errors.InputError) as caught:
        SPEC.load()
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_context_beyond_the_model(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VOICEMILL_MAYA1_CONTEXT", "5000")
    with pytest.raises(hub.CheckpointError, match="it has 4096 positions"):
        SPEC.load()


def test_settings_are_described() -> None:
    assert all(field.description for field in Maya1Settings.model_fields.values())
    assert constants.TOKENS_PER_SECOND == SPEC.token_rate == 82.03125
    logging.getLogger("workers").debug("settings: %s", sorted(Maya1Settings.model_fields))
