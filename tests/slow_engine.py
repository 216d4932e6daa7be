"""The engine of `tests.tones` for workers in processes of their own: told what to do by words in the text.

`HOLD` waits until the gate is opened (the file `open` in the engine's folder), `HANG` does so and does not even hear that
it is to stop, `POISON` breaks the engine, `MEMORY` raises MemoryError, `EXIT` raises SystemExit, `DIE` ends the process as
kill -9 does, `REFUSE` fails the item. Each rendering is a line in the file `rendered`: process, take key, and when, on the
monotonic clock. The environment says where the folder is, how long a segment takes, and whether loading waits for the gate,
too.
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
LOADS_SLOWLY = "SLOW_ENGINE_LOADS_SLOWLY"
POLL = 0.02  # seconds


def package(folder: Path) -> Path:
    """Make a folder that Python, where it is on its path, takes for an installed package with this engine."""
    information = folder / "packages" / "slow_engine-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-engine\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[voicemill.engines]\nslow = tests.slow_engine:SPEC\n")
    return information.parent


class Spec(tones.Spec):
    name = "slow"
    pool = "slow"

    def load(self) -> "Slow":
        if os.environ.get(BROKEN):
            raise EngineUnavailableError(engine=self.name, reason="its model is damaged")
        engine = Slow(Path(os.environ[FOLDER]), float(os.environ.get(SECONDS, "0")))
        if os.environ.get(LOADS_SLOWLY):
            engine.held(Event())
        return engine


class Slow(tones.Tones):
    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__()
        self.folder, self.seconds = folder, seconds

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        for request in requests:
            if stop.is_set() or stop.wait(self.seconds) or ("HOLD" in request.text and self.held(stop)):
                yield Partial(request.key, request.partial or b"", 0)
                continue
            self._misbehave(request.text)
            if "REFUSE" in request.text:
                yield Failure(request.key, Reason.TRUNCATED, "the token budget was reached")
                continue
            with (self.folder / "rendered").open("a") as file:
                file.write(f"{os.getpid()} {request.key} {time.monotonic():.3f}\n")
            yield Take(request.key, tones.tone(request), tones.RATE, tokens=len(request.text))

    def held(self, stop: Event) -> bool:
        """Wait until the gate is open; True if told to stop before."""
        (self.folder / f"holding-{os.getpid()}").touch()
        while not (self.folder / "open").exists():
            if stop.wait(POLL):
                return True
        return False

    def _misbehave(self, text: str) -> None:
        if "HANG" in text:
            self.held(Event())
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
