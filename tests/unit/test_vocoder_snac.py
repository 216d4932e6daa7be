"""Codes to sound: the same as the PyPI package `snac`, and the same however takes are batched and cut."""

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_maya1
from workers.engines.maya1 import constants, kernels, vocoder
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.vocoder import blocks, codec, noise, snac, tensorrt

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time

CPU = torch.device("cpu")
PUBLISHED = tiny_maya1.SNAC_CONFIG | {"encoder_dim": 48, "decoder_dim": 1024}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_maya1.make_snac(tmp_path_factory.mktemp("snac"))


def load(folder: Path, **options: Any) -> vocoder.Vocoder:
    return vocoder.load(folder, CPU, folder, **options)


def package(folder: Path) -> Any:
    """The PyPI package's model, without noise and with snakes that differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from snac import SNAC
    return SNAC.from_pretrained(str(folder))


def without_noise(model: Any) -> Any:
    for module in model.modules():
        if type(module).__name__ == "NoiseBlock":
            module.forward = lambda x: x
    return model


def levels(codes: np.ndarray) -> list[torch.Tensor]:
    """[frames, 7] as the published layout has it, one take: spelt out, not taken from our constants."""
    first, second, third = [], [], []
    for frame in codes.tolist():
        first.append(frame[0])
        second += [frame[1], frame[4]]
        third += [frame[2], frame[3], frame[5], frame[6]]
    return [torch.tensor([level]) for level in (first, second, third)]


def random_codes(lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 4096, (length, constants.FRAME)).astype(np.int16) for length in lengths]


@torch.inference_mode()
def test_the_same_sound_as_the_package_snac_at_many_lengths(folder: Path) -> None:
    theirs = without_noise(package(folder))
    takes = random_codes([*range(1, 12), 20, 33])
    sounds = load(folder, noise=False).decode(takes, [0] * len(takes))
    for take, sound in zip(takes, sounds, strict=True):
        expected = theirs.decode(levels(take))[0, 0].numpy()
        assert sound.dtype == np.float32
        assert sound.shape == (constants.SAMPLES_PER_FRAME * len(take),)
        assert expected.std() > 0.01
        np.testing.assert_allclose(sound, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_same_sound_as_the_package_at_the_published_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from snac import SNAC
    torch.manual_seed(1)
    model = SNAC(**PUBLISHED).eval()
    for name, value in model.named_parameters():
        if name.endswith("alpha"):
            value.copy_(torch.rand(value.shape) * 2 + 0.05)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (take,) = random_codes([3])
    expected = without_noise(model).decode(levels(take))[0, 0].numpy()
    (sound,) = load(tmp_path, noise=False).decode([take], [0])
    np.testing.assert_allclose(sound, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [False, True])
def test_a_take_sounds_the_same_alone_and_among_others(folder: Path, noise: bool) -> None:
    ours = load(folder, noise=noise)
    takes = random_codes([7, 1, 12, 0, 3, 12])
    seeds = [5, 2**63 - 1, 0, 1, 7, 8]
    together = ours.decode(takes, seeds)
    for take, seed, sound in zip(takes, seeds, together, strict=True):
        (alone,) = ours.decode([take], [seed])
        np.testing.assert_allclose(sound, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [False, True])
def test_a_long_take_sounds_the_same_in_blocks_and_whole(
    folder: Path, noise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load(folder, noise=noise)
    takes = random_codes([30, 4, 11])
    whole = ours.decode(takes, [1, 2, 3])
    cut = blocks.cut
    monkeypatch.setattr(blocks, "cut", lambda lengths, block: cut(lengths, 5))
    monkeypatch.setattr(ours, "budget", 40)
    for sound, expected in zip(ours.decode(takes, [1, 2, 3]), whole, strict=True):
        np.testing.assert_allclose(sound, expected, rtol=0, atol=1e-5)


def test_noise_comes_from_the_seed_alone(folder: Path) -> None:
    (take,) = random_codes([5])
    with_noise, without = load(folder, noise=True), load(folder, noise=False)
    first, again, other = with_noise.decode([take, take, take], [9, 9, 10])
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert np.abs(first - without.decode([take], [9])[0]).max() > 1e-4
    assert with_noise.identity != without.identity


def test_noise_is_normal_and_the_same_wherever_it_begins() -> None:
    seeds = torch.tensor([3, 2**63 - 1])
    whole = noise.normal(seeds, torch.tensor([0, 0]), 40, 1680)
    later = noise.normal(seeds, torch.tensor([12, 7]), 9, 1680)
    assert torch.equal(later[0], whole[0, 12:21]) and torch.equal(later[1], whole[1, 7:16])
    for row in whole:
        assert abs(float(row.mean())) < 0.02 and abs(float(row.std()) - 1) < 0.02
        assert abs(float((row**4).mean()) - 3) < 0.2  # the kurtosis of a normal distribution
        assert abs(float((row[1:] * row[:-1]).mean())) < 0.02
        assert abs(float((row[:, 1:] * row[:, :-1]).mean())) < 0.02
    assert abs(float((whole[0] * whole[1]).mean())) < 0.02


@torch.inference_mode()
def test_noise_goes_where_the_package_has_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = package(folder)
    latents, decoder = snac.load(folder)
    (take,) = random_codes([4])
    drawn = torch.randn(1, 4 * snac.LATENTS, sum(decoder.config.steps))
    parts: Iterator[Any] = iter(decoder.config.parts(drawn))
    monkeypatch.setattr(torch, "randn", lambda size, **_: next(parts).view(size))
    expected = theirs.decode(levels(take))[:, 0]
    got = decoder(latents(torch.from_numpy(take.astype(np.int64))[None]), torch.tensor([16]), drawn)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_the_older_spelling_of_weight_norm_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / snac.WEIGHTS, weights_only=True)
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(old, tmp_path / snac.WEIGHTS)
    (take,) = random_codes([2])
    (expected,) = load(folder).decode([take], [1])
    (sound,) = load(tmp_path).decode([take], [1])
    assert np.array_equal(sound, expected)


@pytest.mark.parametrize(
    ("held", "lengths", "budget", "error"),
    [
        (600, [2] * 400, 512, torch.OutOfMemoryError()),
        (60, [90, 3, 40], 32, torch.AcceleratorError("CUDA error: out of memory")),  # less than a block
        (200, [90], 1024, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")),
    ],
)
def test_batches_and_blocks_shrink_where_memory_does_not_do(
    folder: Path, held: int, lengths: list[int], budget: int, error: Exception
) -> None:
    """A device that holds so many frames; 1,024 are tried first."""

    def small(decoder: snac.Decoder) -> codec.Sound:
        def sound(latent: torch.Tensor, lengths: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
            if latent.shape[0] * latent.shape[1] > held * snac.LATENTS:
                raise error
            return decoder(latent, lengths, drawn)

        return sound

    takes = random_codes(lengths)
    ours = codec.SnacVocoder(folder, CPU, False, small)
    sounds = ours.decode(takes, [0] * len(takes))
    assert ours.budget == budget
    expected = load(folder, noise=False).decode(takes[-1:], [0])[0]
    np.testing.assert_allclose(sounds[-1], expected, rtol=0, atol=1e-5)


def test_a_vocoder_without_any_memory_says_so_and_begins_anew(folder: Path) -> None:
    tried = []

    def never(latent: torch.Tensor, *_: Any) -> torch.Tensor:
        tried.append(latent.shape[1] // snac.LATENTS)
        raise torch.OutOfMemoryError

    ours = codec.SnacVocoder(folder, CPU, False, lambda decoder: never)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            ours.decode(random_codes([300]), [0])
    assert tried == [253, 253, 253, 128, 64, 32] * 2


@pytest.mark.parametrize("installed", [False, True])
def test_cuda_without_triton_falls_back_to_plain_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    cuda, (_, decoder) = torch.device("cuda"), snac.load(folder)
    assert (kernels.select(cuda) is plain) != installed
    assert (vocoder._sound(decoder, cuda, None) is decoder) != installed
    assert kernels.select(CPU) is plain


def test_noise_is_made_where_its_seeds_are() -> None:
    """`meta` is the one device beside the CPU that is always there."""
    seeds = torch.tensor([1, 2], device="meta")
    assert noise.normal(seeds, seeds, 3, 8).device.type == "meta"


def test_the_identity_tells_codecs_apart_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    other = tiny_maya1.make_snac(tmp_path, seed=1)
    assert load(folder).identity == load(folder).identity
    assert load(folder).identity != load(other).identity
    assert json.loads(json.dumps(dict(load(folder).identity))) == load(folder).identity
    assert load(folder).sample_rate == 24_000


def test_wrong_codes_are_refused(folder: Path) -> None:
    ours = load(folder)
    with pytest.raises(ValueError, match=r"shape \[frames, 7\], got \[4, 6\]"):
        ours.decode([np.zeros((4, 6), np.int16)], [0])
    with pytest.raises(ValueError, match=r"outside 0 \.\. 4095"):
        ours.decode([np.full((1, 7), -1, np.int16)], [0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attn_window_size": 32}, "expected attn_window_size None, got 32"),
        ({"vq_strides": [8, 4, 2, 1]}, "expected vq_strides [4, 2, 1], got [8, 4, 2, 1]"),
        ({"decoder_rates": [7, 7, 3, 3]}, "odd decoder_rates"),
        ({"sampling_rate": None}, "KeyError: 'sampling_rate'"),
    ],
)
def test_another_kind_of_codec_gets_one_sentence(
    folder: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    config = {
        k: v for k, v in (tiny_maya1.SNAC_CONFIG | change).items() if v is not None or k == "attn_window_size"
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / snac.WEIGHTS).write_bytes((folder / snac.WEIGHTS).read_bytes())
    with pytest.raises(snac.CodecUnusableError) as caught:
        load(tmp_path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_or_missing_weights_get_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    for content in (None, b"", (folder / snac.WEIGHTS).read_bytes()[:5000]):
        if content is not None:
            (tmp_path / snac.WEIGHTS).write_bytes(content)
        with pytest.raises(snac.CodecUnusableError) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_missing_tensor_is_named(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / snac.WEIGHTS, weights_only=True)
    del state["decoder.model.6.alpha"]
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(state, tmp_path / snac.WEIGHTS)
    with pytest.raises(snac.CodecUnusableError, match=r"model\.6\.alpha"):
        load(tmp_path)


def test_tensorrt_without_a_gpu_says_so(folder: Path) -> None:
    with pytest.raises(tensorrt.TensorRTError, match="its engines run on CUDA devices, not on cpu"):
        load(folder, backend="tensorrt")


def test_a_tensorrt_engine_is_named_after_the_gpu_that_it_is_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"a graph")
    monkeypatch.setattr(tensorrt, "bindings", lambda: SimpleNamespace(__name__="tensorrt", __version__="10.16"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"NVIDIA {device}")
    path = tensorrt.engine_path(graph, tmp_path, torch.device("cuda:1"))
    assert path.name.endswith("-10.16-nvidia-cuda:1.engine")
