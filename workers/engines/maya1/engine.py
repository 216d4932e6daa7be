"""The engine: one thread owns the device and decodes, another turns ended codes into sound beside it.

Any number of threads call `render`; their sequences share the batch. A sequence goes inbox -> pending (longest first)
-> the decoder -> speech -> the results of its call.
"""

import collections
import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from workers.engines.engine import Failure, Reason, Request, Result
from workers.engines.maya1 import calls, constants, faults
from workers.engines.maya1.calls import Call
from workers.engines.maya1.decode import Decoder
from workers.engines.maya1.pending import Pending
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.sequence import End, Sequence
from workers.engines.maya1.speech import Checkpoints, Speech
from workers.engines.maya1.vocoder import Vocoder

logger = logging.getLogger(__name__)

CHECKPOINT_INTERVAL = 20.0  # seconds
CHECKPOINT_FRAMES = 6  # sequences shorter than this half second of speech are not worth a checkpoint
PREFILL_SHARE = 32  # sequences are admitted when a 32nd of the slots is free, so that prefills come in groups
WINDOW = 2048  # requests of one call that are known ahead, from which the longest are taken first
WARM_UP = Request("warm-up", "One.", "Calm voice.", 0, {"max_tokens": 35})
# Frames, four steps each: Triton compiles a variant for lengths that 16 divides, and one for the others.
VOCODER_WARM_UP = 4, 5


