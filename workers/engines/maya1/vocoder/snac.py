"""SNAC's 24 kHz decoder in plain torch: the definition of what every faster path must compute.

The layer tree has the names of the published checkpoint, so its weights load by name once weight norm is folded.
A padded batch equals single utterances exactly: zeros are what an utterance has beyond its end, so the input of
every convolution wider than one step is zeroed beyond each row's own length (Snake(0) = 0).
Shapes and facts: the `config.json` of snac_24khz and the source of the package `snac` 1.2.1.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from storage import errors
from workers.engines.maya1 import constants

WEIGHTS = "pytorch_model.bin"
STRIDES = (4, 2, 1)  # latent steps that one code of each level covers; a frame is four latent steps
LATENTS = STRIDES[0]  # latent steps a frame
KERNEL = 7  # taps of every convolution that is neither pointwise nor upsampling
DILATIONS = (1, 3, 9)  # of a block's three residual units


class CodecUnusableError(errors.InputError):
    """The codec checkpoint {path} cannot be used: {reason}."""


@dataclass(frozen=True, slots=True)
class Config:
    """What of SNAC's `config.json` shapes the decoder."""

    sampling_rate: int  # Hz
    latent_dim: int
    decoder_dim: int  # channels before the first block, halved by each
    decoder_rates: tuple[int, ...]  # upsampling of each block
    codebook_size: int
    noise: bool

    @property
    def frame_samples(self) -> int:
        """Samples a frame becomes: 2048 for the 24 kHz model."""
        return LATENTS * self.steps[-1]

    @property
    def steps(self) -> tuple[int, ...]:
        """Time steps per latent step after each block."""
        steps = [1]
        for rate in self.decoder_rates:
            steps.append(steps[-1] * rate)
        return tuple(steps[1:])

    def parts(self, noise: Tensor | None) -> Sequence[Tensor | None]:
        """[batch, steps, sum of `steps`]: the noise of each latent step, as each block's own [batch, time]."""
        if noise is None:
            return [None] * len(self.steps)
        return [part.flatten(1) for part in torch.split(noise, list(self.steps), dim=-1)]


def read_config(path: Path) -> Config:
    """The decoder's part of a SNAC `config.json`. Raises CodecUnusableError if it is another kind of codec."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected = {"attn_window_size": None, "vq_strides": list(STRIDES), "depthwise": True}
        for name, value in expected.items():
            if values[name] != value:
                raise CodecUnusableError(path=path, reason=f"expected {name} {value}, got {values[name]}")
        if any(rate % 2 for rate in values["decoder_rates"]):
            raise CodecUnusableError(path=path, reason=f"odd decoder_rates {values['decoder_rates']}")
        latent = values.get("latent_dim") or values["encoder_dim"] * 2 ** len(values["encoder_rates"])
        return Config(
            sampling_rate=values["sampling_rate"],
            latent_dim=latent,
            decoder_dim=values["decoder_dim"],
            decoder_rates=tuple(values["decoder_rates"]),
            codebook_size=values["codebook_size"],
            noise=values["noise"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CodecUnusableError(path=path, reason=f"{type(error).__name__}: {error}") from error


class Snake(nn.Module):
    """x + sin²(alpha x) / alpha, always in fp32: 1 / alpha overflows fp16 for a small alpha."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time], same shape and type."""
        wide = x.float()
        return (wide + torch.sin(self.alpha * wide).square() / (self.alpha + 1e-9)).to(x.dtype)


