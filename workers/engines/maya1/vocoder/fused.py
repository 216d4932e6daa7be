"""SNAC's decoder for GPUs: the maths of `snac.Decoder`, laid out so that matrix products and two kernels are all.

Activations are [batch, time, channels]. Pointwise convolutions are products. An upsampling by s with 2 s taps is one
product of each step and the step before it with a [2 C_in, s C_out] matrix, half a stride cut off at both ends. The rest
is `_join` (x += y + bias, and the masked snake of that sum) and `_within` (a convolution within channels, then a snake).

Bytes to move per element of a residual unit, fp16: 4 in `_within` (its neighbours' reads hit the cache), 4 in the product,
8 in `_join`. Over the 12 units of one second of sound that is 190 MB, and about 250 MB in all.
"""

# Triton's compile-time arguments are in capitals, and its functions have no types.
# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import os
from dataclasses import dataclass

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not set

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional

from workers.engines.maya1.vocoder import snac

BLOCK_TIME = 32
BLOCK_CHANNELS = 64


@triton.jit
def _snake(x, alpha):
    # sin² repeats every pi, so half a period either side is enough for a polynomial in r²: 2.4e-7 off at worst, and
    # far fewer instructions than `sin`.
    turns = alpha * 0.3183098861837907 * x
    r = turns - tl.floor(turns + 0.5)
    u = r * r
    p = (((-3.3565927 * u + 13.0500994) * u - 30.1014652) * u + 42.7271957) * u - 32.4696693
    return x + (p * u + 9.8696041) * u * (1.0 / (alpha + 1e-9))


