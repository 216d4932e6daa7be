"""A long programme is encoded in stretches, side by side on every core and worker, and joined frame by frame.

Cuts lie in silence, at whole frames, at places that follow from the programme alone: the file is the same to the byte
whoever makes which stretch, in whatever order. `workers.audio.splice` says why nothing is heard of a cut.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import keys, reels
from storage.objects.store import Store
from workers.audio import encode, ffmpeg, loudness, splice
from workers.deliverables import Deliverable
from workers.programme import Programme, Reader, Strip

REELS_VERSION = 1  # of how programmes are cut: part of every reel's key
REEL_SECONDS = 300.0  # at least; about two seconds of one core with the slowest encoder
LONG_SECONDS = 2 * REEL_SECONDS  # programmes below are encoded in one go
HEAD_SECONDS = 0.1  # of silence, for the file whose head is taken


@dataclass(frozen=True, slots=True)
class Reel:
    """A stretch of a programme and how it is encoded. `samples` are of the file's rate, lead-in included."""

    strips: Sequence[Strip]
    sample_rate: int  # Hz, of the strips
    format: str
    bitrate: str | None
    file_rate: int  # Hz
    samples: int
    skip: int  # frames of lead-in, which are not kept
    count: int | None  # frames that are kept; None: all the rest
    gain: float | None  # dB
    ceiling: float  # dBTP

    @property
    def key(self) -> str:
        """What its bytes are known by."""
        shaped = {"version": REELS_VERSION, "encoder": ffmpeg.version(), "level": loudness.LOUDNESS_VERSION}
        return keys.digest({**shaped, "recipe": self.recipe()})

    def recipe(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        strips = [[each.take_key, each.skip, each.samples, each.silence] for each in self.strips]
        rest = {name: getattr(self, name) for name in self.__slots__ if name != "strips"}
        return {"strips": strips, **rest}

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> "Reel":
        """As `recipe` put it."""
        return cls(**{**recipe, "strips": [Strip(*each) for each in recipe["strips"]]})


def plan(programme: Programme, wanted: Deliverable, gain: float | None) -> list[Reel]:
    """The reels of a deliverable; none where it is short, or one encoder makes it faster than it can be read."""
    kind = splice.of_format(wanted.format)
    if kind is None or programme.seconds < LONG_SECONDS:
        return []
    file_rate = wanted.kind.rate(wanted.sample_rate or programme.sample_rate, wanted.bitrate)
    frame = kind.frame(file_rate)
    cuts = [0, *_cuts(programme, file_rate, frame, kind.guard)]
    ends = [*cuts[1:], None]
    total = file_samples(programme, file_rate)
    found = []
    for begin, end in zip(cuts, ends, strict=True):
        lead = min(kind.lead_in, begin)
        start = _samples((begin - lead) * frame, file_rate, programme.sample_rate)
        stop = None if end is None else _samples(end * frame, file_rate, programme.sample_rate)
        found.append(
            Reel(
                programme.strips(start, stop),
                programme.sample_rate,
                wanted.format,
                wanted.bitrate,
                file_rate,
                (total if end is None else end * frame) - (begin - lead) * frame,
                lead,
                None if end is None else end - begin,
                gain,
                wanted.level.ceiling if wanted.level else 0.0,
            )
        )
    return found


def file_samples(programme: Programme, file_rate: int) -> int:
    """How many samples the whole programme has in a file."""
    return -(-programme.samples * file_rate // programme.sample_rate)


def _cuts(programme: Programme, file_rate: int, frame: int, guard: int) -> Iterator[int]:
    """The first frames of all reels but the first: each in the first silence that is long enough after its time."""
    rate = programme.sample_rate
    length = int(REEL_SECONDS * rate)
    last = 0  # samples, of the programme
    for quiet, heard in programme.silences():
        if quiet - last < length:
            continue
        if programme.samples - quiet < length // 2:
            return
        cut = -(-quiet * file_rate // (rate * frame)) + guard
        at = _samples(cut * frame, file_rate, rate)
        if at <= heard:
            yield cut
            last = at


def _samples(samples: int, file_rate: int, rate: int) -> int:
    """The sample of the programme that is nearest to one of the file: within a silence, nearest is exact."""
    return (2 * samples * rate + file_rate) // (2 * file_rate)


def make(store: Store, reel: Reel, folder: Path) -> None:
    """Encode a reel and store it. Raises TakesGoneError, EncodeError, a StoreError."""
    kind = splice.of_format(reel.format)
    assert kind is not None, "only formats that are spliced have reels"
    output = encode.Output(
        folder / reel.key,
        Deliverable(reel.format).kind,
        reel.sample_rate,
        target_rate=reel.file_rate,
        bitrate=reel.bitrate,
    )
    pcm = reader(store, reel.sample_rate, reel.gain, reel.ceiling).stream(reel.strips)
    try:
        encode.stretch(output, reel.samples, kind.muxer, pcm)
        store.upload(keys.reel(reel.key), output.path)
    finally:
        output.path.unlink(missing_ok=True)


def reader(store: Store, sample_rate: int, gain: float | None, ceiling: float) -> Reader:
    """Reads takes at the level that a deliverable has."""
    if gain is None:
        return Reader(store)
    return Reader(store, lambda pcm: loudness.treated(pcm, sample_rate, gain, ceiling))


def new_rows(planned: Mapping[int, Sequence[Reel]]) -> list[reels.NewReel]:
    """Reels by deliverable, as the table takes them."""
    return [
        reels.NewReel(number, position, reel.key, reel.recipe())
        for number, several in planned.items()
        for position, reel in enumerate(several)
    ]


def join(store: Store, planned: Sequence[Reel], output: encode.Output, samples: int) -> None:
    """Make a deliverable's file of its reels. Raises ObjectMissingError, BadReelError, EncodeError."""
    kind = splice.of_format(output.format.name)
    assert kind is not None, "only formats that are spliced have reels"
    silent = bytes(2 * int(HEAD_SECONDS * output.sample_rate))
    with encode.Encoder.of(output) as encoder:
        encoder.write(silent)
    head = output.path.read_bytes()
    kept = (splice.Kept(store.get(keys.reel(reel.key)), reel.skip, reel.count) for reel in planned)
    with encode.told(output.path), output.path.open("wb") as file:
        kind.join(file, head, kept, samples, output.file_rate)
