"""SNAC's decoder as an ONNX graph, run by onnxruntime, and as a TensorRT engine, built for real (without a GPU)."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tests import tiny_maya1
from workers.engines.maya1 import vocoder
from workers.engines.maya1.vocoder import onnx_export, snac, tensorrt

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="TensorRT for RTX, which builds without a GPU, is had on Linux"
    ),
]

CPU = torch.device("cpu")
SHAPES = [(1, 1), (3, 5), (2, 17), (1, 40)]  # rows, frames


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_maya1.make_snac(tmp_path_factory.mktemp("snac"))


@torch.inference_mode()
def differences(graph: Path, decoder: snac.Decoder, kind: torch.dtype, noisy: bool) -> list[float]:
    """Of onnxruntime's sound from torch's (in fp32), for batches of several shapes, each row up to its own length."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    worst = []
    for rows, frames in SHAPES:
        torch.manual_seed(frames)
        steps = frames * snac.LATENTS
        latent = torch.randn(rows, steps, decoder.config.latent_dim).to(kind)
        lengths = torch.randint(1, steps + 1, (rows,))
        lengths[0] = steps
        noise = torch.randn(rows, steps, sum(decoder.config.steps)).to(kind) if noisy else None
        feed: dict[str, Any] = {"latent": latent.numpy(), "lengths": lengths.numpy()}
        feed |= {} if noise is None else {"noise": noise.numpy()}
        (sound,) = session.run(None, feed)
        expected = decoder(latent.float(), lengths, None if noise is None else noise.float()).numpy()
        assert sound.dtype == np.float32 and sound.shape == expected.shape
        own = np.arange(sound.shape[1]) < lengths.numpy()[:, None] * decoder.config.steps[-1]
        worst.append(float(np.abs(sound - expected)[own].max()))
    return worst


def test_the_graph_computes_what_torch_does_at_any_batch_and_length(codec: Path, tmp_path: Path) -> None:
    _, decoder = snac.load(codec)
    graph = tmp_path / "snac.onnx"
    onnx_export.export(decoder, graph, noise=True)
    assert max(differences(graph, decoder, torch.float32, noisy=True)) < 5e-6
    assert [path.name for path in tmp_path.iterdir()] == ["snac.onnx"]


def test_the_engine_is_built_once_and_found_again(codec: Path, tmp_path: Path) -> None:
    trt = tensorrt.bindings()
    cache = tmp_path / "cache"
    engine = vocoder.build(codec, cache, CPU, noise=False)
    assert engine.stat().st_size > 100_000
    assert trt.__version__ in engine.name

    (graph,) = cache.glob("*.onnx")
    _, decoder = snac.load(codec)
    assert max(differences(graph, decoder, torch.float16, noisy=False)) < 4e-3

    built = engine.stat().st_mtime_ns, graph.stat().st_mtime_ns
    assert vocoder.build(codec, cache, CPU, noise=False) == engine
    assert (engine.stat().st_mtime_ns, graph.stat().st_mtime_ns) == built


def test_a_graph_that_is_none_gets_one_sentence(tmp_path: Path) -> None:
    graph = tmp_path / "broken.onnx"
    graph.write_bytes(b"not a graph")
    with pytest.raises(tensorrt.TensorRTError, match="does not understand"):
        tensorrt.build(graph, tmp_path, CPU)
    assert list(tmp_path.glob("*.engine")) == []
