"""An engine for tests of everything around engines: each text becomes a tone of its own, at once.

Words in the text make it misbehave on purpose: `POISON` breaks the engine, `REFUSE` fails the item, `QUIET` gives
silence (which the checks refuse), `ONCE` does so only at the first seed, `SLOW` waits for `gate`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from threading import Event, Lock
from typing import Any

from workers.engines.engine import Failure, Options, Partial, Reason, Request, Result, Take
from workers.voices import Voice

RATE = 8000  # Hz
SECONDS_PER_CHARACTER = 0.06


class ToneOptions(Options):
    pitch: int = 440


class Spec:
    name = "tones"
    pool = "tones"
    needs_gpu = False
    options = ToneOptions
    tokens_per_character = 5.0
    token_rate = 82.03125

    def unavailable(self) -> str | None:
        return None

    def voice(self, voice: Voice) -> str:
        return voice.name or voice.description

    def prepare(self, text: str, options: Options) -> str:
        return text

    def load(self) -> "Tones":
        return Tones()


class Tones:
    sample_rate = RATE
    identity: Mapping[str, Any] = {"engine": "tones", "revision": 1}

    def __init__(self) -> None:
        self.rendered: Counter[str] = Counter()  # by take key
        self.calls = 0
        self.gate = Event()
        self.waiting = Event()  # a SLOW text is being rendered
        self._lock = Lock()

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        self.calls += 1
        first_seed: dict[str, int] = {}
        for request in requests:
            if stop.is_set():
                yield Partial(request.key, request.partial or b"", 0)
                continue
            if "POISON" in request.text:
                raise RuntimeError("the device is gone")
            if "SLOW" in request.text:
                self.waiting.set()
                while not (self.gate.wait(0.01) or stop.is_set()):
                    pass
                if not self.gate.is_set():
                    yield Partial(request.key, b"half", 7)
                    continue
            if "REFUSE" in request.text:
                yield Failure(request.key, Reason.TRUNCATED, "the token budget was reached")
                continue
            first_seed.setdefault(request.text, request.seed)
            quiet = "QUIET" in request.text or ("ONCE" in request.text and request.seed == 0)
            with self._lock:
                self.rendered[request.key] += 1
            yield Take(request.key, tone(request, quiet=quiet), RATE, tokens=len(request.text))

    def close(self) -> None:
        pass


def tone(request: Request, *, quiet: bool = False) -> bytes:
    digest = hashlib.sha256(f"{request.text}|{request.voice}|{request.seed}".encode()).digest()
    seconds = 0.2 + SECONDS_PER_CHARACTER * len(request.text)
    import numpy as np  # here, since a supervisor knows the engine and never renders

    at = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * (200 + digest[0] * 4 + digest[1] / 16) * at) * (0 if quiet else 0.3)
    return (wave * 32767).astype("<i2").tobytes()
