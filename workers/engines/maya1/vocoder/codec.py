"""The vocoder of takes: batches of blocks through one of SNAC's decoders, whichever backend it is."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.engines.maya1 import constants, faults
from workers.engines.maya1.vocoder import blocks, noise, snac

BUDGET = 1024  # frames of one batch, 87 s of sound: about 1.6 GB of activations in fp16
LEAST = 32  # frames that memory must do for

Sound = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # `snac.Decoder.forward`, whatever computes it


class SnacVocoder:
    """SNAC on one device. `make_sound` turns the reference decoder into what is run."""

    def __init__(
        self,
        path: Path,
        device: torch.device,
        noisy: bool,
        make_sound: Callable[[snac.Decoder], Sound],
        budget: int = BUDGET,
    ) -> None:
        latents, decoder = snac.load(path)
        self.config = decoder.config
        half = device.type == "cuda"
        self.device = device
        self.budget = self._most = budget
        self.noisy = noisy and self.config.noise
        self._latents = (latents.half() if half else latents).to(device)
        self._sound = make_sound((decoder.to_half() if half else decoder).to(device))
        self._stream = torch.cuda.Stream(device) if half else None  # type: ignore[no-untyped-call]
        if self._stream is not None:  # the weights may still be on their way
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self.identity: Mapping[str, Any] = {
            "codec": "snac",
            "weights": snac.digest(path)[:16],
            "precision": "fp16" if half else "fp32",
            "noise": self.noisy,
        }

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.config.sampling_rate

    def decode(self, codes: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        """See `Vocoder.decode`. Raises ValueError for codes of another shape or out of range.

        Where the device's memory does not do, batches become smaller from then on, and blocks with them.
        """
        for take in codes:
            if take.ndim != 2 or take.shape[1] != constants.FRAME:
                raise ValueError(f"expected codes of shape [frames, {constants.FRAME}], got {list(take.shape)}")
            if take.size and not 0 <= take.min() <= take.max() < self.config.codebook_size:
                raise ValueError(f"codes outside 0 .. {self.config.codebook_size - 1}")
        while True:
            try:
                return self._sounds(codes, seeds)
            except RuntimeError as error:
                if not faults.is_out_of_memory(error):
                    raise
                if self.budget < 2 * LEAST:
                    self.budget = self._most  # who makes room and calls again finds out how much there is then
                    raise
            self.budget //= 2
            torch.cuda.empty_cache()

    def _sounds(self, codes: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        samples = self.config.frame_samples
        sounds = [np.zeros(len(take) * samples, dtype=np.float32) for take in codes]
        most = min(blocks.BLOCK, self.budget - 2 * blocks.CONTEXT)
        pieces = list(blocks.cut([len(take) for take in codes], most))
        for batch in blocks.group(pieces, self.budget):
            for block, sound in zip(batch, self._decode(batch, codes, seeds), strict=True):
                kept = slice(block.keep_from * samples, block.keep_to * samples)
                sounds[block.take][kept] = sound[kept.start - block.start * samples :][: kept.stop - kept.start]
        return sounds

    @torch.inference_mode()
    def _decode(
        self, batch: list[blocks.Block], codes: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> np.ndarray:
        """fp32 [batch, samples] of blocks padded to the first, longest one."""
        padded = np.zeros((len(batch), batch[0].frames, constants.FRAME), dtype=np.int64)
        for row, block in zip(padded, batch, strict=True):
            row[: block.frames] = codes[block.take][block.start : block.stop]
        lengths = torch.tensor([block.frames for block in batch]) * snac.LATENTS
        starts = torch.tensor([block.start for block in batch]) * snac.LATENTS
        keys = torch.tensor([seeds[block.take] for block in batch])
        with self._on_stream():
            latent = self._latents(torch.from_numpy(padded).to(self.device))
            drawn = None
            if self.noisy:
                values = sum(self.config.steps)
                drawn = noise.normal(keys.to(self.device), starts.to(self.device), latent.shape[1], values)
                drawn = drawn.to(latent.dtype)
            sound: np.ndarray = self._sound(latent, lengths.to(self.device), drawn).cpu().numpy()
        return sound

    def _on_stream(self) -> AbstractContextManager[Any]:
        """Work beside the decode loop, on a stream of its own."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
