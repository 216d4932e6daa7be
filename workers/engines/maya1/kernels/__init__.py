"""The operations of one decode step behind one interface: plain torch is the definition, Triton the fast one.

Words: n rows are decoded at once; every row owns one slot of the cache; H query heads, V key/value heads,
D head width. No operation synchronises with the host, so that a frame can be one CUDA graph.
"""

import importlib.util
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Quantised(NamedTuple):
    """A matrix in 8 bits with one scale a row: `values.float() * scale` is the matrix."""

    values: Tensor  # float8_e4m3fn [rows, columns]
    scale: Tensor  # float32 [rows, 1]


Matrix = Tensor | Quantised


class LayerCache(NamedTuple):
    """Keys and values of one layer. A token's K and V lie side by side for each head.

    Scales lie head by head, so that what reads one head of many tokens reads them in one piece.
    """

    data: Tensor  # [slots, length, V, 2 (K, V), D]: the model's dtype, or float8_e4m3fn, or int8
    scale: Tensor | None  # float32 [slots, V, length, 2], one for each vector of D; None: not quantised


@dataclass(frozen=True, slots=True)
class Rows:
    """The state of the rows being decoded, all on the device."""

    slot: Tensor  # int64 [n]: the cache slot that the row owns
    position: Tensor  # int64 [n]: where in the slot `token` goes; so many tokens are there already
    token: Tensor  # int64 [n]: the id to be fed next
    index: Tensor  # int64 [n]: tokens generated so far; with `seed` it keys the random numbers
    done: Tensor  # bool [n]: the row has ended (or is empty): its state stands still
    seed: Tensor  # int64 [n]
    temperature: Tensor  # float32 [n]: 0 takes the likeliest token
    tail: Tensor  # float32 [n]: 1 - top_p, the probability mass that the nucleus may leave out
    penalty: Tensor  # float32 [n]: HF's repetition penalty
    codes: Tensor  # int16 [n, 7]: the frame being made; -1 from the end of speech on
    seen: Tensor  # uint8 [slots, 7, 4096]: 1 where the cache slot's sequence has that code

    def view(self, count: int) -> "Rows":
        """The first `count` rows, sharing memory."""
        shared = {"seen": self.seen}
        return Rows(
            **shared, **{f.name: getattr(self, f.name)[:count] for f in fields(self) if f.name != "seen"}
        )


class Kernels(Protocol):
    """What a backend offers. Each is a function of a module: `plain`, `triton`."""

    def linear(self, x: Matrix, weight: Matrix) -> Tensor:
        """x [n, in] times weight [out, in] transposed: [n, out]. Both quantised, or neither."""
        ...

    def quantised(self, x: Tensor) -> Quantised:
        """x [n, columns] as `linear` takes it when the weights are in 8 bits."""
        ...

    def add_rms_norm(
        self, x: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float, quantise: bool = False
    ) -> tuple[Matrix, Tensor]:
        """The norm of x + residual (both [n, hidden], the model's dtype; None counts as 0), and that sum."""
        ...

    def rope_and_store(
        self, qkv: Tensor, rotation: Tensor, cache: LayerCache, slot: Tensor, position: Tensor
    ) -> Tensor:
        """Rotates Q and K, writes K and V at cache[slot, position], gives Q as [n, H, D].

        qkv [n, (H + 2 V) * D]: the heads of Q, then K, then V. rotation float32 [length, D]: for each
        position the cosines of D/2 angles, then their sines; pairs are (i, i + D/2) as in Hugging Face's Llama. Also used
        by the prefill, with a row for each token.
        """
        ...

    def decode_attention(
        self, query: Tensor, cache: LayerCache, slot: Tensor, position: Tensor, longest: int
    ) -> Tensor:
        """Attention of one query a row over cache[slot, : position + 1]: [n, H * D], scaled by D ** -0.5.

        Query head h reads key/value head h // (H // V). No position is `longest` or more (a hint for `plain`).
        """
        ...

    def silu_mul(self, gate_up: Tensor, quantise: bool = False) -> Matrix:
        """silu(gate) * up of gate_up [n, 2 * width], gate first: [n, width]."""
        ...

    def sample(self, logits: Tensor, end_logits: Tensor | None, slot: int, rows: Rows) -> None:
        """Draws each row's code for frame slot 0..6 and moves the rows on, in place.

        logits [n, 4096] are the slot's; end_logits [n] the end of speech's, given at slot 0 only, and forbidden
        to rows with `index` under 28. Order and maths are `sampler.choose`'s. Then, unless the row is done or
        ends now: `codes[:, slot]`, `seen`, `token`, `position` + 1, `index` + 1. Else codes[:, slot] = -1, and
        `done`.
        """
        ...


def runs_triton(device: torch.device) -> bool:
    """Whether a device runs Triton's kernels: a CUDA one, where Triton is installed (torch for CPUs comes without)."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def select(device: torch.device) -> Kernels:
    """The fastest kernels that work on a device: Triton's, else `plain`."""
    if runs_triton(device):
        from workers.engines.maya1.kernels import fast

        return fast
    from workers.engines.maya1.kernels import plain

    return plain