def depthwise(channels: int, dilation: int = 1) -> nn.Conv1d:
    """A convolution over time within each channel, as long as its input."""
    padding = dilation * (KERNEL // 2)
    return nn.Conv1d(channels, channels, KERNEL, dilation=dilation, padding=padding, groups=channels)


class Residual(nn.Module):
    """x + pointwise(snake(depthwise(snake(x))))."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        pointwise = nn.Conv1d(channels, channels, 1)
        self.parts = Snake(channels), depthwise(channels, dilation), Snake(channels), pointwise
        self.block = nn.ModuleList(self.parts)

    def forward(self, x: Tensor, own: Tensor) -> Tensor:
        """[batch, channels, time] and its mask, same shape."""
        before, wide, after, pointwise = self.parts
        y: Tensor = pointwise(after(wide(before(x) * own)))
        return x + y


class Block(nn.Module):
    """Snake, upsampling by a transposed convolution, x + noise * linear(x), three residual units."""

    def __init__(self, channels: int, rate: int, noise: bool) -> None:
        super().__init__()
        half = channels // 2
        widen = nn.ConvTranspose1d(channels, half, 2 * rate, rate, rate // 2)
        linear = nn.Conv1d(half, half, 1, bias=False) if noise else None
        residuals = [Residual(half, dilation) for dilation in DILATIONS]
        self.parts = Snake(channels), widen, linear, residuals
        named = [nn.ModuleDict({"linear": linear})] if linear is not None else []
        self.block = nn.ModuleList([*self.parts[:2], *named, *residuals])

    def forward(self, x: Tensor, lengths: Tensor, noise: Tensor | None) -> Tensor:
        """[batch, channels, time] -> [batch, channels / 2, time * rate]; lengths in steps of x; noise for the result."""
        snake, widen, linear, residuals = self.parts
        x = widen(snake(x) * mask(x, lengths))
        if linear is not None and noise is not None:
            x = x + noise[:, None] * linear(x)
        own = mask(x, lengths * widen.stride[0])
        for residual in residuals:
            x = residual(x, own)
        return x


class Decoder(nn.Module):
    """Latent steps to samples. Half precision leaves Snake, the last convolution and tanh in fp32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.decoder_dim // 2**index for index in range(len(config.decoder_rates) + 1)]
        first = depthwise(config.latent_dim), nn.Conv1d(config.latent_dim, widths[0], 1)
        blocks = [Block(*shape, config.noise) for shape in zip(widths, config.decoder_rates, strict=False)]
        last = Snake(widths[-1]), nn.Conv1d(widths[-1], 1, KERNEL, padding=KERNEL // 2)
        self.parts = first, blocks, last
        self.model = nn.ModuleList([*first, *blocks, *last])

    def to_half(self) -> "Decoder":
        """Convert in place to the mixed precision used on GPUs."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d) and layer is not self.model[-1]:
                layer.half()
        return self

    def forward(self, latent: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sound of a batch.

        latent [batch, steps, latent_dim]; lengths [batch], in latent steps; noise as `Config.parts` cuts it.
        Returns fp32 [batch, samples]; what lies beyond a row's length is meaningless.
        """
        (first, pointwise), blocks, (snake, last) = self.parts
        x = latent.transpose(1, 2)
        x = pointwise(first(x * mask(x, lengths)))
        for block, rate, part in zip(blocks, self.config.decoder_rates, self.config.parts(noise), strict=True):
            x = block(x, lengths, part)
            lengths = lengths * rate
        x = snake(x.float())
        return torch.tanh(last(x * mask(x, lengths))).squeeze(1)


def mask(x: Tensor, lengths: Tensor) -> Tensor:
    """[batch, 1, time]: one up to each row's length, zero beyond, in the type of x."""
    return (torch.arange(x.shape[-1], device=x.device) < lengths[:, None])[:, None].to(x.dtype)


class Latents(nn.Module):
    """Codes to the decoder's input. A code's projection is fixed, so each level is one table of latent vectors."""

    def __init__(self, tables: Sequence[Tensor]) -> None:
        super().__init__()
        self.tables = nn.ParameterList([nn.Parameter(table, requires_grad=False) for table in tables])

    def forward(self, codes: Tensor) -> Tensor:
        """[batch, frames, 7] -> [batch, frames * 4, latent_dim]."""
        latent: Tensor | None = None
        for table, slots, stride in zip(self.tables, constants.SNAC_LEVELS, STRIDES, strict=True):
            level = functional.embedding(codes[..., slots].flatten(1), table).repeat_interleave(stride, dim=1)
            latent = level if latent is None else latent + level
        assert latent is not None
        return latent


def digest(path: Path) -> str:
    """sha256 of a SNAC directory's weights and shape. Raises CodecUnusableError."""
    try:
        return hashlib.sha256((path / WEIGHTS).read_bytes() + (path / "config.json").read_bytes()).hexdigest()
    except OSError as error:
        raise CodecUnusableError(path=path, reason=error) from error


def load(path: Path) -> tuple[Latents, Decoder]:
    """A SNAC directory (`config.json`, `pytorch_model.bin`) in fp32 on the CPU. Raises CodecUnusableError."""
    config = read_config(path / "config.json")
    file = path / WEIGHTS
    try:
        weights = fold(torch.load(file, map_location="cpu", weights_only=True))
        decoder = Decoder(config)
        prefix = "decoder."
        decoder.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        tables = [_table(weights, f"quantizer.quantizers.{level}.") for level in range(len(STRIDES))]
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split())[:300]
        raise CodecUnusableError(path=file, reason=f"{type(error).__name__}: {reason}") from error
    return Latents(tables), decoder.eval().requires_grad_(False)


def fold(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with every weight-norm pair (magnitude g, direction v) as the weight g v / |v|, |v| per first index.

    Knows both spellings: `parametrizations.weight.original0/1`, and `weight_g/v` of older files.
    """
    folded = {}
    for name, value in weights.items():
        plain = name.replace("parametrizations.weight.original1", "weight").replace("weight_v", "weight")
        if plain != name:
            gain = weights[name.replace("original1", "original0").replace("weight_v", "weight_g")]
            norm = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
            folded[plain] = value * (gain / norm)
        elif not name.endswith(("original0", "weight_g")):
            folded[name] = value
    return folded


def _table(weights: Mapping[str, Tensor], prefix: str) -> Tensor:
    codebook, projection = weights[prefix + "codebook.weight"], weights[prefix + "out_proj.weight"]
    return codebook @ projection[..., 0].T + weights[prefix + "out_proj.bias"]
