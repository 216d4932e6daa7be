"""The shape of the language model, read from `config.json` as either generation of transformers writes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FIXED = {  # what the engine's maths takes for granted
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Llama's shape. `rope` is a `rope_parameters` dictionary with `rope_type` and `rope_theta`."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    positions: int
    epsilon: float
    tied: bool
    rope: Mapping[str, Any]

    def rotation(self, length: int) -> Tensor:
        """float32 [length, head_dim]: for each position the cosines of head_dim/2 angles, then their sines."""
        angles = torch.arange(length).float()[:, None] * self._frequencies()
        return torch.cat((angles.cos(), angles.sin()), dim=-1)

    def _frequencies(self) -> Tensor:
        """Radians a position, float32 [head_dim / 2]; llama3's scaling as Meta published it with Llama 3.1."""
        exponent = torch.arange(0, self.head_dim, 2).float() / self.head_dim
        plain: Tensor = 1.0 / (self.rope["rope_theta"] ** exponent)
        if self.rope["rope_type"] == "default":
            return plain
        factor = float(self.rope["factor"])
        if self.rope["rope_type"] == "linear":
            return plain / factor
        low, high = self.rope["low_freq_factor"], self.rope["high_freq_factor"]
        original = self.rope["original_max_position_embeddings"]
        wavelength = 2 * math.pi / plain
        smooth = (original / wavelength - low) / (high - low)
        blended = (1 - smooth) * plain / factor + smooth * plain
        scaled = torch.where(wavelength > original / low, plain / factor, plain)
        between = (wavelength <= original / low) & (wavelength >= original / high)
        return torch.where(between, blended, scaled)


def parse(config: Mapping[str, Any]) -> Architecture:
    """The shape that a `config.json` states. Raises ValueError naming the entry that is missing or unsupported."""
    for name, wanted in FIXED.items():
        if config.get(name, wanted) != wanted:
            raise ValueError(f"{name} is {config[name]!r}, and only {wanted!r} is supported")
    heads = _count(config, "num_attention_heads")
    kv_heads = _count(config, "num_key_value_heads", heads)
    hidden = _count(config, "hidden_size")
    head_dim = _count(config, "head_dim", hidden // heads)
    if heads % kv_heads or head_dim % 2:
        raise ValueError(
            f"{heads} heads over {kv_heads} key/value heads of width {head_dim} do not fit together"
        )
    return Architecture(
        layers=_count(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=_count(config, "intermediate_size"),
        vocabulary=_count(config, "vocab_size"),
        positions=_count(config, "max_position_embeddings"),
        epsilon=_number(config, "rms_norm_eps"),
        tied=bool(config.get("tie_word_embeddings", False)),
        rope=_rope(config),
    )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """transformers 5 writes `rope_parameters`; 4 wrote `rope_theta` beside `rope_scaling`, once with `type`."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = {"rope_theta": config.get("rope_theta"), **given}
    rope["rope_type"] = given.get("rope_type", given.get("type", "default"))
    if rope["rope_type"] not in ROPE_TYPES:
        raise ValueError(f"rope_type is {rope['rope_type']!r}, and only {', '.join(ROPE_TYPES)} are supported")
    needed = ["rope_theta"]
    if rope["rope_type"] != "default":
        needed.append("factor")
    if rope["rope_type"] == "llama3":
        needed += ["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    for name in needed:
        _number(rope, name)
    return rope


def _number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = config.get(name)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{name} should be a number above 0, and is {value!r}")
    return value


def _count(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = _number(config, name, default)
    if value != int(value):
        raise ValueError(f"{name} should be a whole number, and is {value!r}")
    return int(value)
