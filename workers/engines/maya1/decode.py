"""The decode loop's steps, frame by frame: admit, run a frame, retire. Knows no threads and no requests' owners.

All rows are at the same slot of their frame at any time, because rows come and go between frames only. A row owns a
stretch of the cache; rows of the batch are put in a new order by writing small vectors, never by moving the cache.
"""

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Many

import numpy as np
import torch
from torch import Tensor

from workers.engines.maya1 import constants
from workers.engines.maya1.cache import Cache
from workers.engines.maya1.kernels import Rows
from workers.engines.maya1.model import Model
from workers.engines.maya1.sequence import End, Sequence

PREFILL_TOKENS = 8192  # of one group, padding included
KEPT_PREFIXES = 16  # voices whose keys and values are kept

Runner = Callable[[int, int], None]  # runs a frame for the first n rows, whose positions stay under a bound


class Decoder:
    """A cache's worth of sequences being decoded together.

    `make_runner` decides how a frame is run: plainly, or as one captured CUDA graph for each batch size.
    """

    def __init__(
        self, model: Model, cache: Cache, make_runner: Callable[[Model, Cache, Rows], Runner] | None = None
    ) -> None:
        self.model = model
        self.cache = cache
        self.active: list[Sequence] = []
        self.free = list(range(cache.slots))
        self.rows = empty_rows(cache)
        self._run = (make_runner or plain_runner)(model, cache, self.rows)
        self._changed = True
        self._prefixes: OrderedDict[tuple[int, ...], list[Tensor]] = OrderedDict()

    def admit(self, sequences: Many[Sequence]) -> None:
        """Gives each a slot and prefills prompts, and codes of those that go on. At most as many as are free."""
        if not sequences:
            return
        for sequence in sequences:
            sequence.slot = self.free.pop()
        self.active += sequences
        self._changed = True
        starts = self._share(sequences)
        # The last id is fed by the first decode step.
        self._prefill([(s.slot, known(s)[start:-1], start) for s, start in zip(sequences, starts, strict=True)])
        device = self.rows.slot.device
        self.rows.seen[torch.tensor([s.slot for s in sequences], device=device)] = 0
        for sequence in sequences:
            if sequence.codes:
                frames = torch.from_numpy(np.frombuffer(sequence.codes, "<i2").astype(np.int64)).to(device)
                self.rows.seen[sequence.slot].scatter_(1, frames.view(-1, constants.FRAME).T, 1)

    def step(self) -> list[Sequence]:
        """Decodes one frame of every active sequence and gives those that ended, now without a slot."""
        if self._changed:
            self._upload()
        longest = max(map(length, self.active)) + constants.FRAME
        count = len(self.active)
        self._run(count, longest)
        codes = self.rows.codes[:count].cpu().numpy().astype("<i2")
        frames, width = codes.tobytes(), constants.FRAME * 2
        for row, sequence in enumerate(self.active):
            if codes[row, 0] < 0:
                sequence.end = End.SPEECH
            else:
                sequence.add(frames[row * width : (row + 1) * width])
        ended = [s for s in self.active if s.end]
        self.release(ended)
        return ended

    def release(self, sequences: Many[Sequence]) -> None:
        """Takes sequences out of the batch; their slots are free from the next frame on."""
        if not sequences:
            return
        for sequence in sequences:
            self.free.append(sequence.slot)
            sequence.slot = -1
        self.active = [s for s in self.active if s.slot >= 0]
        self._changed = True

    def _share(self, sequences: Many[Sequence]) -> list[int]:
        """Copies keys and values of voices into the slots of their sequences; tells how many ids that was for each.

        A voice's part of the prompt is computed once, in the slot of one that needs it, if two do or it is known already.
        """
        voices: dict[tuple[int, ...], list[int]] = {}
        for one in sequences:
            if one.prefix and one.prompt[: len(one.prefix)] == one.prefix:
                voices.setdefault(one.prefix, []).append(one.slot)
        new = {v: slots[0] for v, slots in voices.items() if len(slots) > 1 and v not in self._prefixes}
        self._prefill([(slot, voice, 0) for voice, slot in new.items()])
        for voice, slot in new.items():
            self._prefixes[voice] = self.cache.take_out(slot, len(voice))
        shared: dict[int, int] = {}
        for voice in [voice for voice in voices if voice in self._prefixes]:
            self.cache.put_in(self._prefixes[voice], torch.tensor(voices[voice], device=self.rows.slot.device))
            self._prefixes.move_to_end(voice)
            shared |= dict.fromkeys(voices[voice], len(voice))
        while len(self._prefixes) > KEPT_PREFIXES:
            self._prefixes.popitem(last=False)
        return [shared.get(one.slot, 0) for one in sequences]

    def _prefill(self, parts: list[tuple[int, tuple[int, ...], int]]) -> None:
        """Slots, what is to be written there, and after how many ids: like lengths together, whatever they start at."""
        device = self.rows.slot.device
        parts = sorted((part for part in parts if part[1]), key=lambda part: -len(part[1]))
        while parts:
            longest = len(parts[0][1])
            group = parts[: max(1, PREFILL_TOKENS // longest)]
            parts = parts[len(group) :]
            padded = np.zeros((len(group), longest), dtype=np.int64)
            for row, (_, tokens, _) in zip(padded, group, strict=True):
                row[: len(tokens)] = tokens
            slots = torch.tensor([slot for slot, _, _ in group], device=device)
            starts = [start for _, _, start in group]
            self.model.prefill(torch.from_numpy(padded).to(device), slots, starts, self.cache)

    def _upload(self) -> None:
        """Writes the rows' state, longest first (so that the last programs of a kernel are short ones)."""
        self.active.sort(key=lambda s: -length(s))
        count = len(self.active)
        state: dict[str, tuple[list[float], float]] = {  # of the active rows, and of the empty ones
            "slot": ([s.slot for s in self.active], self.cache.slots),
            "position": ([length(s) - 1 for s in self.active], 0),
            "token": ([last(s) for s in self.active], 0),
            "index": ([len(s.codes) // 2 for s in self.active], 0),
            "done": ([0] * count, 1),
            "seed": ([s.request.seed for s in self.active], 0),
            "temperature": ([s.temperature for s in self.active], 0),
            "tail": ([1 - s.top_p for s in self.active], 0),
            "penalty": ([s.penalty for s in self.active], 1),
        }
        for name, (values, empty) in state.items():
            row: Tensor = getattr(self.rows, name)
            row.copy_(torch.tensor(values + [empty] * (len(row) - count), dtype=row.dtype))
        self._changed = False


def length(sequence: Sequence) -> int:
    """Ids of a sequence so far: its prompt, then seven a frame."""
    return len(sequence.prompt) + len(sequence.codes) // 2


def known(sequence: Sequence) -> tuple[int, ...]:
    """All ids of a sequence so far: its prompt, then its codes as ids."""
    codes = np.frombuffer(sequence.codes, "<i2").reshape(-1, constants.FRAME).astype(np.int64)
    ids = codes + constants.AUDIO_START + constants.CODES * np.arange(constants.FRAME)
    return (*sequence.prompt, *ids.ravel().tolist())


def last(sequence: Sequence) -> int:
    """The id that a sequence's next step is fed."""
    if not sequence.codes:
        return sequence.prompt[-1]
    slot = constants.FRAME - 1
    return constants.AUDIO_START + slot * constants.CODES + int.from_bytes(sequence.codes[-2:], "little")


def empty_rows(cache: Cache) -> Rows:
    """State for as many rows as the cache has slots, all of them empty."""
    device, count = cache.data.device, cache.slots

    def numbers(dtype: torch.dtype) -> Tensor:
        return torch.zeros(count, dtype=dtype, device=device)

    return Rows(
        slot=numbers(torch.int64) + cache.slots,
        position=numbers(torch.int64),
        token=numbers(torch.int64),
        index=numbers(torch.int64),
        done=numbers(torch.bool) | True,
        seed=numbers(torch.int64),
        temperature=numbers(torch.float32),
        tail=numbers(torch.float32),
        penalty=numbers(torch.float32) + 1,
        codes=torch.zeros(count, constants.FRAME, dtype=torch.int16, device=device),
        seen=torch.zeros(count + 1, constants.FRAME, constants.CODES, dtype=torch.uint8, device=device),
    )


def plain_runner(model: Model, cache: Cache, rows: Rows) -> Runner:
    """Runs frames operation by operation."""
    return lambda count, longest: model.frame(rows.view(count), cache, longest)
