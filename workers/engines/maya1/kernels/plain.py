"""The kernels in plain torch, for any device: the definition that the others are held against."""

import torch
from torch import Tensor
from torch.nn import functional

from workers.engines.maya1 import constants, sampler
from workers.engines.maya1.kernels import LayerCache, Matrix, Quantised, Rows

FP8 = torch.float8_e4m3fn


def quantise(x: Tensor, dtype: torch.dtype) -> Quantised:
    """x in 8 bits (float8_e4m3fn or int8), one scale for each vector of the last dimension (kept as size 1)."""
    largest = torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max
    scale = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / largest
    scaled = x.float() / scale
    return Quantised((scaled if dtype.is_floating_point else scaled.round()).to(dtype), scale)


def linear(x: Matrix, weight: Matrix) -> Tensor:
    """See `Kernels.linear`. 8-bit matrices are multiplied in float32 and come out as bfloat16, as on a GPU."""
    if isinstance(x, Quantised) and isinstance(weight, Quantised):
        product = functional.linear(x.values.float(), weight.values.float())
        return (product * x.scale * weight.scale.T).bfloat16()
    assert isinstance(x, Tensor) and isinstance(weight, Tensor)
    return functional.linear(x, weight)


def add_rms_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float, quantise: bool = False
) -> tuple[Matrix, Tensor]:
    """See `Kernels.add_rms_norm`. Mean square in float32; the weight is applied in the model's dtype."""
    total = x if residual is None else x + residual
    wide = total.float()
    normed = weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(total.dtype)
    return (quantised(normed) if quantise else normed), total


def rope_and_store(qkv: Tensor, rotation: Tensor, cache: LayerCache, slot: Tensor, position: Tensor) -> Tensor:
    """See `Kernels.rope_and_store`."""
    kv_heads, _, width = cache.data.shape[2:]
    heads = qkv.view(len(qkv), -1, width)
    cosine, sine = rotation[position].unsqueeze(1).chunk(2, dim=-1)  # [n, 1, D/2]
    first, second = heads[:, :-kv_heads].float().chunk(2, dim=-1)
    turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1).to(qkv.dtype)
    pair = torch.stack((turned[:, -kv_heads:], heads[:, -kv_heads:]), dim=2)  # [n, V, 2, D]
    if cache.scale is None:
        cache.data[slot, position] = pair
    else:
        values, scale = quantise(pair, cache.data.dtype)
        movable(cache.data)[slot, position] = movable(values)
        cache.scale[slot, :, position] = scale.squeeze(-1)
    return turned[:, :-kv_heads]


def movable(data: Tensor) -> Tensor:
    """The same bytes in a type that every torch can index: 8-bit floats are not among them before 2.7."""
    return data.view(torch.uint8) if data.dtype == FP8 else data


def read(cache: LayerCache, slot: Tensor, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Keys and values of the first `length` positions of some slots: two of [n, length, V, D], unquantised."""
    pair = movable(cache.data)[slot, :length].view(cache.data.dtype)
    if cache.scale is not None:
        pair = pair.float() * cache.scale[slot, :, :length].transpose(1, 2).unsqueeze(-1)
    keys, values = pair.to(dtype).unbind(3)
    return keys, values


def decode_attention(query: Tensor, cache: LayerCache, slot: Tensor, position: Tensor, longest: int) -> Tensor:
    """See `Kernels.decode_attention`. Scores and softmax in float32."""
    keys, values = read(cache, slot, longest, torch.float32)
    rows, heads, width = query.shape
    grouped = query.float().view(rows, keys.shape[2], -1, width)  # [n, V, H/V, D]
    scores = torch.einsum("nvgd,nlvd->nvgl", grouped, keys) * width**-0.5
    beyond = torch.arange(longest, device=query.device) > position[:, None]
    weights = scores.masked_fill(beyond[:, None, None], -torch.inf).softmax(-1)
    return torch.einsum("nvgl,nlvd->nvgd", weights, values).reshape(rows, heads * width).to(query.dtype)


def silu_mul(gate_up: Tensor, quantise: bool = False) -> Matrix:
    """See `Kernels.silu_mul`."""
    gate, up = gate_up.chunk(2, dim=-1)
    product = functional.silu(gate) * up
    return quantised(product) if quantise else product


def sample(logits: Tensor, end_logits: Tensor | None, slot: int, rows: Rows) -> None:
    """See `Kernels.sample`."""
    seen = rows.seen[rows.slot, slot].bool()
    if end_logits is not None:
        early = rows.index < constants.MIN_FRAMES * constants.FRAME
        logits = torch.cat((logits.float(), end_logits.float().masked_fill(early, -torch.inf)[:, None]), dim=1)
        seen = functional.pad(seen, (0, 1))
    column = sampler.choose(logits, seen, rows.penalty, rows.temperature, rows.tail, rows.seed, rows.index)
    rows.done.logical_or_(column == constants.CODES)
    going = ~rows.done
    rows.codes[:, slot] = torch.where(going, column, -1).to(torch.int16)
    rows.seen[rows.slot[going], slot, column[going]] = 1
    rows.token.copy_(torch.where(going, column + constants.AUDIO_START + slot * constants.CODES, rows.token))
    rows.position.add_(going)
    rows.index.add_(going)


def quantised(x: Tensor) -> Quantised:
    """An activation as the 8-bit GEMMs take it."""
    return quantise(x, FP8)
