"""What happens beside the decode loop, in a thread of its own: codes become takes, checkpoints are handed out."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from workers.engines.engine import Failure, Partial, Reason, Take
from workers.engines.maya1 import calls, constants, faults, revoice
from workers.engines.maya1.sequence import Sequence
from workers.engines.maya1.vocoder import Vocoder

logger = logging.getLogger(__name__)

Checkpoints = Callable[[list[Partial]], None]


class Speech:
    """A vocoder and its thread. `batch` takes are decoded at once, if they are there.

    One by one, a take's sound is the same to the last bit whatever was rendered beside it. `precision` is what a take's
    recipe says of the numbers that its codes were made with. `make_room` has memory given back to the device, and tells
    whether there was any; `broke` hears of what no single take is to blame for.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        batch: int,
        trim_first_frame: bool,
        precision: Any,
        make_room: Callable[[], bool],
        broke: Callable[[BaseException], None],
    ) -> None:
        self.vocoder = vocoder
        self._batch = batch
        self._trim = trim_first_frame
        self._recipe = {"codec": revoice.codec(vocoder.identity, trim_first_frame), "precision": precision}
        self._make_room, self._broke = make_room, broke
        self._ended: queue.SimpleQueue[Sequence | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="maya1-speech", daemon=True)
        self._thread.start()

    def put(self, ended: Sequence) -> None:
        """Answers a sequence that came to its end of speech with its take, soon."""
        self._ended.put(ended)

    def hand_out(self, partials: list[tuple[Sequence, Partial]], to: Checkpoints) -> None:
        """Calls `to` with the partials, soon; those of sequences that have ended by then are left out.

        What it raises is logged.
        """
        self._ended.put(lambda: _checked([partial for one, partial in partials if one.end is None], to))

    def close(self) -> None:
        """Ends the thread when all that was put has been answered."""
        self._ended.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._broke(error)

    def _serve(self) -> None:
        batch: list[Sequence] = []
        while True:
            item = self._ended.get()
            if isinstance(item, Sequence):
                batch.append(item)
            elif item is not None:
                item()
            if item is None or len(batch) == self._batch or self._ended.empty():
                self._speak(batch)
                batch = []
            if item is None:
                return

    def _speak(self, batch: list[Sequence]) -> None:
        """Answers with takes. A batch that fails is halved, down to the one that is to blame."""
        if not batch:
            return
        sounds = self._decoded(batch)
        if isinstance(sounds, str):
            if len(batch) == 1:
                calls.answer(batch[0], Failure(batch[0].request.key, Reason.CRASHED, f"vocoder: {sounds}"))
                return
            self._speak(batch[: len(batch) // 2])
            self._speak(batch[len(batch) // 2 :])
            return
        for one, sound in zip(batch, sounds, strict=True):
            request, tokens = one.request, one.frames * constants.FRAME
            pcm = revoice.pcm(sound, self._trim)
            recipe = {**self._recipe, "seed": request.seed}
            calls.answer(
                one, Take(request.key, pcm, self.vocoder.sample_rate, tokens, bytes(one.codes), recipe)
            )

    def _decoded(self, batch: list[Sequence]) -> list[np.ndarray] | str:
        """The sounds, or why there are none. Raises what is the device's fault; out of memory, the decoder gives of its."""
        codes = [np.frombuffer(one.codes, "<i2").reshape(-1, constants.FRAME) for one in batch]
        while True:
            try:
                return self.vocoder.decode(codes, [one.request.seed for one in batch])
            except Exception as error:
                if faults.is_fault(error):
                    raise
                if not faults.is_out_of_memory(error):
                    if len(batch) == 1:
                        logger.exception("The vocoder failed on %s", batch[0].request.key)
                    return str(error)
            if not self._make_room():
                raise faults.OutOfDeviceMemoryError


def _checked(partials: list[Partial], to: Checkpoints) -> None:
    try:
        to(partials)
    except Exception:
        logger.exception("A checkpoint of %d sequences was not kept", len(partials))
