"""Codes to sound: SNAC's decoder, in batches, beside the decode loop."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from workers.engines.maya1 import kernels
from workers.engines.maya1.vocoder import codec, onnx_export, snac, tensorrt

Backend = Literal["torch", "tensorrt"]


class Vocoder(Protocol):
    """A loaded vocoder. Calls may come from any thread, one at a time."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What of it shapes a take."""
        ...

    def decode(self, codes: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        """Each take's sound: int16 [frames, 7] with a seed becomes float32 [2048 * frames] in -1 .. 1.

        A take's sound depends on its codes and seed alone, not on what else is decoded beside it.
        """
        ...


def load(
    path: Path, device: torch.device, cache: Path, *, backend: Backend = "torch", noise: bool = True
) -> Vocoder:
    """The SNAC checkpoint of a directory, ready to decode on the device: fp16 on CUDA, fp32 elsewhere.

    noise: with the decoder's own noise, seeded by take, or without any. Backend `tensorrt` keeps its engines under
    `cache` and builds what is missing. Raises snac.CodecUnusableError and tensorrt.TensorRTError.
    """
    engine = None
    if backend == "tensorrt":
        if device.type != "cuda":
            raise tensorrt.TensorRTError(reason=f"its engines run on CUDA devices, not on {device}")
        engine = build(path, cache, device, noise=noise)
    return codec.SnacVocoder(path, device, noise, lambda decoder: _sound(decoder, device, engine))


def build(path: Path, cache: Path, device: torch.device, *, noise: bool = True) -> Path:
    """The TensorRT engine of the SNAC checkpoint of a directory, made under `cache` unless it is there.

    Raises snac.CodecUnusableError and tensorrt.TensorRTError.
    """
    tensorrt.bindings()  # so that its lack is told before the work is done
    graph = cache / f"snac-{snac.digest(path)[:16]}-fp16{'-noise' if noise else ''}.onnx"
    if not graph.exists():
        if find_spec("onnx") is None or find_spec("onnxscript") is None:
            raise tensorrt.TensorRTError(
                reason="onnx or onnxscript is missing (`pip install voicemill[tensorrt]`)"
            )
        _, decoder = snac.load(path)
        onnx_export.export(decoder.to_half(), graph, noise=noise)
    return tensorrt.build(graph, cache, device)


def _sound(decoder: snac.Decoder, device: torch.device, engine: Path | None) -> codec.Sound:
    """What computes the decoder on a device."""
    if engine is not None:
        return tensorrt.Runner(engine, device)
    if kernels.runs_triton(device):
        from workers.engines.maya1.vocoder import fused

        return fused.Decoder(decoder)
    return decoder
