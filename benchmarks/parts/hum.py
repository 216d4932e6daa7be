"""An engine that costs nothing: whatever the text, one second of the same hum, at once.

It is not silent, since the checks refuse silence. `installed` makes a folder that Python takes for an installed package with this
engine in it, so that worker processes find it as they find any other: `PYTHONPATH=FOLDER voicemill worker --engine hum`.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from workers.engines.engine import Options, Partial, Request, Result, Take
from workers.voices import Voice

RATE = 8000  # Hz
SOUND = (b"\x10\x10" * 20 + b"\xf0\xef" * 20) * (RATE // 40)  # mono PCM16: 200 Hz at -18 dBFS for 1 s


class Hum:
    sample_rate = RATE
    identity: Mapping[str, Any] = {"engine": "hum", "revision": 1}

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        for request in requests:
            if stop.is_set():
                yield Partial(request.key, b"", 0)
            else:
                yield Take(request.key, SOUND, RATE, tokens=len(request.text))

    def close(self) -> None:
        pass


class Spec:
    name = "hum"
    pool = "hum"
    options = Options
    tokens_per_character = 5.0
    token_rate = 82.03125
    needs_gpu = False

    def unavailable(self) -> str | None:
        return None

    def voice(self, voice: Voice) -> str:
        return voice.name or voice.description

    def prepare(self, text: str, options: Options) -> str:
        return text

    def load(self) -> Hum:
        return Hum()


SPEC = Spec()


def installed(folder: Path) -> Path:
    information = folder / "hum-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hum\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[voicemill.engines]\nhum = benchmarks.parts.hum:SPEC\n")
    return folder
