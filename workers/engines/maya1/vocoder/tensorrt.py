"""SNAC's decoder as a TensorRT engine: strongly typed fp16, an optimisation profile for each bucket of lengths.

Works with `tensorrt` 10 and 11, whose engines are built on the GPU that they run on, and with TensorRT for RTX, whose
engines are built ahead of time on any machine and finished by the GPU's own compiler when they are loaded.
"""

import hashlib
import importlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from storage import errors
from workers.engines.maya1.vocoder import blocks, snac

# What TensorRT for RTX is called with its meta package, and without.
LIBRARIES = "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"
BUCKETS = (64, 128, blocks.BLOCK + 2 * blocks.CONTEXT)  # frames; the largest holds every block
BUDGET = 1024  # frames of one execution, padding included: bounds the engine's memory
WORKSPACE = 2 << 30  # bytes


class TensorRTError(errors.InputError):
    """The vocoder cannot use TensorRT: {reason}."""


def bindings() -> Any:
    """The TensorRT that is installed. Raises TensorRTError."""
    for name in LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise TensorRTError(
        reason="neither tensorrt nor tensorrt-rtx is installed (`pip install voicemill[tensorrt]`)"
    )


def engine_path(onnx: Path, cache: Path, device: torch.device) -> Path:
    """Where the engine of that graph lies, for the TensorRT installed and, where it matters, for that GPU."""
    trt = bindings()
    if _ahead(trt):
        flavour = f"rtx-{trt.__version__}-ahead-of-time"
    elif device.type == "cuda":
        flavour = f"{trt.__version__}-{torch.cuda.get_device_name(device).replace(' ', '-').lower()}"
    else:
        raise TensorRTError(
            reason="tensorrt builds its engines on a GPU, and there is none; tensorrt-rtx needs none"
        )
    return cache / f"snac-{hashlib.sha256(onnx.read_bytes()).hexdigest()[:16]}-{flavour}.engine"


def build(onnx: Path, cache: Path, device: torch.device) -> Path:
    """Build the engine of an ONNX graph (see `onnx_export`) unless it is there; a minute or two on a GPU.

    Raises TensorRTError.
    """
    target = engine_path(onnx, cache, device)
    if not target.exists():
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            _build(onnx, target)
    return target


def _build(onnx: Path, target: Path) -> None:
    trt = bindings()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise TensorRTError(reason=f"it does not understand {onnx}: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    for frames in BUCKETS:
        config.add_optimization_profile(_profile(builder, network, frames, BUDGET // frames))
    timings = target.with_suffix(".timings")
    if not _ahead(trt):  # TensorRT for RTX times kernels where the engine runs
        known = timings.read_bytes() if timings.exists() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TensorRTError(reason=f"building an engine of {onnx} failed; it has said why")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _ahead(trt):
        timings.write_bytes(config.get_timing_cache().serialize())
    partial = target.with_suffix(".partial")
    partial.write_bytes(plan)
    partial.replace(target)


def _ahead(trt: Any) -> bool:
    """Whether it is TensorRT for RTX."""
    return "rtx" in trt.__name__


def _profile(builder: Any, network: Any, frames: int, rows: int) -> Any:
    """Any batch up to `rows` of any length up to `frames`, fastest for the most of both."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = list(tensor.shape)  # -1 for the batch, which comes first, and for the steps

        def filled(batch: int, steps: int, shape: list[int] = shape) -> list[int]:
            return [batch, *(steps if extent == -1 else extent for extent in shape[1:])]

        most = filled(rows, frames * snac.LATENTS)
        profile.set_shape(tensor.name, filled(1, snac.LATENTS), most, most)
    return profile


class Runner:
    """An engine on a GPU; called like `snac.Decoder`, with that GPU the current one."""

    def __init__(self, path: Path, device: torch.device) -> None:
        trt = bindings()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        with torch.cuda.device(device):
            self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
            if self._engine is None:
                raise TensorRTError(reason=f"{path} cannot be loaded here; delete it to have it built again")
            self._context = self._engine.create_execution_context()
        profiles = range(self._engine.num_optimization_profiles)
        self._limits = [self._engine.get_tensor_profile_shape("latent", index)[2] for index in profiles]

    def __call__(self, latent: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
        """See `snac.Decoder.forward`. Runs on the current stream."""
        steps = latent.shape[1]
        profile = next(index for index, (_, most, _) in enumerate(self._limits) if most >= steps)
        inputs = {"latent": latent, "lengths": lengths} | ({} if noise is None else {"noise": noise})
        rows = self._limits[profile][0]
        parts = zip(*(torch.split(value.contiguous(), rows) for value in inputs.values()), strict=True)
        return torch.cat([self._run(profile, dict(zip(inputs, part, strict=True))) for part in parts])

    def _run(self, profile: int, inputs: dict[str, Tensor]) -> Tensor:
        stream = torch.cuda.current_stream().cuda_stream
        context = self._context
        context.set_optimization_profile_async(profile, stream)
        for name, value in inputs.items():
            context.set_input_shape(name, tuple(value.shape))
            context.set_tensor_address(name, value.data_ptr())
        shape = tuple(context.get_tensor_shape("sound"))
        sound = torch.empty(shape, device=inputs["latent"].device)
        context.set_tensor_address("sound", sound.data_ptr())
        if not context.execute_async_v3(stream):
            raise TensorRTError(reason="an execution failed; it has said why")
        return sound
