"""SNAC's decoder as an ONNX graph with any batch and any length, from the summed latent on.

Inputs and output are those of `snac.Decoder.forward`, `noise` among them only if wanted. Types are those of the
decoder given: one in half precision makes the strongly typed graph that TensorRT needs.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from workers.engines.maya1.vocoder import snac

OPSET = 18


def export(decoder: snac.Decoder, path: Path, *, noise: bool) -> None:
    """Write the graph as one file, whole or not at all."""
    config = decoder.config
    kind = next(layer.weight.dtype for layer in decoder.modules() if isinstance(layer, torch.nn.Conv1d))
    rows, steps = 2, 6  # of the example: an extent of 1 would be taken for a constant
    example = [torch.zeros(rows, steps, config.latent_dim, dtype=kind), torch.full((rows,), steps)]
    batch, time = torch.export.Dim("batch"), torch.export.Dim("steps")
    extents: list[dict[int, Any]] = [{0: batch, 1: time}, {0: batch}]
    if noise:
        example.append(torch.zeros(rows, steps, sum(config.steps), dtype=kind))
        extents.append({0: batch, 1: time})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own code
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            decoder, tuple(example), dynamic_shapes=tuple(extents), opset_version=OPSET, dynamo=True, verbose=False,
            input_names=["latent", "lengths", "noise"][: len(example)], output_names=["sound"],
        )  # fmt: skip
    assert program is not None
    program.save(partial, external_data=False)
    partial.replace(path)
