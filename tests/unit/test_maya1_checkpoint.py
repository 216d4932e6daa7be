"""Model directories: read in either layout, and refused in one clear sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny_maya1
from workers.engines.maya1 import checkpoint, constants, hub
from workers.engines.maya1.kernels import Quantised, plain

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_maya1.make_model(tmp_path_factory.mktemp("maya1"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def shard(folder: Path) -> None:
    """Splits the weights over two files with an index, as large models come."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def edit(folder: Path, name: str, change: Callable[[dict], None]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def refused(folder: Path) -> str:
    with pytest.raises(hub.CheckpointError) as caught:
        checkpoint.open_directory(folder)
    message = str(caught.value)
    assert message.startswith(f"The model {folder} cannot be used: ") and "\n" not in message
    return message.split("cannot be used: ")[1]


def test_weights_are_the_files_fused(folder: Path) -> None:
    shard(folder)
    opened = checkpoint.open_directory(folder)
    raw = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    weights = opened.load(CPU, torch.float32)
    layer, prefix = weights.layers[1], "model.layers.1."
    parts = [raw[f"{prefix}self_attn.{name}_proj.weight"] for name in "qkv"]
    assert torch.equal(layer.qkv, torch.cat(parts).float())
    assert torch.equal(layer.gate_up[:64], raw[f"{prefix}mlp.gate_proj.weight"].float())
    assert torch.equal(layer.gate_up[64:], raw[f"{prefix}mlp.up_proj.weight"].float())
    embedding = raw["model.embed_tokens.weight"].float()
    for slot in range(7):
        first = 128_266 + slot * 4096
        assert torch.equal(weights.slot(slot), embedding[first : first + 4096])
    assert torch.equal(weights.end[0], embedding[128_258])
    assert weights.head.untyped_storage().data_ptr() == weights.embedding.untyped_storage().data_ptr()


def test_an_untied_head_is_its_own(tmp_path: Path) -> None:
    folder = tiny_maya1.make_model(tmp_path, tie_word_embeddings=False)
    opened = checkpoint.open_directory(folder)
    raw = load_file(folder / "model.safetensors")["lm_head.weight"]
    weights = opened.load(CPU, torch.bfloat16)
    assert torch.equal(weights.slot(6), raw[156_938 - 4096 : 156_938])
    assert torch.equal(opened.whole_head(CPU, torch.bfloat16), raw)
    edit(folder, "config.json", lambda config: config.update(tie_word_embeddings=True))
    assert torch.equal(
        checkpoint.open_directory(folder).load(CPU, torch.bfloat16).end[0], weights.embedding[128_258]
    )


def test_matrices_in_eight_bits_are_near(original: Path) -> None:
    opened = checkpoint.open_directory(original)
    exact, rough = (
        opened.load(CPU, torch.float32).layers[0].down,
        opened.load(CPU, torch.bfloat16, fp8=True).layers[0],
    )
    assert isinstance(exact, torch.Tensor) and isinstance(rough.down, Quantised)
    assert rough.down.values.dtype == plain.FP8 and rough.down.values.shape == exact.shape
    error = (rough.down.values.float() * rough.down.scale - exact).norm() / exact.norm()
    assert 0 < error < 0.04


def test_the_fingerprint_follows_the_content(folder: Path, original: Path) -> None:
    first = checkpoint.open_directory(original).fingerprint()
    assert checkpoint.open_directory(folder).fingerprint() == first
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors")
    assert checkpoint.open_directory(folder).fingerprint() != first


def test_tags_have_their_ids(original: Path) -> None:
    tags = checkpoint.open_directory(original).tags
    assert list(tags) == [f"<{name}>" for name in constants.TAGS]
    assert list(tags.values()) == list(range(tiny_maya1.FIRST_TAG, tiny_maya1.FIRST_TAG + 20))


def test_what_was_found_is_one_line(folder: Path) -> None:
    assert checkpoint.open_directory(folder).facts() == (
        "2 layers of 48, 6 heads over 2 of 16, 64 within, 156960 ids; "
        "rope_theta 500000.0, rope_type llama3, factor 32.0, low_freq_factor 1.0, high_freq_factor 4.0, "
        "original_max_position_embeddings 64; head tied; 20 tags, ids 156940 .. 156959"
    )


def test_a_missing_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    reason = "model-00002-of-00002.safetensors is missing; `voicemill model pull` fetches it again."
    assert refused(folder) == reason


def test_a_shard_cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert refused(folder).startswith("model.safetensors is damaged or incomplete")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused(folder).endswith(f"{name} is missing; `voicemill model pull` fetches it again.")


def test_pickled_weights_are_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refused(folder).startswith("model.safetensors is missing")


def test_a_missing_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"], tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert refused(folder).startswith("it lacks the tensor model.layers.1.mlp.up_proj.weight and 1 more;")


def test_a_wrong_vocabulary(folder: Path) -> None:
    edit(folder, "config.json", lambda config: config.update(vocab_size=128_256))
    assert "its vocabulary has 128256 ids" in refused(folder)


def test_a_wrong_shape(folder: Path) -> None:
    edit(folder, "config.json", lambda config: config.update(intermediate_size=80))
    assert "has the shape [" in refused(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\N{NULL}"])
def test_a_config_that_is_none(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json" in refused(folder)


def test_a_config_of_another_model(folder: Path) -> None:
    edit(folder, "config.json", lambda config: config.update(model_type="qwen3"))
    assert refused(folder) == "in config.json, model_type is 'qwen3', and only 'llama' is supported."


def test_a_tokenizer_without_a_tag(folder: Path) -> None:
    def drop(content: dict) -> None:
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<gulp>"]

    edit(folder, "tokenizer.json", drop)
    assert "of the tag <gulp>, not one token of its own" in refused(folder)


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    def rename(content: dict) -> None:
        content["model"]["vocab"]["<|begin_of_text|>"], content["added_tokens"] = 300, []

    edit(folder, "tokenizer.json", rename)
    assert refused(folder).startswith("its tokenizer has None as id 128000")
    (folder / "tokenizer.json").write_text("{}")
    assert refused(folder).startswith("tokenizer.json cannot be read")


def test_names_that_are_no_folder(tmp_path: Path) -> None:
    for name in ("/no/such/folder", "./folder", "~/nowhere", "nowhere"):
        with pytest.raises(hub.CheckpointError, match="there is no such folder"):
            hub.directory(name, None, hub.MODEL_FILES, tmp_path)
