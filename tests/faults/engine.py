"""Engines for the fault harness: what they render is a line in a log before anybody else knows of it.

`faults-espeak` is espeak at a given pace. `faults-tones` makes tones token by token, many sequences at once, as a language
model does: it goes on from partials, gives partials when told to stop, and says in the log how far each sequence is.
`faults-maya1` is Maya1 itself with a tiny random model (`tests.faults.talker`).
"""

import faulthandler
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import cast

from tests import tones
from tests.faults.log import Log
from workers.engines import espeak, maya1
from workers.engines.engine import Checkpoints, Engine, EngineSpec, Options, Partial, Request, Result, Take
from workers.voices import Voice

LOG, SECONDS, MODEL, STACKS = "FAULTS_LOG", "FAULTS_SECONDS", "FAULTS_MODEL", "FAULTS_STACKS"
STEP_SECONDS = 0.1
STEP_TOKENS = 4  # of each sequence
SLOTS = 24  # sequences at once, in one call

if STACKS in os.environ:  # on SIGUSR2 a process says what each of its threads is doing, in a file of its own
    faulthandler.register(signal.SIGUSR2, file=(Path(os.environ[STACKS]) / str(os.getpid())).open("a"))


class Spec:
    """An engine's own specification, with a pool of its own and another way to load it. It needs no GPU."""

    def __init__(self, inner: EngineSpec, pool: str, load: Callable[[], Engine]) -> None:
        self._inner, self._load = inner, load
        self.name, self.pool = inner.name, pool
        self.options, self.needs_gpu = inner.options, False
        self.tokens_per_character, self.token_rate = inner.tokens_per_character, inner.token_rate

    def unavailable(self) -> str | None:
        return None

    def voice(self, voice: Voice) -> str:
        return self._inner.voice(voice)

    def prepare(self, text: str, options: Options) -> str:
        return self._inner.prepare(text, options)

    def load(self) -> Engine:
        return self._load()


class Paced:
    """An engine that takes its time, and writes down every take."""

    def __init__(self, inner: Engine, log: Log, seconds: float) -> None:
        self._inner, self._log, self._seconds = inner, log, seconds
        self.sample_rate, self.identity = inner.sample_rate, inner.identity

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        wanted = list(requests)
        call = uuid.uuid4().hex[:8]
        self._log.write(call, begin=[request.key for request in wanted])
        try:
            for result in self._inner.render(self._paced(wanted, stop), stop):
                if isinstance(result, Take):
                    self._log.write(call, take=result.key)
                yield result
            self._log.write(call, end="stopped" if stop.is_set() else "complete")
        except GeneratorExit:
            self._log.write(call, end="left")
            raise

    def _paced(self, requests: list[Request], stop: Event) -> Iterator[Request]:
        for request in requests:
            stop.wait(self._seconds)
            yield request

    def close(self) -> None:
        self._inner.close()


class Sequences(tones.Tones):
    """Tones that come token by token."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        self.on_checkpoint: Checkpoints | None = None
        self.checkpoint_interval = 20.0  # seconds

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        waiting = list(requests)[::-1]
        call = uuid.uuid4().hex[:8]
        self._log.write(call, begin=[request.key for request in waiting])
        running: dict[str, tuple[Request, int]] = {}
        due = time.monotonic() + self.checkpoint_interval
        try:
            while (waiting or running) and not stop.wait(STEP_SECONDS):
                while waiting and len(running) < SLOTS:
                    request = waiting.pop()
                    at = int(request.partial or b"0")
                    running[request.key] = request, at
                    self._log.write(call, start=request.key, tokens=at)
                yield from self._step(call, running)
                if self.on_checkpoint is not None and time.monotonic() >= due:
                    self.on_checkpoint([_partial(key, at) for key, (_, at) in running.items()])
                    due = time.monotonic() + self.checkpoint_interval
            yield from [_partial(key, at) for key, (_, at) in running.items()]
            yield from [Partial(request.key, request.partial or b"", 0) for request in waiting]
            self._log.write(call, end="stopped" if waiting or running else "complete")
        except GeneratorExit:
            self._log.write(call, end="left")
            raise

    def _step(self, call: str, running: dict[str, tuple[Request, int]]) -> Iterator[Result]:
        for key, (request, at) in running.items():
            running[key] = request, min(at + STEP_TOKENS, tokens_of(request.text))
        self._log.write(call, at={key: at for key, (_, at) in running.items()})
        for key, (request, at) in list(running.items()):
            if at == tokens_of(request.text):
                del running[key]
                self._log.write(call, take=key)
                yield Take(key, tones.tone(request), tones.RATE, tokens=at)


def _partial(key: str, at: int) -> Partial:
    return Partial(key, str(at).encode(), at)


def tokens_of(text: str) -> int:
    """Tokens that a text is made of."""
    return 5 * len(text)


def _log() -> Log:
    return Log(Path(os.environ[LOG]))


def _talker(log: Log | None) -> Engine:
    from tests.faults import talker  # brings torch with it

    return talker.load(Path(os.environ[MODEL]), log)


_TONES = cast(EngineSpec, tones.Spec())
ESPEAK = Spec(
    espeak.SPEC,
    "faults-espeak",
    lambda: Paced(espeak.SPEC.load(), _log(), float(os.environ.get(SECONDS, "0"))),
)
TONES = Spec(_TONES, "faults-tones", lambda: Sequences(_log()))
MAYA1 = Spec(cast(EngineSpec, maya1.SPEC), "faults-maya1", lambda: _talker(_log()))
SPECS: Mapping[str, Spec] = {"espeak": ESPEAK, "tones": TONES, "maya1": MAYA1}
PLAIN: Mapping[str, EngineSpec] = {
    "espeak": espeak.SPEC,
    "tones": _TONES,
    "maya1": Spec(cast(EngineSpec, maya1.SPEC), "maya1", lambda: _talker(None)),
}
