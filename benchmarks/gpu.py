"""Maya1's engine on a GPU: do its kernels compute the right thing, and how fast is it beside its bound and its peers?

    python benchmarks/gpu.py [--out FILE.json]        on the GPU: no network, no weights, at most 8 minutes
    python benchmarks/gpu.py --dry-run-cpu            the same steps at toy sizes, to see that the script works

Weights are random, of the true shape; so is the text. Lengths are forced: each request ends at a frame drawn beforehand
(lognormal, mean about 700 tokens), and the end of speech is computed but never drawn. Times leave out start-up: loading,
compiling, capturing. Audio-seconds are those of kept codes, through the vocoder, on the host.
"""

import argparse
import dataclasses
import gc
import json
import math
import os
import platform
import queue
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

# mypy: disable-error-code="no-untyped-call"

DRY = "--dry-run-cpu" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # has to be chosen before Triton is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from workers.engines.engine import Request  # noqa: E402
from workers.engines.maya1 import constants, cuda, decode, kernels, vocoder  # noqa: E402
from workers.engines.maya1.architecture import Architecture  # noqa: E402
from workers.engines.maya1.cache import Cache  # noqa: E402
from workers.engines.maya1.kernels import LayerCache, Rows, plain  # noqa: E402
from workers.engines.maya1.model import Layer, Model, Weights  # noqa: E402
from workers.engines.maya1.sequence import Sequence  # noqa: E402
from workers.engines.maya1.vocoder import codec, snac  # noqa: E402

ROPE = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
VOICES, VOICE_TOKENS = 4, 50
TEMPERATURE, TOP_P, PENALTY = 0.4, 0.9, 1.1  # Maya1's official sampling
VOCODER_BATCH = 64  # takes
NO_END = 10**6  # frames before which the end of speech may not be drawn: never


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run: the real thing, or a toy that shows that the script works."""

    layers: int = 28
    hidden: int = 3072
    heads: int = 24
    kv_heads: int = 8
    head_dim: int = 128
    intermediate: int = 8192
    codec_dim: int = 1024
    codec_latent: int = 768
    mean_tokens: int = 700
    longest: int = 1900  # tokens
    context: int = 2176
    requests: int = 4096
    slots: int = 512
    slots_8_bit: int = 1024
    sweep: tuple[int, ...] = (64, 128, 256)
    peer_requests: int = 128
    check_rows: int = 256
    check_length: int = 700
    copy_bytes: int = 1 << 31
    square: int = 8192

    def shape(self) -> Architecture:
        return Architecture(
            layers=self.layers, hidden=self.hidden, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
            intermediate=self.intermediate, vocabulary=156_960, positions=131_072, epsilon=1e-5, tied=True, rope=ROPE,
        )  # fmt: skip


TOY = Sizes(
    layers=1, hidden=48, heads=3, kv_heads=1, head_dim=16, intermediate=64, codec_dim=64, codec_latent=32,
    mean_tokens=50, longest=120, context=320, requests=6, slots=4, slots_8_bit=4, sweep=(2,), peer_requests=2,
    check_rows=2, check_length=70, copy_bytes=1 << 16, square=64,
)  # fmt: skip


class Bench:
    """One run: where it is, what it has found, how much time it has left."""

    def __init__(self, sizes: Sizes, device: torch.device, seconds: float) -> None:
        self.sizes, self.device = sizes, device
        self.cuda = device.type == "cuda"
        # Triton's interpreter does not know bfloat16 well.
        self.exact = torch.bfloat16 if self.cuda else torch.float16
        self.started, self.seconds = time.monotonic(), seconds
        self.found: dict[str, Any] = {"checks": [], "runs": [], "peers": [], "operations": [], "failed": []}
        self.wrong = 0

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    def part(self, name: str, needs: float, work: Callable[[], Any]) -> None:
        """A part of the script: skipped without the seconds it needs, and its failure leaves the others be."""
        print(f"\n## {name}", flush=True)
        try:
            if self.left() < needs:
                raise TimeoutError(
                    f"{self.left():.0f} of {self.seconds:.0f} s are left, and it may need {needs:.0f}"
                )
            work()
        except Exception as error:
            self.found["failed"].append(f"{name}: {type(error).__name__}: {error}")
            print(f"Failed: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, TimeoutError):
                traceback.print_exc()
        self.tidy()

    def tidy(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], Any], repeats: int = 10) -> float:
        """Seconds that one call takes, the median after three to warm up."""
        times = []
        for index in range(repeats + 3 if self.cuda else 1):
            self.sync()
            start = time.perf_counter()
            work()
            self.sync()
            times += [time.perf_counter() - start] if index >= 3 or not self.cuda else []
        return sorted(times)[len(times) // 2]

    def check(self, name: str, error: float, allowed: float) -> None:
        right = error <= allowed
        self.wrong += not right
        self.found["checks"].append({"name": name, "error": error, "allowed": allowed, "right": right})
        print(f"{'ok   ' if right else 'WRONG'} {name}: {error:.2g} (at most {allowed:g})", flush=True)

    def random(self, *size: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*size, device=self.device) * scale).to(self.exact)


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square error beside the root mean square."""
    return float((got.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-9))


