"""The language model's forward pass: a frame of seven tokens for all rows, and the prefill of prompts.

Exact rearrangements of a Llama: Q, K, V in one product and gate and up in another; the head cut into its seven
slots, because position in the frame decides which 4,096 ids are legal; a prompt's last token is not prefilled
but fed by the first decode step, so the prefill needs neither head nor sampler.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from workers.engines.maya1 import constants
from workers.engines.maya1.architecture import Architecture
from workers.engines.maya1.cache import Cache
from workers.engines.maya1.kernels import Kernels, LayerCache, Matrix, Quantised, Rows, plain


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's weights, as [out, in]."""

    input_norm: Tensor  # [hidden]
    qkv: Matrix  # [(H + 2 V) * D, hidden]
    output: Matrix  # [hidden, H * D]
    post_norm: Tensor  # [hidden]
    gate_up: Matrix  # [2 * intermediate, hidden]
    down: Matrix  # [hidden, intermediate]


@dataclass(frozen=True, slots=True)
class Weights:
    """All of the model. `head` has the rows of the ids 128258 (end of speech) .. 156937 (the last audio id)."""

    embedding: Tensor  # [vocabulary, hidden]
    layers: list[Layer]
    norm: Tensor  # [hidden]
    head: Tensor  # [28680, hidden]; a view of the embedding where the two are tied

    @property
    def end(self) -> Tensor:
        """The head's row of the end of speech, [1, hidden]."""
        return self.head[:1]

    def slot(self, slot: int) -> Tensor:
        """The head's rows of one frame slot's codes, [4096, hidden]."""
        first = constants.AUDIO_START - constants.SPEECH_END + slot * constants.CODES
        return self.head[first : first + constants.CODES]


class Model:
    """Weights, the cache and the kernels that work on them."""

    def __init__(self, shape: Architecture, weights: Weights, kernels: Kernels, positions: int) -> None:
        self.shape = shape
        self.weights = weights
        self.kernels = kernels
        self.rotation = shape.rotation(positions).to(weights.embedding.device)
        self.quantised = isinstance(weights.layers[0].qkv, Quantised)  # 8-bit products

    def frame(self, rows: Rows, cache: Cache, longest: int) -> None:
        """Seven decode steps: fills `rows.codes` and moves the rows on. All positions stay under `longest`.

        Never waits for the device (with kernels that do not), so it can be captured as one CUDA graph.
        """
        for slot in range(constants.FRAME):
            hidden = functional.embedding(rows.token, self.weights.embedding)
            hidden = self._normed(*self._layers(hidden, cache, rows, longest))
            logits = functional.linear(hidden, self.weights.slot(slot))
            end = functional.linear(hidden, self.weights.end)[:, 0] if slot == 0 else None
            self.kernels.sample(logits, end, slot, rows)

    def prefill(self, tokens: Tensor, slots: Tensor, starts: Many[int], cache: Cache) -> None:
        """Writes keys and values of tokens [n, length] into each slot [n], from its own start on, after what is there.

        Rows shorter than `length` may be padded at their end with any id: no true token looks at a later one, and
        a padded position is written anew before a decode step reads it.
        """
        self._prompt(tokens, slots, starts, cache, whole=False)

    def logits(self, tokens: Tensor, head: Tensor) -> Tensor:
        """float32 [length, rows of the head] for one sequence [length]: every step's distribution, for checks."""
        cache = Cache(self.shape, 1, len(tokens), self.weights.embedding.dtype, tokens.device)
        slots = torch.zeros(1, dtype=torch.int64, device=tokens.device)
        hidden, residual = self._prompt(tokens[None], slots, [0], cache, whole=True)
        return functional.linear(self._normed(hidden, residual), head).float()

    def _prompt(
        self, tokens: Tensor, slots: Tensor, starts: Many[int], cache: Cache, whole: bool
    ) -> tuple[Tensor, Tensor | None]:
        """All layers over tokens [n, length]. Not `whole`: stops when the last layer's keys are written.

        Padding that would lie beyond the cache goes to its last position, which no prompt reaches.
        """
        count, length = tokens.shape
        slot = slots.repeat_interleave(length)
        start = torch.tensor(starts, device=tokens.device)[:, None]
        place = start + torch.arange(length, device=tokens.device)  # [n, length]
        position = place.clamp(max=cache.length - 1).flatten()
        reach = min(max(starts) + length, cache.length)
        mask = torch.arange(reach, device=tokens.device) <= place[..., None]  # [n, length, reach]
        hidden = functional.embedding(tokens.flatten(), self.weights.embedding)
        residual: Tensor | None = None
        for index, layer in enumerate(self.weights.layers):
            part = cache.layer(index)
            query, residual = self._query(layer, hidden, residual, part, slot, position)
            if not whole and index + 1 == len(self.weights.layers):
                break
            attended = self._prompt_attention(query.view(count, length, *query.shape[1:]), part, slots, mask)
            hidden, residual = self._rest(layer, attended, residual)
        return hidden, residual

    def _layers(self, hidden: Tensor, cache: Cache, rows: Rows, longest: int) -> tuple[Tensor, Tensor | None]:
        residual: Tensor | None = None
        for index, layer in enumerate(self.weights.layers):
            part = cache.layer(index)
            query, residual = self._query(layer, hidden, residual, part, rows.slot, rows.position)
            attended = self.kernels.decode_attention(query, part, rows.slot, rows.position, longest)
            hidden, residual = self._rest(layer, attended, residual)
        return hidden, residual

    def _query(
        self,
        layer: Layer,
        hidden: Tensor,
        residual: Tensor | None,
        cache: LayerCache,
        slot: Tensor,
        position: Tensor,
    ) -> tuple[Tensor, Tensor]:
        normed, residual = self._norm(hidden, residual, layer.input_norm)
        qkv = self.kernels.linear(normed, layer.qkv)
        return self.kernels.rope_and_store(qkv, self.rotation, cache, slot, position), residual

    def _rest(self, layer: Layer, attended: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Everything of a layer after its attention."""
        product = self.kernels.linear(
            self.kernels.quantised(attended) if self.quantised else attended, layer.output
        )
        normed, residual = self._norm(product, residual, layer.post_norm)
        inner = self.kernels.silu_mul(self.kernels.linear(normed, layer.gate_up), self.quantised)
        return self.kernels.linear(inner, layer.down), residual

    def _norm(self, hidden: Tensor, residual: Tensor | None, weight: Tensor) -> tuple[Matrix, Tensor]:
        return self.kernels.add_rms_norm(hidden, residual, weight, self.shape.epsilon, self.quantised)

    def _normed(self, hidden: Tensor, residual: Tensor | None) -> Tensor:
        """After the last layer. The head is never quantised."""
        normed, _ = self.kernels.add_rms_norm(hidden, residual, self.weights.norm, self.shape.epsilon)
        assert isinstance(normed, Tensor)
        return normed

    def _prompt_attention(self, query: Tensor, cache: LayerCache, slots: Tensor, mask: Tensor) -> Tensor:
        """Attention of query [n, length, H, D] over what of the cache the mask lets it see: [n * length, H * D]."""
        count, length, heads, width = query.shape
        keys, values = plain.read(cache, slots, mask.shape[-1], query.dtype)
        share = heads // keys.shape[2]
        keys, values = (part.transpose(1, 2).repeat_interleave(share, dim=1) for part in (keys, values))
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, attn_mask=mask[:, None]
        )
        return attended.transpose(1, 2).reshape(count * length, heads * width)
