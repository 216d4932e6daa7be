"""Makes a random model of Maya1's shape and a random codec of SNAC's, 15 MB and 1 MB, in the formats of the real ones.

Nothing of it is speech. What is true to the original: the file formats, the tensor names, the token layout (codec
tokens 128266 .. 156937, 20 tags as single tokens), grouped heads, the codec's frame of 2,048 samples.

    python -m tests.tiny_maya1 DIR     writes DIR/model and DIR/snac
"""

import atexit
import functools
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from workers.engines.maya1 import constants
from workers.engines.maya1.settings import Maya1Settings

if TYPE_CHECKING:
    from workers.engines.maya1.engine import Maya1Engine

VOCABULARY = 156_960
FIRST_TAG = 156_940
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # so that short tests see all three bands
}
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": LLAMA3,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "torch_dtype": "float32",
    "bos_token_id": constants.BOS,
    "eos_token_id": constants.SPEECH_END,
}
SNAC_CONFIG: dict[str, Any] = {
    "sampling_rate": 24_000,
    "encoder_dim": 2,
    "encoder_rates": [2, 4, 8, 8],
    "decoder_dim": 64,
    "decoder_rates": [8, 8, 4, 2],
    "attn_window_size": None,
    "codebook_size": 4096,
    "codebook_dim": 8,
    "vq_strides": [4, 2, 1],
    "noise": True,
    "depthwise": True,
}
END_BIAS = 20.0  # added to the logit of the end of speech: sequences come to some fifteen frames


def make(folder: Path, **changes: Any) -> Path:
    """Both parts under a folder; changes go to the model's config.json."""
    make_model(folder / "model", **changes)
    make_snac(folder / "snac")
    return folder


def load() -> "Maya1Engine":
    """A tiny engine on the CPU, whose texts all come to an end."""
    from workers.engines.maya1 import loading

    torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time
    folder = _made()
    return loading.load(
        Maya1Settings(maya1_model=str(folder / "model"), maya1_snac=str(folder / "snac"), maya1_device="cpu")
    )


@functools.cache
def _made() -> Path:
    folder = tempfile.mkdtemp(prefix="maya1-")
    atexit.register(shutil.rmtree, folder)
    return make(Path(folder), end_bias=40)


def make_model(folder: Path, seed: int = 0, end_bias: float = END_BIAS, **changes: Any) -> Path:
    """The language model: config.json, model.safetensors (bfloat16), tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(weights(config, seed, end_bias), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False))
    return folder


def weights(config: dict[str, Any], seed: int, end_bias: float) -> dict[str, torch.Tensor]:
    """Random tensors under their real names, bfloat16.

    One hidden dimension is a constant, through which the end of speech gets its bias.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = config["hidden_size"]
    width = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, keys = config["num_attention_heads"] * width, config["num_key_value_heads"] * width

    def normal(*size: int, scale: float) -> torch.Tensor:
        return (torch.randn(*size, generator=generator) * scale).bfloat16()

    def norm() -> torch.Tensor:
        return (1 + 0.2 * torch.randn(hidden, generator=generator)).bfloat16()

    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        sizes = {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_proj": (config["intermediate_size"], hidden),
            "mlp.up_proj": (config["intermediate_size"], hidden),
            "mlp.down_proj": (hidden, config["intermediate_size"]),
        }
        for name, size in sizes.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = normal(*size, scale=1.5 * size[1] ** -0.5)
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = norm()
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = norm()
    tensors["model.norm.weight"] = norm()
    embedding = normal(config["vocab_size"], hidden, scale=1.0)
    tensors["model.embed_tokens.weight"] = embedding
    head = embedding if config["tie_word_embeddings"] else normal(config["vocab_size"], hidden, scale=1.0)
    embedding[:, 0] = 2.0
    head[:, 0] = 2.0
    head[constants.SPEECH_END, 0] += end_bias
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = head
    return tensors


def tokenizer() -> dict[str, Any]:
    """A byte-level tokenizer with Maya1's special tokens at their ids, as the content of a tokenizer.json."""
    special = {"<|begin_of_text|>": constants.BOS, "<|eot_id|>": constants.TEXT_END}
    special |= {f"<custom_token_{n}>": 128_256 + n for n in range(12)}
    special |= {f"<{tag}>": FIRST_TAG + n for n, tag in enumerate(constants.TAGS)}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": token, "content": text, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for text, token in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": _bytes() | special, "merges": []},
    }


def make_snac(folder: Path, seed: int = 0) -> Path:
    """The codec: config.json and pytorch_model.bin, as the PyPI package `snac` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SNAC_CONFIG))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it scripts a function with torch.jit
        from snac import SNAC
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(SNAC(**SNAC_CONFIG).state_dict(), folder / "pytorch_model.bin")
    return folder


def _bytes() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(other)}
    return {letters[byte]: byte for byte in range(256)}


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
