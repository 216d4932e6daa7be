"""Is it right? Every kernel beside its definition in plain torch, then whole frames."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_parts import inputs
from gpu_parts.bench import FP8, INT8, Bench, name, relative
from workers.engines.maya1 import constants, cuda, decode, kernels, vocoder
from workers.engines.maya1.cache import Cache
from workers.engines.maya1.kernels import LayerCache, plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.vocoder import codec

# mypy: disable-error-code="no-untyped-call"

FRAME_ROWS = 64


def run(bench: Bench, folder: Path) -> None:
    caches = bench.exact, FP8, INT8
    steps: list[tuple[str, Callable[[], None]]] = [
        ("elementwise kernels", partial(elementwise, bench)),
        *((f"attention, {name(kind)} cache", partial(attention, bench, kind)) for kind in caches),
        *((f"far slots, {name(kind)} cache", partial(far_slots, bench, kind)) for kind in caches),
        ("sampler", partial(sampler, bench)),
        ("8-bit products", partial(products, bench)),
        ("vocoder", partial(sound, bench, folder)),
        *((f"a frame, {name(kind)} cache", partial(frame, bench, kind, False)) for kind in caches),
        ("a frame, 8-bit products", partial(frame, bench, FP8, True)),
    ]
    for what, check in steps:
        bench.step(what, 0, check)


def dequantised(matrix: kernels.Matrix) -> torch.Tensor:
    return matrix if isinstance(matrix, torch.Tensor) else matrix.values.float() * matrix.scale


def elementwise(bench: Bench) -> None:
    from workers.engines.maya1.kernels import fast

    s, rows = bench.sizes, bench.sizes.check_rows
    x, residual = bench.random(2, rows, s.hidden)
    weight, gate_up = bench.random(s.hidden), bench.random(rows, 2 * s.intermediate)
    # Triton's interpreter cuts off where a GPU rounds: up to a step, an eighth.
    rough = 0.04 if bench.cuda else 0.126
    for quantise, kind, allowed in ((False, name(bench.exact), 4e-3), (True, "fp8", rough)):
        for what, work in (("add_rms_norm", lambda k, q: k.add_rms_norm(x, residual, weight, 1e-5, q)[0]),
                           ("silu_mul", lambda k, q: k.silu_mul(gate_up, q))):  # fmt: skip
            got, expected = (dequantised(work(each, quantise)) for each in (fast, plain))
            bench.check(f"{what}, {kind}", relative(got, expected), allowed)
    got, expected = (dequantised(each.quantised(x)) for each in (fast, plain))
    bench.check("quantised", relative(got, expected), rough)


def attention(bench: Bench, kv_dtype: torch.dtype) -> None:
    s, rows, length = bench.sizes, bench.sizes.check_rows, bench.sizes.check_length + 8
    slot = torch.randperm(rows, device=bench.device)
    position = torch.randint(0, s.check_length, (rows,), device=bench.device)
    position[: rows // 8] = 0
    filled = inputs.layer_cache(bench, rows, length, kv_dtype)
    written_and_read(bench, f"{name(kv_dtype)} cache", filled, slot, position)


def far_slots(bench: Bench, kv_dtype: torch.dtype) -> None:
    """The last slots of a full layer, whose elements lie beyond 2**31."""
    s = bench.sizes
    few = inputs.layer_cache(bench, 3, s.context, kv_dtype)
    slot = torch.tensor([0, s.far_slots - 22 if bench.cuda else 1, s.far_slots - 1], device=bench.device)
    full = torch.zeros(s.far_slots, *few.data.shape[1:], dtype=kv_dtype, device=bench.device)
    plain.movable(full)[slot] = plain.movable(few.data)
    scale = None
    if few.scale is not None:
        scale = torch.zeros(s.far_slots, *few.scale.shape[1:], device=bench.device)
        scale[slot] = few.scale
    position = torch.tensor([0, 600, s.context - 1], device=bench.device).clamp(max=s.context - 1)
    written_and_read(bench, f"far slots, {name(kv_dtype)} cache", LayerCache(full, scale), slot, position)


def written_and_read(
    bench: Bench, what: str, filled: LayerCache, slot: torch.Tensor, position: torch.Tensor
) -> None:
    """A step's keys and values stored, then attended to: ours and plain torch's, each in its own copy of the cache."""
    from workers.engines.maya1.kernels import fast

    s, length = bench.sizes, filled.data.shape[1]
    rotation = s.shape().rotation(length).to(bench.device)
    qkv = bench.random(len(slot), (s.heads + 2 * s.kv_heads) * s.head_dim)
    copy = LayerCache(filled.data.clone(), None if filled.scale is None else filled.scale.clone())
    both = (fast, filled), (plain, copy)
    queries = [each.rope_and_store(qkv, rotation, own, slot, position) for each, own in both]
    bench.check(f"rope_and_store, queries, {what}", relative(*queries), 4e-3)
    stored = [plain.read(own, slot, length, torch.float32) for _, own in both]
    error = max(relative(a, b) for a, b in zip(*stored, strict=True))
    bench.check(f"rope_and_store, {what}", error, 4e-3 if filled.scale is None else 0.04)
    got, expected = (each.decode_attention(queries[1], copy, slot, position, length) for each in (fast, plain))
    bench.check(f"decode_attention, {what}", relative(got, expected), 6e-3)


def sampler(bench: Bench) -> None:
    """Codes drawn, among them the end of speech, which is allowed here as it is in earnest."""
    from workers.engines.maya1.kernels import fast

    rows = bench.sizes.check_rows
    for slot in (0, 3):
        logits = bench.random(rows, constants.CODES, scale=3)
        end = bench.random(rows, scale=3) + 10 if slot == 0 else None
        ours, theirs = (inputs.rows(bench, rows) for _ in range(2))
        fast.sample(logits, end, slot, ours)
        plain.sample(logits, end, slot, theirs)
        wrong = (ours.codes != theirs.codes).any(1) | (ours.index != theirs.index) | (ours.done != theirs.done)
        bench.check(f"sample, slot {slot}: rows that drew another code", float(wrong.float().mean()), 0.005)


def products(bench: Bench) -> None:
    """8-bit products at every kind of size that cuBLAS has had trouble with."""
    from workers.engines.maya1.kernels import fast

    for columns in (bench.sizes.hidden, bench.sizes.intermediate):
        weight = plain.quantised(bench.random(bench.sizes.hidden, columns, scale=0.02))
        worst = 0.0
        for rows in (8, 16, 96, 256, 257, 512, 1024)[: 7 if bench.cuda else 2]:
            x = plain.quantised(bench.random(rows, columns))
            worst = max(worst, relative(fast.linear(x, weight), plain.linear(x, weight)))
        bench.check(f"products in fp8, {columns} columns, 8 to 1,024 rows", worst, 0.01)


class Watched:
    """Kernels that keep the logits of the first token drawn."""

    def __init__(self, real: kernels.Kernels) -> None:
        self.real = real
        self.logits: torch.Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def sample(self, logits: torch.Tensor, end: torch.Tensor | None, slot: int, rows: Any) -> None:
        if self.logits is None:
            self.logits = logits.clone()
        self.real.sample(logits, end, slot, rows)


def frame(bench: Bench, kv_dtype: torch.dtype, fp8: bool) -> None:
    """A whole frame: with our kernels beside plain torch, and as a graph beside one by one."""
    what = f"{'fp8' if fp8 else name(bench.exact)} products, {name(kv_dtype)} cache"
    if fp8 and not bench.cuda:
        return  # the interpreter cuts bfloat16 off, which 8-bit products come out as
    model, rows = inputs.model(bench, fp8), min(FRAME_ROWS, bench.fitting(kv_dtype))

    def codes(each: Any, runner: Any = None) -> np.ndarray:
        own = Model(model.shape, model.weights, each, bench.sizes.context)
        store = Cache(model.shape, rows, bench.sizes.context, kv_dtype, bench.device)
        decoder = decode.Decoder(own, store, runner)
        members = inputs.sequences(bench.sizes, rows)
        decoder.admit(members)
        decoder.step()
        return np.array([np.frombuffer(member.codes, "<i2") for member in members])

    ours, theirs = Watched(model.kernels), Watched(plain)
    got, expected = codes(ours), codes(theirs)
    assert ours.logits is not None and theirs.logits is not None
    allowed = 0.06 if kv_dtype == bench.exact else 0.15  # rounding alone, twenty-eight layers deep
    bench.check(f"logits after all layers, {what}", relative(ours.logits, theirs.logits), allowed)
    differ = float((got[:, 0] != expected[:, 0]).mean())
    bench.rate(f"first codes that differ from plain torch's, {what}", differ, "of all")
    if bench.cuda:
        graph = codes(model.kernels, cuda.graph_runner)
        bench.check(f"codes of a frame that differ as a CUDA graph, {what}", float((got != graph).mean()), 0.0)


def sound(bench: Bench, folder: Path) -> None:
    frames = [3, 40, 17] if bench.cuda else [1]
    takes = [inputs.codes(count, count) for count in frames]
    plainly = codec.SnacVocoder(folder, torch.device("cpu"), True, lambda decoder: decoder)
    expected = plainly.decode(takes, frames)
    if bench.cuda:
        got = vocoder.load(folder, bench.device, folder, backend="torch").decode(takes, frames)
    else:
        from workers.engines.maya1.vocoder import fused

        fused.BLOCK_TIME = 2048
        got = codec.SnacVocoder(folder, bench.device, True, fused.Decoder).decode(takes, frames)
    joined = [torch.from_numpy(np.concatenate(sounds)) for sounds in (got, expected)]
    bench.check("vocoder, beside fp32 on the CPU", relative(*joined), 0.02)