@triton.jit
def _join(
    x, y, bias, noise, alpha, lengths, out, time, channels, row_stride, rate,
    ADD: tl.constexpr, NOISE: tl.constexpr, KEEP: tl.constexpr, BLOCK_TIME: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BLOCK_TIME + tl.arange(0, BLOCK_TIME)
    c = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = (t < time)[:, None] & (c < channels)[None, :]
    place = t[:, None] * channels + c[None, :]
    value = tl.load(x + row * row_stride + place, inside, other=0.0).to(tl.float32)
    if ADD:
        more = tl.load(y + row * time * channels + place, inside, other=0.0).to(tl.float32)
        if NOISE:
            more *= tl.load(noise + row * time + t, t < time, other=0.0).to(tl.float32)[:, None]
        else:
            more += tl.load(bias + c, c < channels, other=0.0).to(tl.float32)[None, :]
        value = (value + more).to(x.dtype.element_ty).to(tl.float32)
        if KEEP:
            tl.store(x + row * row_stride + place, value.to(x.dtype.element_ty), inside)
    value = _snake(value, tl.load(alpha + c, c < channels, other=1.0)[None, :])
    value = tl.where((t < tl.load(lengths + row) * rate)[:, None], value, 0.0)
    tl.store(out + row * time * channels + place, value.to(out.dtype.element_ty), inside)


@triton.jit
def _within(
    x, weight, bias, alpha, out, time, channels, dilation,
    TAPS: tl.constexpr, SNAKE: tl.constexpr, SUM: tl.constexpr, BLOCK_TIME: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BLOCK_TIME + tl.arange(0, BLOCK_TIME)
    c = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = c < channels
    total = tl.zeros((BLOCK_TIME, BLOCK_CHANNELS), tl.float32)
    for tap in tl.static_range(TAPS):
        source = t + (tap - TAPS // 2) * dilation
        own = ((source >= 0) & (source < time))[:, None] & inside[None, :]
        value = tl.load(x + (row * time + source[:, None]) * channels + c[None, :], own, other=0.0)
        total += value.to(tl.float32) * tl.load(weight + tap * channels + c, inside, other=0.0)[None, :]
    if SUM:  # the last convolution: one output channel, then tanh
        y = tl.sum(total, 1) + tl.load(bias)
        tl.store(out + row * time + t, 2.0 / (1.0 + tl.exp(-2.0 * y)) - 1.0, t < time)
    else:
        total += tl.load(bias + c, inside, other=0.0)[None, :]
        if SNAKE:
            total = _snake(total, tl.load(alpha + c, inside, other=1.0)[None, :])
        place = out + (row * time + t[:, None]) * channels + c[None, :]
        tl.store(place, total.to(out.dtype.element_ty), (t < time)[:, None] & inside[None, :])


def join(
    x: Tensor, lengths: Tensor, rate: int, snake: nn.Module, y: Tensor | None = None, bias: Tensor | None = None,
    noise: Tensor | None = None, keep: bool = True,
) -> Tensor:  # fmt: skip
    """snake(x + y + bias), or snake(x + noise * y), zero from each row's lengths * rate on: [batch, time, channels].

    x may have gaps between its rows. keep: x becomes the sum.
    """
    batch, time, channels = x.shape
    assert x.stride()[1:] == (channels, 1) and isinstance(snake, snac.Snake)
    out = x.new_empty(x.shape)
    grid = (triton.cdiv(time, BLOCK_TIME), triton.cdiv(channels, BLOCK_CHANNELS), batch)
    _join[grid](
        x, y, bias, noise, snake.alpha, lengths, out, time, channels, x.stride(0), rate, ADD=y is not None,
        NOISE=noise is not None, KEEP=keep, BLOCK_TIME=BLOCK_TIME, BLOCK_CHANNELS=BLOCK_CHANNELS,
    )  # fmt: skip
    return out


class Within:
    """A convolution within channels [, then a snake]; or, for the decoder's end, summed over them, and tanh of that."""

    def __init__(self, conv: nn.Conv1d, after: snac.Snake | None = None) -> None:
        assert conv.bias is not None
        self.weight = conv.weight.float().flatten(0, 1).T.contiguous()  # [taps, channels]
        self.bias, self.dilation, self.sum = conv.bias.float(), conv.dilation[0], conv.groups == 1
        self.alpha = None if after is None else after.alpha

    def __call__(self, x: Tensor) -> Tensor:
        """[batch, time, channels] -> same shape, or fp32 [batch, time]."""
        batch, time, channels = x.shape
        width = triton.next_power_of_2(channels) if self.sum else BLOCK_CHANNELS
        out = x.new_empty(batch, time, dtype=torch.float32) if self.sum else x.new_empty(x.shape)
        _within[(triton.cdiv(time, BLOCK_TIME), triton.cdiv(channels, width), batch)](
            x, self.weight, self.bias, self.alpha, out, time, channels, self.dilation, TAPS=len(self.weight),
            SNAKE=self.alpha is not None, SUM=self.sum, BLOCK_TIME=BLOCK_TIME, BLOCK_CHANNELS=width,
        )  # fmt: skip
        return out


class Upsample:
    """A transposed convolution of stride s, 2 s taps and padding s / 2."""

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        assert conv.bias is not None
        self.rate, self.channels = conv.stride[0], conv.out_channels
        taps = conv.weight.permute(2, 1, 0)  # [2 s, C_out, C_in]: s of a step's own time, s of the next one's
        self.weight = torch.cat([taps[: self.rate], taps[self.rate :]], -1).flatten(0, 1).contiguous()
        self.bias = conv.bias.repeat(self.rate)

    def __call__(self, x: Tensor) -> Tensor:
        """[batch, time, C_in] -> [batch, time * s, C_out], a view with gaps between its rows."""
        padded = functional.pad(x, (0, 0, 1, 1))
        pairs = torch.cat([padded[:, 1:], padded[:, :-1]], -1)
        wide = functional.linear(pairs, self.weight, self.bias).view(len(x), -1, self.channels)
        return wide[:, self.rate // 2 : -self.rate // 2]


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the decoder's blocks."""

    widen: Upsample
    noise: Tensor | None  # [C, C]
    units: list[tuple[Within, Tensor, Tensor | None]]  # with the pointwise convolution's weight and bias
    snakes: list[snac.Snake]  # before each unit, and after the last


class Decoder:
    """A `snac.Decoder`, rearranged."""

    def __init__(self, decoder: snac.Decoder) -> None:
        self.config = decoder.config
        (first, pointwise), blocks, (snake, last) = decoder.parts
        self.first, self.last = Within(first), Within(last)
        self.pointwise = pointwise.weight[..., 0].contiguous(), pointwise.bias
        ends = [*(block.parts[0] for block in blocks), snake]
        self.snake = ends[0]
        self.stages = []
        for (_, widen, linear, residuals), end in zip((block.parts for block in blocks), ends[1:], strict=True):
            units = [
                (Within(wide, after), product.weight[..., 0].contiguous(), product.bias)
                for _, wide, after, product in (residual.parts for residual in residuals)
            ]
            snakes = [*(residual.parts[0] for residual in residuals), end]
            self.stages.append(
                Stage(Upsample(widen), None if linear is None else linear.weight[..., 0], units, snakes)
            )

    def __call__(self, latent: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
        """See `snac.Decoder.forward`."""
        own = snac.mask(latent.transpose(1, 2), lengths).transpose(1, 2)
        s = join(functional.linear(self.first(latent * own), *self.pointwise), lengths, 1, self.snake)
        for stage, steps, part in zip(self.stages, self.config.steps, self.config.parts(noise), strict=True):
            x = stage.widen(s)
            dither = None if part is None or stage.noise is None else functional.linear(x, stage.noise)
            s = join(x, lengths, steps, stage.snakes[0], dither, noise=part if dither is not None else None)
            for (within, weight, bias), snake in zip(stage.units, stage.snakes[1:], strict=True):
                y = functional.linear(within(s), weight)
                s = join(x, lengths, steps, snake, y, bias, keep=snake is not stage.snakes[-1])
        return self.last(s)
