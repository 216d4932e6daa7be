"""Each Triton kernel beside its definition in plain torch, on random numbers. Run by test_kernels_interpreted.py.

The interpreter cuts bfloat16 off where a GPU rounds it, gets some fp8 roundings wrong, and cannot multiply bfloat16
matrices: so bfloat16 is allowed an error of one unit in the last place, fp8 a few wrong values, and attention runs in
fp16 and fp32 here. benchmarks/gpu.py holds all of it against plain torch on a real GPU.
"""

import pytest
import torch
from torch import Tensor

from workers.engines.maya1.kernels import LayerCache, Matrix, Quantised, fast, plain

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1.6e-2}  # relative
TYPES = list(TOLERANCE)
EIGHT_BIT = [torch.float8_e4m3fn, torch.int8]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def close(got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def close_8_bit(got: Matrix, expected: Matrix, dtype: torch.dtype) -> None:
    assert isinstance(got, Quantised) and isinstance(expected, Quantised)
    close(got.scale, expected.scale, dtype)
    wrong = (got.values.float() - expected.values.float()).abs() > 0.13 * expected.values.float().abs()
    assert wrong.float().mean() < 0.05, wrong.float().mean()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [48, 3072])
@pytest.mark.parametrize("first", [True, False])
def test_the_norm_of_the_residual_sum(dtype: torch.dtype, width: int, first: bool) -> None:
    x, residual = torch.randn(2, 5, width).to(dtype)
    weight = torch.randn(width).to(dtype)
    before = None if first else residual
    for quantise in (False, True):
        expected, expected_total = plain.add_rms_norm(x, before, weight, 1e-5, quantise)
        got, total = fast.add_rms_norm(x, before, weight, 1e-5, quantise)
        close(total, expected_total, dtype)
        if isinstance(got, Tensor) and isinstance(expected, Tensor):
            close(got, expected, dtype)
        else:
            close_8_bit(got, expected, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [48, 8192])
def test_the_gate(dtype: torch.dtype, width: int) -> None:
    gate_up = torch.randn(3, 2 * width).to(dtype)
    got, expected = fast.silu_mul(gate_up), plain.silu_mul(gate_up)
    assert isinstance(got, Tensor) and isinstance(expected, Tensor)
    close(got, expected, dtype)
    close_8_bit(fast.silu_mul(gate_up, True), plain.silu_mul(gate_up, True), dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_matrix_in_8_bits(dtype: torch.dtype) -> None:
    x = torch.randn(3, 200).to(dtype)
    x[1] = 0
    close_8_bit(fast.quantised(x), plain.quantised(x), dtype)


@pytest.mark.parametrize(("rows", "columns"), [(5, 64), (3, 8192), (300, 64)])
def test_products_in_8_bits_whatever_cublas_wants_of_their_shape(rows: int, columns: int) -> None:
    x, weight = plain.quantised(torch.randn(rows, columns)), plain.quantised(torch.randn(32, columns))
    expected = plain.linear(x, weight)
    got = fast.linear(x, weight)
    assert got.shape == (rows, 32)
    close(got, expected, torch.bfloat16)


def empty_cache(dtype: torch.dtype, kv_heads: int, width: int) -> LayerCache:
    scale = torch.zeros(6, kv_heads, 80, 2) if dtype in EIGHT_BIT else None
    return LayerCache(torch.zeros(6, 80, kv_heads, 2, width, dtype=dtype), scale)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("cached", [None, *EIGHT_BIT])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(6, 2, 16), (3, 3, 32), (24, 8, 128)])
def test_rotation_and_the_cache(
    dtype: torch.dtype, cached: torch.dtype | None, heads: int, kv_heads: int, width: int
) -> None:
    slot, position = torch.tensor([5, 0, 3, 3]), torch.tensor([79, 0, 7, 8])
    qkv = torch.randn(4, (heads + 2 * kv_heads) * width).to(dtype)
    rotation = torch.randn(80, width)
    expected, got = (empty_cache(cached or dtype, kv_heads, width) for _ in range(2))
    query = plain.rope_and_store(qkv, rotation, expected, slot, position)
    close(fast.rope_and_store(qkv, rotation, got, slot, position), query, dtype)
    if expected.scale is None or got.scale is None:
        close(got.data, expected.data, dtype)
    else:
        close(got.scale, expected.scale, dtype)
        far = (got.data.float() - expected.data.float()).abs() > 0.13 * expected.data.float().abs() + 1
        assert far[slot, position].float().mean() < 0.05
        if cached == torch.int8 and dtype != torch.bfloat16:
            assert torch.equal(got.data, expected.data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("cached", [None, *EIGHT_BIT])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(6, 2, 16), (3, 3, 32), (4, 1, 128)])
def test_attention_over_stretches_of_unequal_length(
    dtype: torch.dtype, cached: torch.dtype | None, heads: int, kv_heads: int, width: int
) -> None:
    slots, length = 7, 200
    position = torch.tensor([0, 199, 62, 63, 64, 127, 0])  # empty rows are at 0
    slot = torch.tensor([2, 0, 5, 3, 1, 4, 6])
    stored = torch.randn(slots, length, kv_heads, 2, width)
    stored *= torch.rand(slots, length, kv_heads, 2, 1) * torch.tensor([1.0, 10.0])[:, None]  # of many scales
    if cached is None:
        cache = LayerCache(stored.to(dtype), None)
    else:
        quantised = plain.quantise(stored, cached)
        cache = LayerCache(quantised.values, quantised.scale.squeeze(-1).transpose(1, 2).contiguous())
    query = torch.randn(len(slot), heads, width).to(dtype)
    expected = plain.decode_attention(query, cache, slot, position, length)
    got = fast.decode_attention(query, cache, slot, position, length)
    tolerance = 1e-5 if dtype == torch.float32 and cached is None else 2e-2
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
