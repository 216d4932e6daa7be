"""The engine of Maya1 for the fault harness: a tiny random model in fp32 whose texts come to an end in a second or two.

What it decodes follows from the seeds as with any Maya1; only when it ends is ours, so that takes pass the checks that
real ones must pass. A log gets how far each sequence is after every frame.
"""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import torch

from tests.faults.log import Log
from workers.engines.engine import Request, Result, Take
from workers.engines.maya1 import cache, checkpoint, constants, decode, vocoder
from workers.engines.maya1.engine import Maya1Engine
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.sequence import Sequence

CONTEXT = 512  # tokens
SLOTS = 24
LENGTH = 13.0  # frames, give or take three: a second of sound
CPU = torch.device("cpu")


class _Kernels:
    """The plain kernels, with an end of speech that becomes likely around a length."""

    def __getattr__(self, name: str) -> Any:
        return getattr(plain, name)

    def sample(self, logits: torch.Tensor, end_logits: torch.Tensor | None, slot: int, rows: Any) -> None:
        if end_logits is not None:
            frames = rows.index / constants.FRAME
            likely = torch.logsumexp(logits.float(), dim=1) + frames - LENGTH
            end_logits = torch.where(frames > LENGTH - 5, likely, -torch.inf)
        plain.sample(logits, end_logits, slot, rows)


def load(folder: Path, log: Log | None) -> Maya1Engine:
    """The engine over a checkpoint of `tests.tiny_maya1`; with a log it keeps one."""
    torch.set_num_threads(1)
    opened = checkpoint.open_directory(folder / "model")
    model = Model(opened.shape, opened.load(CPU, torch.float32), _Kernels(), CONTEXT)  # type: ignore[arg-type]

    def make(slots: int) -> decode.Decoder:
        return decode.Decoder(model, cache.Cache(model.shape, slots, CONTEXT, torch.float32, CPU))

    given: dict[str, Any] = {
        "make_decoder": make,
        "slots": SLOTS,
        "prompts": Prompts(opened.tokenizer, double_bos=True),
        "vocoder": vocoder.load(folder / "snac", CPU, folder),
        "identity": {
            "name": "maya1",
            "model": opened.fingerprint(),
            "precision": dict.fromkeys(("model", "cache", "products"), "fp32"),
        },
        "context": CONTEXT,
    }
    return Maya1Engine(**given) if log is None else Talker(log, **given)


class Talker(Maya1Engine):
    """Maya1 that writes down how far it is. The log is written by the decoding thread, but for takes."""

    def __init__(self, log: Log, **given: Any) -> None:
        self._log = log
        self._numbers: dict[Event, str] = {}  # of calls, by what stops them
        self._seen: set[int] = set()  # sequences whose start is written down
        super().__init__(**given)

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        wanted = list(requests)
        number = self._numbers[stop] = uuid.uuid4().hex[:8]
        self._log.write(number, begin=[request.key for request in wanted])
        try:
            for result in super().render(wanted, stop):
                if isinstance(result, Take):
                    self._log.write(number, take=result.key)
                yield result
            self._log.write(number, end="stopped" if stop.is_set() else "complete")
        except GeneratorExit:
            self._log.write(number, end="left")
            raise

    def _turn(self) -> None:
        super()._turn()
        self._tell(self._decoder.active)

    def _admit(self) -> None:
        super()._admit()
        for one in self._decoder.active:
            if id(one) not in self._seen:
                self._seen.add(id(one))
                self._log.write(self._numbers[one.owner.stop], start=one.request.key, tokens=_tokens(one))

    def _end(self, ended: Sequence) -> None:
        self._tell([ended])
        self._seen.discard(id(ended))
        super()._end(ended)

    def _let_go(self, over: Any) -> None:
        before = list(self._decoder.active)
        super()._let_go(over)
        self._seen -= {id(one) for one in before} - {id(one) for one in self._decoder.active}

    def _tell(self, sequences: list[Sequence]) -> None:
        calls: dict[str, dict[str, int]] = {}
        for one in sequences:
            calls.setdefault(self._numbers[one.owner.stop], {})[one.request.key] = _tokens(one)
        for number, at in calls.items():
            self._log.write(number, at=at)


def _tokens(one: Sequence) -> int:
    return one.frames * constants.FRAME
