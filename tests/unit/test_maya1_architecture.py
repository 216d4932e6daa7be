"""Shapes read from config.json, and rotary angles against transformers' own."""

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tests import tiny_maya1
from workers.engines.maya1 import architecture

LLAMA3 = tiny_maya1.LLAMA3
OLD = {"rope_theta": 500_000.0}  # transformers 4's form
MAYA1 = {"hidden_size": 3072, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128}


@pytest.mark.parametrize(
    "rope",
    [
        OLD | {"rope_scaling": None},
        OLD | {"rope_scaling": LLAMA3},
        OLD | {"rope_scaling": {"type": "linear", "factor": 2.0}},
        OLD | {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192}} | MAYA1,
        {"rope_parameters": LLAMA3 | {"rope_theta": 10_000.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ],
)
def test_rotation_equals_that_of_transformers(rope: dict[str, Any]) -> None:
    config = {k: v for k, v in tiny_maya1.CONFIG.items() if not k.startswith("rope")} | rope
    theirs = LlamaRotaryEmbedding(LlamaConfig(**copy.deepcopy(config)))  # it writes into its arguments
    cosine, sine = theirs(torch.zeros(1), torch.arange(300)[None])
    shape = architecture.parse(config)
    half = shape.head_dim // 2
    mine = shape.rotation(300)
    torch.testing.assert_close(mine, torch.cat((cosine[0, :, :half], sine[0, :, :half]), -1), atol=1e-6, rtol=0)


def test_the_shape_of_a_config() -> None:
    shape = architecture.parse(tiny_maya1.CONFIG | {"head_dim": None, "num_key_value_heads": None})
    assert (shape.heads, shape.kv_heads, shape.head_dim) == (6, 6, 8)
    assert shape.tied and shape.vocabulary == 156_960 and shape.epsilon == 1e-5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen3"}, "model_type is 'qwen3', and only 'llama' is supported"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"num_hidden_layers": None}, "num_hidden_layers should be a number above 0, and is None"),
        ({"hidden_size": "big"}, "hidden_size should be a number above 0"),
        ({"vocab_size": 1.5}, "vocab_size should be a whole number"),
        ({"num_key_value_heads": 4}, "6 heads over 4 key/value heads"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type is 'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor should be"),
        ({"rope_theta": None}, "rope_theta should be"),
    ],
)
def test_what_is_missing_or_unsupported_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        architecture.parse(tiny_maya1.CONFIG | changes)
