"""What the device can do, what our operations make of it, and the least time that decoding could take."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gpu_parts import inputs
from gpu_parts.bench import FP8, INT8, Bench, name, relative
from workers.engines.maya1 import constants, vocoder
from workers.engines.maya1.cache import Cache
from workers.engines.maya1.kernels import LayerCache, plain
from workers.engines.maya1.model import Model

# mypy: disable-error-code="no-untyped-call"


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


def bound(bench: Bench, model: Model, store: Cache) -> Bound:
    matrices = [
        m for layer in model.weights.layers for m in (layer.qkv, layer.output, layer.gate_up, layer.down)
    ]
    values = [m if isinstance(m, torch.Tensor) else m.values for m in matrices]
    head = constants.CODES * bench.sizes.hidden
    position = store.data[:, 0, 0].nbytes + (0 if store.scale is None else store.scale[:, 0, :, 0].nbytes)
    return Bound(
        **bench.found["device"], weight_bytes=sum(v.nbytes for v in values) + head * 2,
        weights=sum(v.numel() for v in values) + head, cache_bytes=position, rate=2.0 if model.quantised else 1.0,
    )  # fmt: skip


def device(bench: Bench) -> None:
    source = torch.empty(bench.sizes.copy_bytes, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    square = bench.random(bench.sizes.square, bench.sizes.square)
    bandwidth = 2 * bench.sizes.copy_bytes / bench.time(lambda: target.copy_(source))
    rate = 2 * bench.sizes.square**3 / bench.time(lambda: square @ square)
    bench.found["device"] = {"bytes_per_second": bandwidth, "products_per_second": rate}
    print(f"copies at {bandwidth / 1e12:.2f} TB/s, 16-bit products at {rate / 1e12:.0f} TFLOP/s")


def operations(bench: Bench, folder: Path) -> None:
    """The two kinds of work that a decode step is made of."""
    bench.step("attention", 10, partial(attention, bench))
    bench.step("products", 10, partial(products, bench))


def attention(bench: Bench) -> None:
    from workers.engines.maya1.kernels import fast

    s = bench.sizes
    for rows, length in ((256, 300), (256, 600), (512, 600), (512, 1200)) if bench.cuda else ((2, 16),):
        for cached in (bench.exact, FP8, INT8):
            data = torch.zeros(rows, length, s.kv_heads, 2, s.head_dim, device=bench.device).to(cached)
            scale = None
            if cached != bench.exact:
                scale = torch.ones(rows, s.kv_heads, length, 2, device=bench.device)
            query, slot = bench.random(rows, s.heads, s.head_dim), torch.arange(rows, device=bench.device)
            position = torch.full_like(slot, length - 1)
            arguments = query, LayerCache(data, scale), slot, position, length
            seconds = bench.time(partial(fast.decode_attention, *arguments))
            moved = data.nbytes + (0 if scale is None else scale.nbytes)
            bench.rate(f"attention {rows} x {length}, {name(cached)}", moved / seconds / 1e12, "TB/s")


def products(bench: Bench) -> None:
    from workers.engines.maya1.kernels import fast

    s = bench.sizes
    width = (s.heads + 2 * s.kv_heads) * s.head_dim
    shapes = (width, s.hidden), (s.hidden, s.hidden), (2 * s.intermediate, s.hidden), (s.hidden, s.intermediate)
    for outputs, given in shapes:
        weight = bench.random(outputs, given)
        for rows in (256, 384, 512, 640, 768, 1024) if bench.cuda else (16,):
            x = bench.random(rows, given)
            for kind, a, b in (("16-bit", x, weight), ("fp8", plain.quantised(x), plain.quantised(weight))):
                seconds = bench.time(partial(fast.linear, a, b))
                rate = 2 * rows * outputs * given / seconds / 1e12
                bench.rate(f"{kind} product {rows} x {given} x {outputs}", rate, "TFLOP/s")


def vocoders(bench: Bench, folder: Path) -> None:
    """Both backends on takes of the usual length, and the TensorRT one beside the other."""
    torchs = bench.step("vocoder, torch", 20, partial(vocoder_rate, bench, folder, "torch"))
    tensorrts = bench.step("vocoder, tensorrt", 120, partial(vocoder_rate, bench, folder, "tensorrt"))
    if torchs is not None and tensorrts is not None:
        bench.check("vocoder, TensorRT beside torch", relative(tensorrts, torchs), 0.02)


def vocoder_rate(bench: Bench, folder: Path, backend: vocoder.Backend) -> torch.Tensor | None:
    takes, frames = (256, bench.sizes.mean_tokens // constants.FRAME) if bench.cuda else (1, 1)
    codes = [inputs.codes(frames, seed) for seed in range(takes)]
    try:
        sound = vocoder.load(folder, bench.device, folder, backend=backend)
    except vocoder.tensorrt.TensorRTError as error:
        print(f"vocoder, {backend}: {error}")
        return None
    joined = np.concatenate(sound.decode(codes, range(takes)))
    seconds = bench.time(lambda: sound.decode(codes, range(takes)), repeats=3)
    bench.rate(f"vocoder, {backend}", len(joined) / constants.SAMPLE_RATE / seconds, "audio-s/s")
    return torch.from_numpy(joined)
