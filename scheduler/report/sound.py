"""Takes as a page can carry them: compressed, and drawn."""

import base64
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scheduler.review import Flag
from storage import errors, keys
from storage.objects.store import Store
from workers.audio import encode, formats, wav

FORMAT, BITRATE = "mp3", "48k"  # what every browser plays; 6 kB a second
COLUMNS = 200  # of a drawn waveform
AT_ONCE = 16  # takes held in memory


@dataclass(frozen=True, slots=True)
class Player:
    """A take that needs a listen, with its sound where there was room for it."""

    flag: Flag
    audio: str | None  # a data: address
    wave: str | None  # the path of an SVG, 200 by 40
    missing: str | None  # why there is no sound


def players(store: Store, flags: Sequence[Flag], *, most: int, most_bytes: int) -> Iterator[Player]:
    """Each take with its sound, up to so many and so many bytes in all; those after that without."""
    left = most_bytes
    for start in range(0, len(flags), AT_ONCE):
        some = flags[start : start + AT_ONCE]
        wanted = [flag for at, flag in enumerate(some, start) if at < most and left > 0]
        sounds = _sounds(store, wanted)
        for flag in some:
            pcm, data = sounds.get(flag.take, (None, None))
            if pcm is None or data is None:
                gone = flag in wanted
                yield Player(flag, None, None, "its take is not in the store any more" if gone else "left out")
                continue
            address = f"data:{formats.by_name(FORMAT).media_type};base64,{base64.b64encode(data).decode()}"
            if len(address) > left:
                left = 0
                yield Player(flag, None, drawn(pcm), "left out")
                continue
            left -= len(address)
            yield Player(flag, address, drawn(pcm), None)


def drawn(pcm: bytes) -> str:
    """Mono PCM16 as the outline of its peaks: what an SVG path says, in a box of 200 by 40."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    if not len(samples):
        return "M0 20H200"
    edges = np.linspace(0, len(samples), COLUMNS + 1).astype(int)[:-1].clip(max=len(samples) - 1)
    highs, lows = np.maximum.reduceat(samples, edges), np.minimum.reduceat(samples, edges)
    top = 20 - 19 * highs.clip(0.01, 1)
    bottom = 20 - 19 * lows.clip(-1, -0.01)
    points = [f"{x} {y:.1f}" for x, y in enumerate(top)]
    points += [f"{COLUMNS - 1 - x} {y:.1f}" for x, y in enumerate(bottom[::-1])]
    return "M" + "L".join(points) + "Z"


def _sounds(store: Store, flags: Sequence[Flag]) -> dict[str, tuple[bytes, bytes]]:
    """PCM and compressed audio by take key; those that are gone are left out."""
    with tempfile.TemporaryDirectory(prefix="voicemill-") as folder:
        outputs: dict[str, tuple[encode.Output, bytes]] = {}
        for flag in flags:
            try:
                data = store.get(keys.take(flag.take))
                pcm = wav.unwrap(data)
            except (errors.ObjectMissingError, errors.ObjectArchivedError, wav.BadTakeError):
                continue
            path = Path(folder) / f"{flag.take}.{FORMAT}"
            output = encode.Output(path, formats.by_name(FORMAT), flag.sample_rate, bitrate=BITRATE)
            outputs[flag.take] = (output, pcm)
        encode.encode_many(outputs.values())
        return {key: (pcm, output.path.read_bytes()) for key, (output, pcm) in outputs.items()}