def dequantised(matrix: kernels.Matrix) -> torch.Tensor:
    return matrix if isinstance(matrix, torch.Tensor) else matrix.values.float() * matrix.scale


# What is rendered


def random_weights(bench: Bench, dtype: torch.dtype, fp8: bool) -> Weights:
    s, embedding = bench.sizes, bench.random(156_960, bench.sizes.hidden, scale=0.02).to(dtype)
    width, ones = s.head_dim, torch.ones(s.hidden, dtype=dtype, device=bench.device)

    def matrix(rows: int, columns: int) -> kernels.Matrix:
        full = bench.random(rows, columns, scale=0.02).to(dtype)
        return plain.quantised(full) if fp8 else full

    layers = [
        Layer(
            input_norm=ones, qkv=matrix((s.heads + 2 * s.kv_heads) * width, s.hidden),
            output=matrix(s.hidden, s.heads * width), post_norm=ones,
            gate_up=matrix(2 * s.intermediate, s.hidden), down=matrix(s.hidden, s.intermediate),
        )
        for _ in range(s.layers)
    ]  # fmt: skip
    return Weights(embedding, layers, ones, embedding[constants.SPEECH_END : constants.AUDIO_END])


def random_codec(folder: Path, sizes: Sizes) -> Path:
    """A SNAC checkpoint of the published shape (its encoder left out)."""
    config = {
        "sampling_rate": constants.SAMPLE_RATE, "latent_dim": sizes.codec_latent, "decoder_dim": sizes.codec_dim,
        "decoder_rates": [8, 8, 4, 2], "attn_window_size": None, "codebook_size": 4096, "vq_strides": [4, 2, 1],
        "noise": True, "depthwise": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    state = snac.Decoder(snac.read_config(folder / "config.json")).state_dict(prefix="decoder.")
    for level in range(3):
        name = f"quantizer.quantizers.{level}"
        state |= {f"{name}.codebook.weight": torch.randn(4096, 8), f"{name}.out_proj.bias": torch.zeros(sizes.codec_latent),
                  f"{name}.out_proj.weight": torch.randn(sizes.codec_latent, 8, 1) * 0.3}  # fmt: skip
    torch.save(state, folder / snac.WEIGHTS)
    return folder


def sequences(sizes: Sizes, count: int) -> list[Sequence]:
    """Requests with a length each. Their text foretells it to within a fifth, and no better."""
    draw = np.random.default_rng(11)
    sigma = 0.5
    tokens = np.exp(draw.normal(math.log(sizes.mean_tokens) - sigma**2 / 2, sigma, count)).clip(
        42, sizes.longest
    )
    voices = [tuple(draw.integers(0, 128_000, VOICE_TOKENS).tolist()) for _ in range(VOICES)]
    made = []
    for index, length in enumerate(tokens):
        characters = int(length / 4.5 * np.exp(draw.normal(0, 0.2)))
        words = draw.integers(0, 128_000, max(5, characters // 4)).tolist()
        voice = voices[index % VOICES]
        prompt = (*voice, *words, constants.SPEECH_START)
        request = Request(str(index), "x" * characters, "", int(draw.integers(2**62)))
        frames = round(float(length) / constants.FRAME)
        made.append(Sequence(request, prompt, voice, frames, TEMPERATURE, TOP_P, PENALTY))
    return made


# Is it right?


def check_kernels(bench: Bench) -> None:
    from workers.engines.maya1.kernels import fast

    s, dtype, rows = bench.sizes, bench.exact, bench.sizes.check_rows
    x, residual = bench.random(2, rows, s.hidden)
    weight, gate_up = bench.random(s.hidden), bench.random(rows, 2 * s.intermediate)
    for quantise in (False, True):
        kind, allowed = ("fp8", 0.04 if bench.cuda else 0.1) if quantise else (str(dtype)[6:], 4e-3)
        for name, run in (("add_rms_norm", lambda k, q: k.add_rms_norm(x, residual, weight, 1e-5, q)[0]),
                          ("silu_mul", lambda k, q: k.silu_mul(gate_up, q))):  # fmt: skip
            got, expected = (dequantised(run(each, quantise)) for each in (fast, plain))
            bench.check(f"{name}, {kind}", relative(got, expected), allowed)
    length = s.check_length + 8
    slot = torch.randperm(rows, device=bench.device)
    position = torch.randint(0, s.check_length, (rows,), device=bench.device)
    position[: rows // 8] = 0
    rotation = s.shape().rotation(length).to(bench.device)
    qkv = bench.random(rows, (s.heads + 2 * s.kv_heads) * s.head_dim)
    for cached in (dtype, torch.float8_e4m3fn, torch.int8):
        filled = bench.random(rows, length, s.kv_heads, 2, s.head_dim)
        parts = (filled, None) if cached == dtype else plain.quantise(filled, cached)
        scale = None if parts[1] is None else parts[1].squeeze(-1).contiguous()
        caches = [LayerCache(parts[0].clone(), None if scale is None else scale.clone()) for _ in range(2)]
        queries = [
            k.rope_and_store(qkv, rotation, c, slot, position)
            for k, c in zip((fast, plain), caches, strict=True)
        ]
        bench.check(f"rope_and_store, queries, {str(cached)[6:]} cache", relative(*queries), 4e-3)
        new = [plain.read(c, slot, length, torch.float32) for c in caches]
        allowed = 4e-3 if cached == dtype else 0.04
        error = max(relative(a, b) for a, b in zip(*new, strict=True))
        bench.check(f"rope_and_store, {str(cached)[6:]} cache", error, allowed)
        got, expected = (
            k.decode_attention(queries[1], caches[1], slot, position, length) for k in (fast, plain)
        )
        bench.check(f"decode_attention, {str(cached)[6:]} cache", relative(got, expected), 6e-3)


def check_sampler(bench: Bench) -> None:
    from workers.engines.maya1.kernels import fast

    rows = bench.sizes.check_rows
    for slot in (0, 3):
        logits, end = (
            bench.random(rows, constants.CODES, scale=3),
            bench.random(rows, scale=3) if slot == 0 else None,
        )
        states = [random_rows(bench, rows) for _ in range(2)]
        for each, state in zip((fast, plain), states, strict=True):
            each.sample(logits, end, slot, state)
        wrong = (states[0].codes != states[1].codes).any(1) | (states[0].index != states[1].index)
        bench.check(f"sample, slot {slot}: rows that drew another code", float(wrong.float().mean()), 0.005)


def random_rows(bench: Bench, rows: int) -> Rows:
    generator = torch.Generator().manual_seed(5)

    def numbers(high: int) -> torch.Tensor:
        return torch.randint(0, high, (rows,), generator=generator).to(bench.device)

    def floats(low: float, high: float) -> torch.Tensor:
        return (torch.rand(rows, generator=generator) * (high - low) + low).to(bench.device)

    seen = torch.rand(rows, constants.FRAME, constants.CODES, generator=generator) < 0.2
    return Rows(
        slot=torch.randperm(rows, generator=generator).to(bench.device), position=numbers(900), token=numbers(9),
        index=numbers(200), done=numbers(20) == 0, seed=numbers(2**62), temperature=floats(-0.1, 1).clamp(min=0),
        tail=floats(0, 0.3), penalty=floats(1, 1.5),
        codes=torch.zeros(rows, constants.FRAME, dtype=torch.int16, device=bench.device),
        seen=seen.to(torch.uint8).to(bench.device),
    )  # fmt: skip


def check_products(bench: Bench) -> None:
    """8-bit products at every kind of size that cuBLAS has had trouble with."""
    from workers.engines.maya1.kernels import fast

    for columns in (bench.sizes.hidden, bench.sizes.intermediate):
        weight = plain.quantised(bench.random(bench.sizes.hidden, columns, scale=0.02))
        worst = 0.0
        for rows in (8, 16, 96, 256, 257, 512, 1024)[: 7 if bench.cuda else 2]:
            x = plain.quantised(bench.random(rows, columns))
            worst = max(worst, relative(fast.linear(x, weight), plain.linear(x, weight)))
        bench.check(f"products in fp8, {columns} columns, 8 to 1,024 rows", worst, 0.01)


def check_frames(bench: Bench, model: Model) -> None:
    """A whole frame: with our kernels beside plain torch, and as a graph beside one by one."""
    rows = min(64, bench.sizes.slots)

    def one_frame(each: kernels.Kernels, runner: Any = None) -> np.ndarray:
        own = Model(model.shape, model.weights, each, bench.sizes.context)
        decoder = decode.Decoder(
            own, Cache(model.shape, rows, bench.sizes.context, bench.exact, bench.device), runner
        )
        members = sequences(bench.sizes, rows)
        decoder.admit(members)
        decoder.step()
        return np.array([np.frombuffer(member.codes, "<i2") for member in members])

    got, expected = one_frame(model.kernels), one_frame(plain)
    bench.check(
        "first codes of a frame that differ from plain torch's",
        float((got[:, 0] != expected[:, 0]).mean()),
        0.15,
    )
    if bench.cuda:
        graph = one_frame(model.kernels, cuda.graph_runner)
        bench.check("codes of a frame that differ as a CUDA graph", float((got != graph).mean()), 0.0)


def check_vocoder(bench: Bench, folder: Path) -> None:
    frames = [3, 40, 17] if bench.cuda else [1]
    codes = [np.random.default_rng(n).integers(0, 4096, (n, 7)).astype(np.int16) for n in frames]
    expected = codec.SnacVocoder(folder, torch.device("cpu"), True, lambda decoder: decoder).decode(
        codes, frames
    )
    if bench.cuda:
        got = vocoder.load(folder, bench.device, folder, backend="torch").decode(codes, frames)
    else:
        from workers.engines.maya1.vocoder import fused

        fused.BLOCK_TIME = 2048
        got = codec.SnacVocoder(folder, bench.device, True, fused.Decoder).decode(codes, frames)
    joined = [torch.from_numpy(np.concatenate(sounds)) for sounds in (got, expected)]
    bench.check("vocoder, beside fp32 on the CPU", relative(*joined), 0.02)


# How fast is it?


@dataclasses.dataclass
class Bound:
    """The least time that decoding can take: products after cache reads, at the rates that this device measured."""

    bytes_per_second: float
    products_per_second: float  # floating-point operations, 16 bits
    weight_bytes: float
    weights: float
    cache_bytes: float  # a token
    rate: float  # 8-bit products' over 16-bit ones'
    seconds: float = 0.0

    def add(self, rows: int, cached: int) -> None:
        """One frame of so many rows, with so many tokens in the cache altogether."""
        products = 2 * self.weights * rows / (self.products_per_second * self.rate)
        step = max(products, self.weight_bytes / self.bytes_per_second)
        read = (cached + 3 * rows) * self.cache_bytes / self.bytes_per_second
        self.seconds += constants.FRAME * (step + read)


def measure_device(bench: Bench) -> None:
    source = torch.empty(bench.sizes.copy_bytes, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    square = bench.random(bench.sizes.square, bench.sizes.square)
    bandwidth = 2 * bench.sizes.copy_bytes / bench.time(lambda: target.copy_(source))
    rate = 2 * bench.sizes.square**3 / bench.time(lambda: square @ square)
    bench.found["device"] = {"bytes_per_second": bandwidth, "products_per_second": rate}
    print(f"copies at {bandwidth / 1e12:.2f} TB/s, 16-bit products at {rate / 1e12:.0f} TFLOP/s")


def measure_operations(bench: Bench) -> None:
    """The rates of the two kinds of work that a decode step is made of."""
    from workers.engines.maya1.kernels import fast

    s, each = bench.sizes, bench.found["operations"]
    for rows, length in ((256, 300), (256, 600), (512, 600), (512, 1200)) if bench.cuda else ((2, 16),):
        for cached in (bench.exact, torch.float8_e4m3fn, torch.int8):
            data = torch.zeros(rows, length, s.kv_heads, 2, s.head_dim, device=bench.device).to(cached)
            scale = None if cached == bench.exact else torch.ones(data.shape[:-1], device=bench.device)
            query, slot = bench.random(rows, s.heads, s.head_dim), torch.arange(rows, device=bench.device)
            position = torch.full_like(slot, length - 1)
            arguments = query, LayerCache(data, scale), slot, position, length
            seconds = bench.time(partial(fast.decode_attention, *arguments))
            moved = data.nbytes + (0 if scale is None else scale.nbytes)
            each.append(
                {"name": f"attention {rows} x {length}, {str(cached)[6:]}", "TB/s": moved / seconds / 1e12}
            )
    width = (s.heads + 2 * s.kv_heads) * s.head_dim
    shapes = (width, s.hidden), (s.hidden, s.hidden), (2 * s.intermediate, s.hidden), (s.hidden, s.intermediate)
    for outputs, inputs in shapes:
        weight = bench.random(outputs, inputs)
        for rows in (256, 512, 1024) if bench.cuda else (16,):
            x = bench.random(rows, inputs)
            for kind, a, b in (("16-bit", x, weight), ("fp8", plain.quantised(x), plain.quantised(weight))):
                seconds = bench.time(partial(fast.linear, a, b))
                rate = 2 * rows * outputs * inputs / seconds / 1e12
                each.append({"name": f"{kind} product {rows} x {inputs} x {outputs}", "TFLOP/s": rate})
    for found in each:
        name, rate = found.values()
        print(f"{name}: {rate:.3g} {list(found)[1]}")


def measure_vocoders(bench: Bench, folder: Path) -> None:
    """Both backends on takes of the usual length, and the TensorRT one beside the other."""
    takes, frames = (256, bench.sizes.mean_tokens // constants.FRAME) if bench.cuda else (1, 1)
    codes = [np.random.default_rng(n).integers(0, 4096, (frames, 7)).astype(np.int16) for n in range(takes)]
    sounds: dict[str, np.ndarray] = {}
    for backend in ("torch", "tensorrt"):
        try:
            sound = vocoder.load(folder, bench.device, folder, backend=backend)
        except vocoder.tensorrt.TensorRTError as error:
            print(f"vocoder, {backend}: {error}")
            continue
        sounds[backend] = np.concatenate(sound.decode(codes, range(takes)))
        seconds = bench.time(lambda: sound.decode(codes, range(takes)), repeats=3)  # noqa: B023
        rate = len(sounds[backend]) / constants.SAMPLE_RATE / seconds
        bench.found["operations"].append({"name": f"vocoder, {backend}", "audio-s/s": rate})
        print(f"vocoder, {backend}: {rate:.0f} audio-s/s")
    if len(sounds) > 1:
        bench.check("vocoder, TensorRT beside torch", relative(*map(torch.from_numpy, sounds.values())), 0.02)


@dataclasses.dataclass
class Result:
    """One run's times, in seconds."""

    name: str
    slots: int
    requests: int
    audio: float = 0.0
    tokens: int = 0
    total: float = 0.0
    prefill: float = 0.0
    frames: float = 0.0
    bound: float = 0.0
    vocoder: float = 0.0  # all of it once more, alone

    def row(self) -> str:
        shares = [self.prefill, self.vocoder, max(0.0, self.total - self.prefill - self.frames)]
        cells = [
            self.name,
            self.slots,
            self.requests,
            f"{self.audio / self.total:.0f}",
            f"{self.tokens / self.total:.0f}",
        ]
        cells += [f"{self.bound / self.total:.2f}", *(f"{share / self.total:.1%}" for share in shares)]
        return f"| {' | '.join(map(str, cells))} |"


COLUMNS = (
    "what",
    "rows",
    "requests",
    "audio-s/s",
    "tokens/s",
    "of bound",
    "prefill",
    "vocoder, alone",
    "in between",
)
HEADING = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def run(
    bench: Bench, name: str, model: Model, cached: torch.dtype, slots: int, requests: int, folder: Path
) -> Result:
    """Everything that so many requests take: prefill, decoding, drawing, the vocoder beside it, the copies."""
    times: list[Any] = []

    def timed(*state: Any) -> decode.Runner:
        inner = (cuda.graph_runner if bench.cuda else decode.plain_runner)(*state)

        def one(count: int, longest: int) -> None:
            with stopwatch(bench, times):
                inner(count, longest)

        return one

    sound = vocoder.load(folder, bench.device, folder, backend="torch")
    decoder = decode.Decoder(model, Cache(model.shape, slots, bench.sizes.context, cached, bench.device), timed)
    short = sequences(bench.sizes, 1)
    short[0].budget = 5  # frames
    render(bench, decoder, sound, short, Result("", 0, 0))  # loads what is loaded on first use
    times.clear()
    result, members = Result(name, slots, requests), sequences(bench.sizes, requests)
    render(bench, decoder, sound, members, result)
    result.frames = sum(taken() for taken in times)
    alone = Result("", 0, 0)
    start = time.perf_counter()
    done, worker = start_vocoder(sound, alone)
    for member in [*members, None]:
        done.put(member)
    worker.join()
    result.vocoder = time.perf_counter() - start
    assert all(member.frames == member.budget for member in members), "a request did not reach its length"
    assert abs(result.audio - result.tokens / constants.TOKENS_PER_SECOND) < 0.01, (
        "some codes did not become sound"
    )
    bench.found["runs"].append(dataclasses.asdict(result))
    print(result.row(), flush=True)
    return result


def render(
    bench: Bench, decoder: decode.Decoder, sound: vocoder.Vocoder, members: list[Sequence], result: Result
) -> None:
    """As the engine does it: longest first, admitted when a 32nd of the slots is free, the vocoder in its thread."""
    waiting = sorted(members, key=lambda member: -member.remaining)
    bound = bound_of(bench, decoder.model, decoder.cache)
    bench.sync()
    start = time.perf_counter()
    done, worker = start_vocoder(sound, result)
    while waiting or decoder.active:
        room = len(decoder.free)
        if waiting and (room >= max(1, decoder.cache.slots // 32) or not decoder.active):
            before = time.perf_counter()
            decoder.admit(waiting[:room])
            del waiting[:room]
            bench.sync()
            result.prefill += time.perf_counter() - before
        bound.add(len(decoder.active), sum(len(m.prompt) + len(m.codes) // 2 for m in decoder.active))
        for member in decoder.step():
            done.put(member)
    done.put(None)
    worker.join()
    result.total = time.perf_counter() - start
    result.bound = bound.seconds
    result.tokens = sum(len(member.codes) // 2 for member in members)


@contextmanager
def stopwatch(bench: Bench, times: list[Any]) -> Iterator[None]:
    """Adds a function that tells, later, how long the device took."""
    if not bench.cuda:
        before = time.perf_counter()
        yield
        taken = time.perf_counter() - before
        times.append(lambda: taken)
        return
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    yield
    end.record()
    times.append(lambda: begin.elapsed_time(end) / 1000)


def bound_of(bench: Bench, model: Model, store: Cache) -> Bound:
    matrices = [
        m for layer in model.weights.layers for m in (layer.qkv, layer.output, layer.gate_up, layer.down)
    ]
    values = [m if isinstance(m, torch.Tensor) else m.values for m in matrices]
    head = constants.CODES * bench.sizes.hidden
    position = store.data[:, 0, 0].nbytes + (0 if store.scale is None else store.scale[:, 0, 0].nbytes)
    return Bound(
        **bench.found["device"], weight_bytes=sum(v.nbytes for v in values) + head * 2,
        weights=sum(v.numel() for v in values) + head, cache_bytes=position, rate=2.0 if model.quantised else 1.0,
    )  # fmt: skip


def start_vocoder(sound: vocoder.Vocoder, result: Result) -> tuple[Any, threading.Thread]:
    """A thread that makes sound of the sequences it is sent, up to None, and counts its seconds."""
    done: queue.SimpleQueue[Sequence | None] = queue.SimpleQueue()

    def work() -> None:
        over = False
        while not over:
            batch = [done.get()]
            while batch[-1] is not None and len(batch) < VOCODER_BATCH and not done.empty():
                batch.append(done.get())
            over = batch[-1] is None
            members = [member for member in batch if member is not None]
            codes = [
                np.frombuffer(bytes(member.codes), "<i2").reshape(-1, constants.FRAME) for member in members
            ]
            sounds = sound.decode(codes, [member.request.seed for member in members])
            result.audio += sum(len(each) for each in sounds) / constants.SAMPLE_RATE

    worker = threading.Thread(target=work)
    worker.start()
    return done, worker


# Its peers


def transformers_model(bench: Bench, model: Model) -> Any:
    """transformers' Llama with our weights, in the same memory."""
    import transformers

    transformers.logging.set_verbosity_error()
    s = model.shape
    config = transformers.LlamaConfig(
        vocab_size=s.vocabulary, hidden_size=s.hidden, intermediate_size=s.intermediate, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, rms_norm_eps=s.epsilon,
        max_position_embeddings=s.positions, tie_word_embeddings=True, rope_parameters=dict(s.rope),
        bos_token_id=constants.BOS, eos_token_id=None, pad_token_id=constants.TEXT_END,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": model.weights.embedding, "model.norm.weight": model.weights.norm,
             "lm_head.weight": model.weights.embedding}  # fmt: skip
    for index, layer in enumerate(model.weights.layers):
        name, width = f"model.layers.{index}.", s.kv_heads * s.head_dim
        q, k, v = plain_matrix(layer.qkv).split([s.heads * s.head_dim, width, width])
        gate, up = plain_matrix(layer.gate_up).chunk(2)
        output, down = plain_matrix(layer.output), plain_matrix(layer.down)
        state |= {f"{name}self_attn.{n}_proj.weight": w for n, w in zip("qkvo", (q, k, v, output), strict=True)}
        state |= {f"{name}mlp.{n}_proj.weight": w for n, w in (("gate", gate), ("up", up), ("down", down))}
        state |= {f"{name}input_layernorm.weight": layer.input_norm}
        state |= {f"{name}post_attention_layernorm.weight": layer.post_norm}
    theirs.load_state_dict(state, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config=config).to(bench.device)
    return theirs.eval()


def plain_matrix(matrix: kernels.Matrix) -> torch.Tensor:
    assert isinstance(matrix, torch.Tensor)
    return matrix


def peers(bench: Bench, model: Model, ours: Result) -> None:
    import transformers

    theirs = transformers_model(bench, model)
    ids = torch.randint(0, 156_960, (64,), device=bench.device)
    expected, got = theirs(ids[None]).logits[0].float(), model.logits(ids, model.weights.embedding)
    bench.check("logits of a prompt, beside transformers", relative(got, expected), 0.05)
    attention = theirs.config._attn_implementation
    print(f"{ours.requests} requests, transformers {transformers.__version__}, attention: {attention}")
    needs = 100 if bench.cuda else 1
    batch, continuous = "transformers generate, one static batch", "transformers continuous batching"
    bench.part(batch, needs, lambda: beside(bench, ours, batch, static_batch, theirs, "but nothing else"))
    lacks = "and the repetition penalty, which it does not support"
    bench.part(continuous, needs, lambda: beside(bench, ours, continuous, continuous_batching, theirs, lacks))


def beside(
    bench: Bench, ours: Result, name: str, generate: Callable[..., Any], theirs: Any, lacks: str
) -> None:
    """A peer on the requests that `ours` was measured on, ended at the same lengths."""
    members = sequences(bench.sizes, ours.requests)
    lengths = [member.budget * constants.FRAME for member in members]
    seconds, made = generate(bench, theirs, members, lengths)
    speed = made / constants.TOKENS_PER_SECOND / seconds
    ratio = ours.audio / ours.total / speed
    bench.found["peers"].append(
        {"name": name, "audio_per_second": speed, "ours_over_it": ratio, "lacks": lacks}
    )
    print(
        f"{speed:.2f} audio-s/s; ours on the same requests {ratio:.1f} times that. It lacks a vocoder, {lacks}."
    )


def static_batch(bench: Bench, theirs: Any, members: list[Sequence], lengths: list[int]) -> tuple[float, int]:
    import transformers

    width = max(len(member.prompt) for member in members)
    gaps = [width - len(member.prompt) for member in members]
    ids = torch.tensor(
        [[constants.TEXT_END] * gap + list(m.prompt) for gap, m in zip(gaps, members, strict=True)]
    )
    mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in gaps]).to(bench.device)
    ids = ids.to(bench.device)
    ends = torch.tensor(lengths, device=bench.device) + width

    class Forced(transformers.StoppingCriteria):
        def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return ids.shape[1] >= ends

    def generate(limit: int) -> None:
        theirs.generate(
            ids, attention_mask=mask, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0,
            repetition_penalty=PENALTY, max_new_tokens=limit,
            stopping_criteria=transformers.StoppingCriteriaList([Forced()]),
        )  # fmt: skip

    generate(3)
    bench.sync()
    start = time.perf_counter()
    generate(max(lengths))
    bench.sync()
    return time.perf_counter() - start, sum(lengths)


def continuous_batching(
    bench: Bench, theirs: Any, members: list[Sequence], lengths: list[int]
) -> tuple[float, int]:
    import transformers

    settings = transformers.GenerationConfig(
        do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0, eos_token_id=-1, max_new_tokens=max(lengths),
        pad_token_id=constants.TEXT_END,
    )  # fmt: skip
    size: dict[str, Any] = (
        {} if bench.cuda else {"num_blocks": 8, "max_batch_tokens": 64}
    )  # it cannot see a CPU's memory
    config = transformers.ContinuousBatchingConfig(
        allow_block_sharing=False, **size
    )  # as its documentation advises
    made = 0
    with theirs.continuous_batching_context_manager(settings, continuous_batching_config=config) as manager:
        for warm, limits in ((True, [3] * len(members)), (False, lengths)):
            start = time.perf_counter()
            for index, (member, limit) in enumerate(zip(members, limits, strict=True)):
                manager.add_request(list(member.prompt), request_id=f"{warm}{index}", max_new_tokens=limit)
            for _ in members:
                answer = None
                while answer is None or not answer.is_finished():
                    answer = manager.get_result(timeout=1)
                    if not manager.is_running() or bench.left() < 5:
                        raise RuntimeError("it stopped, or there was no time for it to finish")
                made += 0 if warm else len(answer.generated_tokens)
    return time.perf_counter() - start, made


# All of it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run-cpu", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--seconds", type=float, default=470, help="parts that would not fit are skipped")
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    options = parser.parse_args()
    if DRY:
        torch.set_num_threads(1)
    if not options.dry_run_cpu and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured. --dry-run-cpu shows that the script works.")
        return 0
    sizes, device = (TOY, "cpu") if options.dry_run_cpu else (Sizes(), "cuda")
    bench = Bench(sizes, torch.device(device), options.seconds)
    torch.manual_seed(0)
    constants.MIN_FRAMES = NO_END
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        measure(bench, random_codec(Path(folder), bench.sizes))
    if options.out:
        options.out.write_text(json.dumps(bench.found, indent=1))
    print(f"\n{bench.wrong} checks wrong; {time.monotonic() - bench.started:.0f} s")
    return 1 if bench.wrong else 0


def measure(bench: Bench, folder: Path) -> None:
    s, exact, fp8 = bench.sizes, bench.exact, torch.float8_e4m3fn
    bench.found["where"] = {
        "device": torch.cuda.get_device_name() if bench.cuda else "CPU", "torch": torch.__version__,
        "cuda": torch.version.cuda, "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(), "command": " ".join(sys.argv),
    }  # fmt: skip
    print(json.dumps(bench.found["where"]))
    measure_device(bench)
    model = Model(s.shape(), random_weights(bench, exact, False), kernels.select(bench.device), s.context)
    for check in (check_kernels, check_sampler, check_products):
        check(bench)
    check_vocoder(bench, folder)
    check_frames(bench, model)
    bench.tidy()
    bench.part("Operations", 20, lambda: measure_operations(bench))
    bench.part("Vocoders", 120 if bench.cuda else 1, lambda: measure_vocoders(bench, folder))
    name = str(exact)[6:]
    print(f"\n{HEADING}")

    def run_rows(name: str, cached: torch.dtype, slots: int, requests: int) -> Result:
        return run(bench, name, model, cached, slots, requests, folder)

    def run_peers() -> None:
        ours = run_rows(f"{name}, the peers' requests", exact, s.peer_requests, s.peer_requests)
        bench.tidy()
        peers(bench, model, ours)

    def run_fp8() -> None:
        model.weights = random_weights(bench, torch.bfloat16, True)
        quantised = Model(s.shape(), model.weights, model.kernels, s.context)
        run(bench, "fp8 products and cache", quantised, fp8, s.slots_8_bit, s.requests, folder)

    bench.part(f"{name}, {s.slots} rows", 150, lambda: run_rows(name, exact, s.slots, s.requests))
    bench.part("Peers", 120, run_peers)
    bench.part("fp8 cache", 100, lambda: run_rows(f"{name}, fp8 cache", fp8, s.slots_8_bit, s.requests))
    for slots in s.sweep:
        bench.part(f"{name}, {slots} rows", 30, partial(run_rows, name, exact, slots, 2 * slots))
    bench.part("fp8 products and cache", 90, run_fp8)


if __name__ == "__main__":
    sys.exit(main())
