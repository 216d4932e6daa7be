"""SNAC's decoder as it runs on a GPU, beside its definition. Run by test_kernels_interpreted.py."""

from pathlib import Path

import pytest
import torch

from tests import tiny_maya1
from workers.engines.maya1.vocoder import fused, noise, noise_kernel, snac

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time


@pytest.mark.parametrize(("frames", "noisy"), [((1,), False), ((2, 1), True)])
def test_the_rearranged_decoder_gives_the_same_sound(
    frames: tuple[int, ...], noisy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "BLOCK_TIME", 2048)  # the interpreter takes a while for each program
    torch.manual_seed(len(frames))
    latents, decoder = snac.load(tiny_maya1.make_snac(tmp_path))
    with torch.no_grad():
        for name, value in decoder.named_parameters():
            if name.endswith("alpha"):
                value.copy_(torch.rand(value.shape) * 3 + 0.01)
    codes = torch.randint(0, 4096, (len(frames), max(frames), 7))
    lengths = torch.tensor(frames) * snac.LATENTS
    steps = max(frames) * snac.LATENTS
    noise = torch.randn(len(frames), steps, sum(decoder.config.steps)) if noisy else None
    latent = latents(codes)
    expected = decoder(latent, lengths, noise)
    got = fused.Decoder(decoder)(latent, lengths, noise)
    for row, count in enumerate(frames):
        own = slice(0, count * decoder.config.frame_samples)
        torch.testing.assert_close(got[row, own], expected[row, own], rtol=0, atol=2e-6)


def test_the_noise_is_that_of_plain_torch() -> None:
    seeds, starts = torch.tensor([0, 2**63 - 1, 77]), torch.tensor([0, 1000, 3])
    expected = noise.normal(seeds, starts, 2, 1680)
    got = noise_kernel.normal(seeds, starts, 2, 1680, noise.KEY, noise.TURN)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
