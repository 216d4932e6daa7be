"""Codes to sound: SNAC's decoder, in batches, beside the decode loop."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from workers.engines.maya1.vocoder import codec, onnx_export, snac, tensorrt

Backend = Literal["torch", "tensorrt", "auto"]


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
    path: Path, device: torch.device, cache: Path, *, backend: Backend = "auto", noise: bool = True
) -> Vocoder:
    """The SNAC checkpoint of a directory, ready to decode on the device: fp16 on CUDA, fp32 elsewhere.

    noise: with the decoder's own noise, seeded by take, or without any. Backend `tensorrt` keeps its engines under
    `cache` and builds what is missing; `auto` takes TensorRT where a fitting engine lies there already.
    Raises snac.CodecUnusableError and tensorrt.TensorRTError.
    """
    engine = None
    cuda = device.type == "cuda"
    if backend == "tensorrt" and not cuda:
        raise tensorrt.TensorRTError(reason=f"its engines run on CUDA devices, not on {device}")
    if backend != "torch" and cuda:
        engine = find(path, cache, noise=noise) if backend == "auto" else build(path, cache, noise=noise)

    def make(decoder: snac.Decoder) -> codec.Sound:
        if engine is not None:
            return tensorrt.Runner(engine)
        if cuda:
            from workers.engines.maya1.vocoder import fused  # Triton, which torch for CPUs comes without

            return fused.Decoder(decoder)
        return decoder

    return codec.SnacVocoder(path, device, noise, make)


def build(path: Path, cache: Path, *, noise: bool = True) -> Path:
    """The TensorRT engine of the SNAC checkpoint of a directory, made under `cache` unless it is there.

    Raises snac.CodecUnusableError and tensorrt.TensorRTError.
    """
    tensorrt.library()  # so that its lack is told before the work is done
    graph = _graph(path, cache, noise)
    if not graph.exists():
        if find_spec("onnx") is None or find_spec("onnxscript") is None:
            raise tensorrt.TensorRTError(
                reason="onnx or onnxscript is missing (`pip install voicemill[tensorrt]`)"
            )
        _, decoder = snac.load(path)
        onnx_export.export(decoder.to_half(), graph, noise=noise)
    return tensorrt.build(graph, cache)


def find(path: Path, cache: Path, *, noise: bool = True) -> Path | None:
    """The engine that `build` made, if it is there and the TensorRT that made it still is."""
    graph = _graph(path, cache, noise)
    try:
        engine = tensorrt.engine_path(graph, cache) if graph.exists() else None
    except tensorrt.TensorRTError:
        return None
    return engine if engine is not None and engine.exists() else None


def _graph(path: Path, cache: Path, noise: bool) -> Path:
    return cache / f"snac-{snac.digest(path)[:16]}-fp16{'-noise' if noise else ''}.onnx"