class Maya1Engine:
    """See `workers.engines.engine.Engine`. `make_decoder` gives a decoder of so many slots.

    `on_checkpoint` gets partials of the sequences in flight every `checkpoint_interval` seconds, in the vocoder's thread.
    Both may be set at any time.
    """

    def __init__(
        self,
        make_decoder: Callable[[int], Decoder],
        slots: int,
        prompts: Prompts,
        vocoder: Vocoder,
        identity: Mapping[str, Any],
        context: int,
        trim_first_frame: bool = True,
        vocoder_batch: int = 1,
        on_checkpoint: Checkpoints | None = None,
        checkpoint_interval: float = CHECKPOINT_INTERVAL,
    ) -> None:
        self.identity = identity
        self.on_checkpoint = on_checkpoint
        self.checkpoint_interval = checkpoint_interval
        self._checkpointed = time.monotonic()
        self._make_decoder = make_decoder
        self._prompts = prompts
        self._context = context
        self._pending = Pending()
        self._entering: list[Sequence] = []
        self._decoder = self._built(slots)
        self.slots = self._decoder.cache.slots  # fewer than asked for once the device ran out of memory
        self._wake = threading.Condition()
        self._inbox: list[Sequence] = []  # guarded by _wake, as is all down to _crowded
        self._calls: set[Call] = set()
        self._closing = False
        self._broken: faults.EngineBrokenError | None = None
        self._decoding = True  # until its thread ends
        self._crowded = False  # the vocoder waits for memory
        self._speech = Speech(
            vocoder, vocoder_batch, trim_first_frame, identity.get("precision"), self._make_room, self._break
        )
        self._thread = threading.Thread(target=self._run, name="maya1-decode", daemon=True)
        self._thread.start()

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self._speech.vocoder.sample_rate

    def render(self, requests: Iterable[Request], stop: threading.Event) -> Iterator[Result]:
        """See `Engine.render`. Raises EngineBrokenError, then and for ever, once the device or a thread has failed."""
        call, coming, waiting = Call(stop), iter(requests), 0
        with self._wake:
            if self._broken or self._closing:
                raise self._broken or faults.EngineClosedError
            self._calls.add(call)
        try:
            while True:
                new = itertools.islice(coming, WINDOW - waiting)
                taken = [calls.sequence_of(one, self._prompts, self._context, call) for one in new]
                accepted = [one for one in taken if isinstance(one, Sequence)]
                self._submit(accepted)
                waiting += len(accepted)
                yield from (one for one in taken if isinstance(one, Failure))
                if waiting:
                    result = call.results.get()
                    if isinstance(result, Exception):
                        raise result
                    waiting -= 1
                    yield result
                elif not taken:
                    return
        finally:
            call.abandoned = True  # the decoding thread forgets it

    def warm_up(self) -> None:
        """Runs everything once on a few tokens, so that the first batch finds kernels loaded and memory claimed."""
        collections.deque(self.render([WARM_UP], threading.Event()), maxlen=0)
        for frames in VOCODER_WARM_UP:
            self._speech.vocoder.decode([np.zeros((frames, constants.FRAME), np.int16)], [0])

    def close(self) -> None:
        """See `Engine.close`: renders in progress get partials."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join()
        self._speech.close()

    def _submit(self, sequences: list[Sequence]) -> None:
        with self._wake:
            if self._broken:
                raise self._broken
            if not self._closing:
                self._inbox += sequences
                self._wake.notify_all()
                return
        for one in sequences:
            calls.answer(one, calls.partial(one))

    def _break(self, error: BaseException) -> None:
        """Ends every call, and those that come: nothing here can be trusted any more."""
        logger.error("The engine broke", exc_info=error)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        with self._wake:
            self._broken = self._broken or faults.EngineBrokenError(reason=reason)
            for call in self._calls:
                call.results.put(self._broken)
            self._wake.notify_all()

    def _make_room(self) -> bool:
        """For the vocoder, in its thread: waits until the decoder has given up slots. False: it has none to give."""
        with self._wake:
            slots, self._crowded = self.slots, True
            self._wake.notify_all()
            self._wake.wait_for(lambda: not (self._crowded and self._decoding))
            return self.slots < slots

    # From here on in the decoding thread alone

    def _run(self) -> None:
        device = self._decoder.rows.slot.device
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)
            with torch.inference_mode():
                while self._take_in():
                    self._turn()
                    self._checkpoint()
        except BaseException as error:
            self._break(error)
        finally:
            with self._wake:
                self._decoding = False
                self._wake.notify_all()

    def _take_in(self) -> bool:
        """Moves new sequences to the pending ones; waits while there is nothing to do. False: it is time to go."""
        with self._wake:
            self._wake.wait_for(self._has_to_act)
            if self._broken:
                return False
            new, self._inbox = self._inbox, []
            closing, crowded = self._closing, self._crowded
        for one in new:
            self._pending.push(one)
        if closing:
            self._let_go(lambda call: True)
        elif crowded:
            self._shrink()
        return not closing

    def _has_to_act(self) -> bool:
        told = self._crowded or self._closing or self._broken
        return bool(told or self._inbox or self._pending or self._decoder.active)

    def _turn(self) -> None:
        """One frame: lets go of what was stopped, admits, decodes. Out of memory: half the slots, nothing lost."""
        self._let_go(lambda call: call.over)
        try:
            self._admit()
            if self._decoder.active:
                for ended in self._decoder.step():
                    self._end(ended)
            return
        except RuntimeError as error:
            if not faults.is_out_of_memory(error):
                raise
        self._shrink()  # here, where the traceback no longer holds the tensors of what failed

    def _let_go(self, over: Callable[[Call], bool]) -> None:
        """Answers every sequence of the calls that are over with its partial."""
        with self._wake:
            gone = {call for call in self._calls if over(call)}
            self._calls -= {call for call in gone if call.abandoned}
        if not gone:
            return
        active = [one for one in self._decoder.active if one.owner in gone]
        self._decoder.release(active)
        for one in active + self._pending.remove(lambda one: one.owner in gone):
            calls.answer(one, calls.partial(one))

    def _admit(self) -> None:
        decoder = self._decoder
        enough = min(len(self._pending), max(1, decoder.cache.slots // PREFILL_SHARE))
        if self._pending and (len(decoder.free) >= enough or not decoder.active):
            self._entering = self._pending.pop(len(decoder.free))
            decoder.admit(self._entering)
            self._entering = []

    def _end(self, ended: Sequence) -> None:
        if ended.end is End.SPEECH:
            self._speech.put(ended)
            return
        if ended.end is End.LOOP:
            reason, detail = Reason.LOOP, "the same few frames again and again"
        else:
            reason, detail = Reason.TRUNCATED, "no end of speech within the budget"
        tokens = ended.frames * constants.FRAME
        length = f"{tokens} tokens ({tokens / constants.TOKENS_PER_SECOND:.1f} s)"
        detail = f"{detail}: {length} of {len(ended.request.text)} characters"
        calls.answer(ended, Failure(ended.request.key, reason, detail))

    def _checkpoint(self) -> None:
        now = time.monotonic()
        if self.on_checkpoint is None or now < self._checkpointed + self.checkpoint_interval:
            return
        self._checkpointed = now
        if begun := [one for one in self._decoder.active if one.frames >= CHECKPOINT_FRAMES]:
            self._speech.hand_out([(one, calls.partial(one)) for one in begun], self.on_checkpoint)

    def _shrink(self) -> None:
        """Half the slots; everything that was in one goes back to wait, with its codes."""
        back = {id(one): one for one in self._decoder.active + self._entering}.values()
        slots = self._decoder.cache.slots
        if slots == 1:
            raise faults.OutOfDeviceMemoryError
        logger.warning("Out of device memory with %d sequences at once; going on with %d.", slots, slots // 2)
        for one in back:
            one.slot = -1
            self._pending.push(one)
        self._entering = []
        del self._decoder
        self._decoder = self._built(slots // 2)
        with self._wake:
            self.slots, self._crowded = self._decoder.cache.slots, False
            self._wake.notify_all()

    def _built(self, slots: int) -> Decoder:
        """A decoder of as many slots as there is memory for."""
        while True:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            try:
                return self._make_decoder(slots)
            except RuntimeError as error:
                if not faults.is_out_of_memory(error):
                    raise
            if slots == 1:
                raise faults.OutOfDeviceMemoryError
            slots //= 2
