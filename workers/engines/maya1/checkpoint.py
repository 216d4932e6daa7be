"""The language model's files: checked against what the engine takes for granted before any weight is read."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from workers.engines.maya1 import architecture, constants
from workers.engines.maya1.hub import CheckpointError
from workers.engines.maya1.kernels import Matrix, plain
from workers.engines.maya1.model import Layer, Weights

PULL = "`voicemill model pull` fetches it again"
SAMPLE = 4096  # bytes of each tensor that enter the fingerprint: training changes nearly every first row
NAMED = {constants.BOS: "<|begin_of_text|>", constants.TEXT_END: "<|eot_id|>"}
CONTROL = range(constants.SPEECH_START, constants.ANSWER_START + 1)  # named differently by each tokenizer


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that has been found whole: every tensor is there in its right shape."""

    path: Path
    shape: architecture.Architecture
    files: Mapping[str, Path]  # of each tensor
    tokenizer: Tokenizer
    tags: Mapping[str, int]  # `<laugh>` to its id

    def load(self, device: torch.device, dtype: torch.dtype, fp8: bool = False) -> Weights:
        """The weights on the device, read one tensor at a time. fp8: the layers' matrices in 8 bits, by row."""
        with ExitStack() as stack:
            opened = {
                path: stack.enter_context(safe_open(path, framework="pt")) for path in set(self.files.values())
            }

            def read(name: str, rows: slice = slice(None)) -> Tensor:
                part: Tensor = opened[self.files[name]].get_slice(name)[rows]
                return part.to(device, dtype)

            def matrix(prefix: str, *names: str) -> Matrix:
                fused = torch.cat([read(f"{prefix}{name}.weight") for name in names])
                return plain.quantised(fused) if fp8 else fused

            embedding = read("model.embed_tokens.weight")
            spoken = slice(constants.SPEECH_END, constants.AUDIO_END)
            return Weights(
                embedding=embedding,
                layers=[
                    Layer(
                        input_norm=read(f"{prefix}input_layernorm.weight"),
                        qkv=matrix(prefix, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                        output=matrix(prefix, "self_attn.o_proj"),
                        post_norm=read(f"{prefix}post_attention_layernorm.weight"),
                        gate_up=matrix(prefix, "mlp.gate_proj", "mlp.up_proj"),
                        down=matrix(prefix, "mlp.down_proj"),
                    )
                    for prefix in (f"model.layers.{index}." for index in range(self.shape.layers))
                ],
                norm=read("model.norm.weight"),
                head=embedding[spoken] if self.shape.tied else read("lm_head.weight", spoken),
            )

    def whole_head(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The head's rows of every id, [vocabulary, hidden]: for `voicemill model check` only."""
        name = "model.embed_tokens.weight" if self.shape.tied else "lm_head.weight"
        with safe_open(self.files[name], framework="pt") as file:
            whole: Tensor = file.get_tensor(name)
        return whole.to(device, dtype)

    def facts(self) -> str:
        """What was found where nobody has published it, beside the rest, in one line."""
        shape, tags = self.shape, self.tags.values()
        rope = ", ".join(f"{name} {value}" for name, value in shape.rope.items())
        return (
            f"{shape.layers} layers of {shape.hidden}, {shape.heads} heads over {shape.kv_heads} of {shape.head_dim}, "
            f"{shape.intermediate} within, {shape.vocabulary} ids; {rope}; "
            f"head {'tied' if shape.tied else 'of its own'}; {len(tags)} tags, ids {min(tags)} .. {max(tags)}"
        )

    def fingerprint(self) -> str:
        """sha256 of what makes this model another one: shape, tokenizer, and the start of every tensor."""
        state = hashlib.sha256(repr(self.shape).encode())
        state.update((self.path / "tokenizer.json").read_bytes())
        for path in sorted(set(self.files.values())):
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
                header.pop("__metadata__", None)
                for name, entry in sorted(header.items()):
                    first, last = entry["data_offsets"]
                    file.seek(8 + length + first)
                    state.update(f"{name} {entry['dtype']} {entry['shape']}".encode())
                    state.update(file.read(min(SAMPLE, last - first)))
        return state.hexdigest()


def open_directory(path: Path) -> Checkpoint:
    """A model directory, checked. Raises CheckpointError with one clear sentence."""
    try:
        try:
            shape = architecture.parse(_json(path / "config.json"))
        except ValueError as error:
            raise ValueError(f"in config.json, {error}") from error
        if shape.vocabulary < constants.AUDIO_END:
            raise ValueError(
                f"its vocabulary has {shape.vocabulary} ids and Maya1's codec tokens reach up to "
                f"{constants.AUDIO_END - 1}: it is another model"
            )
        files = _files(path)
        _check_shapes(files, expected(shape))
        tokenizer = _tokenizer(path / "tokenizer.json")
        return Checkpoint(path, shape, files, tokenizer, _tags(tokenizer, shape.vocabulary))
    except ValueError as error:
        raise CheckpointError(model=path, reason=error) from error


def expected(shape: architecture.Architecture) -> dict[str, list[int]]:
    """The shape of every tensor that the model must have, by its name."""
    hidden, query, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = {
        "input_layernorm": [hidden],
        "self_attn.q_proj": [query, hidden],
        "self_attn.k_proj": [keys, hidden],
        "self_attn.v_proj": [keys, hidden],
        "self_attn.o_proj": [hidden, query],
        "post_attention_layernorm": [hidden],
        "mlp.gate_proj": [shape.intermediate, hidden],
        "mlp.up_proj": [shape.intermediate, hidden],
        "mlp.down_proj": [hidden, shape.intermediate],
    }
    tensors = {
        f"model.layers.{index}.{name}.weight": size
        for index in range(shape.layers)
        for name, size in layer.items()
    }
    tensors["model.embed_tokens.weight"] = [shape.vocabulary, hidden]
    tensors["model.norm.weight"] = [hidden]
    if not shape.tied:
        tensors["lm_head.weight"] = [shape.vocabulary, hidden]
    return tensors


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path.name} is missing; {PULL}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not an object")
    return content


def _files(path: Path) -> dict[str, Path]:
    """The file of each tensor. Pickled weights are never opened."""
    if (path / "model.safetensors.index.json").exists():
        index = _json(path / "model.safetensors.index.json").get("weight_map")
        if not isinstance(index, dict):
            raise ValueError("model.safetensors.index.json has no weight_map")
        shards = {path / str(name) for name in index.values()}
    else:
        shards = {path / "model.safetensors"}
    files: dict[str, Path] = {}
    for shard in sorted(shards):
        if not shard.exists():
            raise ValueError(f"{shard.name} is missing; {PULL}")
        try:
            with safe_open(shard, framework="pt") as file:
                files |= dict.fromkeys(file.keys(), shard)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{shard.name} is damaged or incomplete ({error}); {PULL}") from error
    return files


def _check_shapes(files: Mapping[str, Path], wanted: Mapping[str, list[int]]) -> None:
    if missing := sorted(set(wanted) - set(files)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"it lacks the tensor {missing[0]}{more}; {PULL}")
    for path in set(files.values()):
        with safe_open(path, framework="pt") as file:
            for name in set(file.keys()) & set(wanted):
                found = file.get_slice(name).get_shape()
                if found != wanted[name]:
                    raise ValueError(f"{name} has the shape {found}, and config.json says {wanted[name]}")


def _tokenizer(path: Path) -> Tokenizer:
    if not path.exists():
        raise ValueError(f"{path.name} is missing; {PULL}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ValueError(f"{path.name} cannot be read ({error})") from error
    for token, name in NAMED.items():
        if tokenizer.id_to_token(token) != name:
            raise ValueError(f"its tokenizer has {tokenizer.id_to_token(token)!r} as id {token}, not {name!r}")
    for token in CONTROL:
        if tokenizer.id_to_token(token) is None:
            raise ValueError(f"its tokenizer has no token with the id {token}, which Maya1's prompts need")
    return tokenizer


def _tags(tokenizer: Tokenizer, vocabulary: int) -> dict[str, int]:
    """The ids of the 20 tags, each of which must be one token of its own, outside the audio ids."""
    tags = {}
    for tag in (f"<{name}>" for name in constants.TAGS):
        ids = tokenizer.encode(tag, add_special_tokens=False).ids
        audio = any(constants.AUDIO_START <= token < constants.AUDIO_END for token in ids)
        if len(ids) != 1 or audio or not constants.FIRST_SPECIAL <= ids[0] < vocabulary:
            raise ValueError(f"its tokenizer makes {ids} of the tag {tag}, not one token of its own")
        tags[tag] = ids[0]
    if len(set(tags.values())) != len(tags):
        raise ValueError("its tokenizer gives two tags the same id")
    return tags
