"""The engine of `tests.tones` for workers in processes of their own: told what to do by words in the text.

`HOLD` waits until the gate is opened (the file `open` in the engine's folder), `POISON` breaks the engine, `MEMORY` raises
MemoryError, `EXIT` raises SystemExit, `DIE` ends the process as kill -9 does, `REFUSE` fails the item. Each rendering is a
line in the file `rendered`: process, take key. The environment says where the folder is and how long a segment takes.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event

from tests import tones
from workers.engines.engine import EngineUnavailableError, Failure, Partial, Reason, Request, Result, Take

FOLDER, SECONDS, BROKEN = "SLOW_ENGINE_FOLDER", "SLOW_ENGINE_SECONDS", "SLOW_ENGINE_BROKEN"
POLL = 0.02  # seconds


class Spec(tones.Spec):
    name = "slow"
    pool = "slow"

    def load(self) -> "Slow":
        if os.environ.get(BROKEN):
            raise EngineUnavailableError(engine=self.name, reason="its model is damaged")
        return Slow(Path(os.environ[FOLDER]), float(os.environ.get(SECONDS, "0")))


class Slow(tones.Tones):
    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__()
        self.folder, self.seconds = folder, seconds

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        for request in requests:
            if stop.is_set() or stop.wait(self.seconds) or ("HOLD" in request.text and self._held(stop)):
                yield Partial(request.key, request.partial or b"", 0)
                continue
            self._misbehave(request.text)
            if "REFUSE" in request.text:
                yield Failure(request.key, Reason.TRUNCATED, "the token budget was reached")
                continue
            with (self.folder / "rendered").open("a") as file:
                file.write(f"{os.getpid()} {request.key}\n")
            yield Take(request.key, tones.tone(request), tones.RATE, tokens=len(request.text))

    def _held(self, stop: Event) -> bool:
        """Wait until the gate is open; True if told to stop before."""
        (self.folder / f"holding-{os.getpid()}").touch()
        while not (self.folder / "open").exists():
            if stop.wait(POLL):
                return True
        return False

    def _misbehave(self, text: str) -> None:
        if "POISON" in text:
            raise RuntimeError("the device is gone")
        if "MEMORY" in text:
            raise MemoryError("out of memory")
        if "EXIT" in text:
            raise SystemExit(3)
        if "DIE" in text:
            time.sleep(POLL)
            os.kill(os.getpid(), signal.SIGKILL)


SPEC = Spec()
