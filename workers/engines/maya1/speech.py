"""What happens beside the decode loop, in a thread of its own: codes become takes, checkpoints are handed out."""

import logging
import queue
import threading
from collections.abc import Callable

import numpy as np

from workers.engines.engine import Failure, Partial, Reason, Take
from workers.engines.maya1 import calls, constants, revoice
from workers.engines.maya1.sequence import Sequence
from workers.engines.maya1.vocoder import Vocoder

logger = logging.getLogger(__name__)

Checkpoints = Callable[[list[Partial]], None]


class Speech:
    """A vocoder and its thread. `batch` takes are decoded at once, if they are there.

    One by one, a take's sound is the same to the last bit whatever was rendered beside it.
    """

    def __init__(self, vocoder: Vocoder, batch: int, trim_first_frame: bool) -> None:
        self.vocoder = vocoder
        self._batch = batch
        self._trim = trim_first_frame
        self._codec = revoice.codec(vocoder.identity, trim_first_frame)
        self._ended: queue.SimpleQueue[Sequence | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="maya1-speech", daemon=True)
        self._thread.start()

    def put(self, ended: Sequence) -> None:
        """Answers a sequence that came to its end of speech with its take, soon."""
        self._ended.put(ended)

    def hand_out(self, partials: list[Partial], to: Checkpoints) -> None:
        """Calls `to` with the partials, soon. What it raises is logged."""
        self._ended.put(lambda: _checked(partials, to))

    def close(self) -> None:
        """Ends the thread when all that was put has been answered."""
        self._ended.put(None)
        self._thread.join()

    def _run(self) -> None:
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
        codes = [np.frombuffer(one.codes, "<i2").reshape(-1, constants.FRAME) for one in batch]
        try:
            sounds = self.vocoder.decode(codes, [one.request.seed for one in batch])
        except Exception as error:
            if len(batch) == 1:
                key = batch[0].request.key
                logger.exception("The vocoder failed on %s", key)
                calls.answer(batch[0], Failure(key, Reason.CRASHED, f"vocoder: {error}"))
                return
            sounds = None
        if sounds is None:
            self._speak(batch[: len(batch) // 2])
            self._speak(batch[len(batch) // 2 :])
            return
        for one, sound in zip(batch, sounds, strict=True):
            request, tokens = one.request, one.frames * constants.FRAME
            pcm = revoice.pcm(sound, self._trim)
            recipe = {"codec": self._codec, "seed": request.seed}
            calls.answer(
                one, Take(request.key, pcm, self.vocoder.sample_rate, tokens, bytes(one.codes), recipe)
            )


def _checked(partials: list[Partial], to: Checkpoints) -> None:
    try:
        to(partials)
    except Exception:
        logger.exception("A checkpoint of %d sequences was not kept", len(partials))
