"""Every Triton kernel becomes machine code for the GPUs it is meant for. The compiler needs no GPU."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from workers.engines.maya1 import constants  # noqa: E402
from workers.engines.maya1.kernels import (  # noqa: E402
    LayerCache,
    Rows,
    activation,
    attention,
    draw,
    fast,
    matrix,
    norm,
    rotary,
)
from workers.engines.maya1.vocoder import fused, noise, noise_kernel  # noqa: E402

KERNELS = [
    (activation, "_silu_mul"), (attention, "_decode_attention"), (draw, "_sample"), (matrix, "_quantise"),
    (norm, "_add_rms_norm"), (rotary, "_rope_and_store"), (fused, "_join"), (fused, "_within"), (noise_kernel, "_normal"),
]  # fmt: skip
NAMES = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float8_e4m3fn: "fp8e4nv",
    torch.int8: "i8", torch.int16: "i16", torch.int64: "i64", torch.uint8: "u8", torch.bool: "i1",
}  # fmt: skip
HOPPER, ADA, AMPERE, TURING = 90, 89, 80, 75  # compute capabilities
SHARED = {HOPPER: 227, ADA: 99, AMPERE: 163, TURING: 64}  # KB a program may have
HEADS, KV_HEADS, WIDTH, HIDDEN, INNER = 24, 8, 128, 3072, 8192  # of Maya1

Call = tuple[Any, dict[str, Any], dict[str, Any]]  # the kernel, its arguments, its launch options


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """What would have been launched."""
    recorded: list[Call] = []

    class Recorder:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Callable[..., None]:
            def call(*values: Any, **named: Any) -> None:
                names = self.kernel.arg_names
                arguments = dict(zip(names, values, strict=False)) | {
                    k: v for k, v in named.items() if k in names
                }
                recorded.append((self.kernel, arguments, {k: v for k, v in named.items() if k not in names}))

            return call

    for module, name in KERNELS:
        monkeypatch.setattr(module, name, Recorder(getattr(module, name)))
    yield recorded


def compiled(call: Call, capability: int) -> Any:
    kernel, arguments, options = call
    signature, constants_, attributes = {}, {}, {}
    for index, (parameter, name) in enumerate(zip(kernel.params, kernel.arg_names, strict=True)):
        value = arguments[name]
        if parameter.is_constexpr or value is None:
            signature[name] = "constexpr"
            constants_[(index,)] = value
            continue
        if isinstance(value, torch.Tensor):
            signature[name] = f"*{NAMES[value.dtype]}"
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants_, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def launch_a_step(dtype: torch.dtype, cached: torch.dtype | None, quantise: bool) -> None:
    rows = 2
    numbers, floats = torch.zeros(rows, dtype=torch.int64), torch.zeros(rows)
    fast.add_rms_norm(
        *torch.empty(2, rows, HIDDEN, dtype=dtype), torch.empty(HIDDEN, dtype=dtype), 1e-5, quantise
    )
    fast.silu_mul(torch.empty(rows, 2 * INNER, dtype=dtype), quantise)
    if quantise:
        fast.quantised(torch.empty(rows, HIDDEN, dtype=dtype))
    data = torch.empty(2, 64, KV_HEADS, 2, WIDTH, dtype=cached or dtype)
    cache = LayerCache(data, torch.empty(2, KV_HEADS, 64, 2) if cached else None)
    qkv = torch.empty(rows, (HEADS + 2 * KV_HEADS) * WIDTH, dtype=dtype)
    query = fast.rope_and_store(qkv, torch.empty(64, WIDTH), cache, numbers, numbers)
    fast.decode_attention(query, cache, numbers, numbers, 64)
    state = Rows(
        slot=numbers, position=numbers, token=numbers, index=numbers, done=numbers.bool(), seed=numbers,
        temperature=floats, tail=floats, penalty=floats, codes=torch.zeros(rows, constants.FRAME, dtype=torch.int16),
        seen=torch.zeros(rows, constants.FRAME, constants.CODES, dtype=torch.uint8),
    )  # fmt: skip
    for slot, end in ((0, torch.empty(rows, dtype=dtype)), (1, None)):
        fast.sample(torch.empty(rows, constants.CODES, dtype=dtype), end, slot, state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "dtype", "cached", "quantise"),
    [
        (HOPPER, torch.bfloat16, None, False),
        (HOPPER, torch.bfloat16, torch.float8_e4m3fn, True),
        (ADA, torch.bfloat16, torch.float8_e4m3fn, True),
        (AMPERE, torch.bfloat16, torch.int8, False),
        (TURING, torch.float16, None, False),
    ],
)
def test_the_decode_kernels(
    calls: list[Call], capability: int, dtype: torch.dtype, cached: torch.dtype | None, quantise: bool
) -> None:
    launch_a_step(dtype, cached, quantise)
    assert {call[0].fn.__name__ for call in calls} >= {
        name for module, name in KERNELS[:5] if name != "_quantise"
    }
    for call in calls:
        code = compiled(call, capability)
        assert code.asm["cubin"]
        assert code.metadata.shared <= SHARED[capability] * 1024


@pytest.mark.slow
@pytest.mark.parametrize("capability", [HOPPER, TURING])
def test_the_vocoder_kernels(calls: list[Call], capability: int) -> None:
    x, lengths = torch.empty(2, 64, 128, dtype=torch.float16), torch.zeros(2, dtype=torch.int64)
    snake, depthwise = fused.snac.Snake(128), fused.snac.depthwise(128, 3).half()
    bias, drawn = torch.empty(128, dtype=torch.float16), torch.empty(2, 64, dtype=torch.float16)
    fused.join(x, lengths, 8, snake)
    fused.join(x, lengths, 8, snake, x, bias)
    fused.join(x, lengths, 8, snake, x, noise=drawn)
    fused.Within(depthwise, snake)(x)
    fused.Within(torch.nn.Conv1d(128, 1, 7, padding=3))(x)
    noise_kernel.normal(lengths, lengths, 4, 1680, noise.KEY, noise.TURN)
    assert len(calls) == 6
    for call in calls:
        assert compiled(call, capability).asm["cubin"]
