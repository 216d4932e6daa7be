"""What is rendered, and by what: random weights of the true shape, random texts, lengths drawn beforehand."""

import json
import math
from pathlib import Path

import numpy as np
import torch

from gpu_parts.bench import Bench, Sizes
from workers.engines.engine import Request
from workers.engines.maya1 import constants, kernels
from workers.engines.maya1.kernels import Rows, plain
from workers.engines.maya1.model import Layer, Model, Weights
from workers.engines.maya1.sequence import Sequence
from workers.engines.maya1.vocoder import snac

VOICES, VOICE_TOKENS = 4, 50
TEMPERATURE, TOP_P, PENALTY = 0.4, 0.9, 1.1  # Maya1's official sampling


def model(bench: Bench, fp8: bool = False) -> Model:
    """The same random model each time. fp8: its layers' matrices in 8 bits."""
    torch.manual_seed(0)
    s, dtype = bench.sizes, torch.bfloat16 if fp8 else bench.exact
    embedding = bench.random(156_960, s.hidden, scale=0.02).to(dtype)
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
    weights = Weights(embedding, layers, ones, embedding[constants.SPEECH_END : constants.AUDIO_END])
    return Model(s.shape(), weights, kernels.select(bench.device), s.context)


def codec(folder: Path, sizes: Sizes) -> Path:
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


def codes(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, constants.CODES, (frames, constants.FRAME)).astype(np.int16)


def sequences(sizes: Sizes, count: int) -> list[Sequence]:
    """Requests with a length each. Their text foretells it to within a fifth, and no better."""
    draw = np.random.default_rng(11)
    sigma = 0.5
    mean = math.log(sizes.mean_tokens) - sigma**2 / 2
    tokens = np.exp(draw.normal(mean, sigma, count)).clip(42, sizes.longest)
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


def rows(bench: Bench, count: int) -> Rows:
    """Rows of every kind: greedy, done, before and after the end of speech may be drawn."""
    generator = torch.Generator().manual_seed(5)

    def numbers(high: int) -> torch.Tensor:
        return torch.randint(0, high, (count,), generator=generator).to(bench.device)

    def floats(low: float, high: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * (high - low) + low).to(bench.device)

    seen = torch.rand(count, constants.FRAME, constants.CODES, generator=generator) < 0.2
    return Rows(
        slot=torch.randperm(count, generator=generator).to(bench.device), position=numbers(900), token=numbers(9),
        index=numbers(60), done=numbers(20) == 0, seed=numbers(2**62), temperature=floats(-0.1, 1).clamp(min=0),
        tail=floats(0, 0.3), penalty=floats(1, 1.5),
        codes=torch.zeros(count, constants.FRAME, dtype=torch.int16, device=bench.device),
        seen=seen.to(torch.uint8).to(bench.device),
    )  # fmt: skip


def layer_cache(bench: Bench, slots: int, length: int, kv_dtype: torch.dtype) -> kernels.LayerCache:
    """A layer's cache, filled."""
    s = bench.sizes
    filled = bench.random(slots, length, s.kv_heads, 2, s.head_dim)
    if kv_dtype == bench.exact:
        return kernels.LayerCache(filled, None)
    quantised = plain.quantise(filled, kv_dtype)
    return kernels.LayerCache(quantised.values, quantised.scale.squeeze(-1).transpose(1, 2).contiguous())
