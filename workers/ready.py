"""A job whose programme is laid out: what its files are called, how they are made, and what is told of them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage import errors, jobs, keys
from storage.objects.store import Store
from workers import levels, reels
from workers.audio import acx_file, captions, encode, ffmpeg, loudness
from workers.deliverables import Deliverable
from workers.programme import Programme, Reader

ASSEMBLY_VERSION = 2  # of how takes are joined: goes up when the same takes give other bytes
CAPTION_TYPES = {"vtt": "text/vtt", "srt": "application/x-subrip", "json": "application/json"}
_TAGS = ("title", "author", "album", "language")


def assembly_key(
    programme: Programme, options: Mapping[str, Any], measured: levels.Levels | None = None
) -> str:
    """What a job's audio is known by: its takes, pauses, chapters and everything that shapes its files."""
    shaping = ("deliverables", "captions", "cover", "head_ms", "tail_ms", *_TAGS)
    return keys.digest(
        {
            "version": ASSEMBLY_VERSION,
            "encoder": ffmpeg.version(),
            "parts": [[part.take_key, part.pause_ms, part.chapter] for part in programme.parts],
            "texts": [part.text for part in programme.parts] if options["captions"] else None,
            "options": {name: options.get(name) for name in shaping},
            "gains": None if measured is None else [loudness.LOUDNESS_VERSION, dict(measured.gains)],
        }
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """A job whose programme is laid out."""

    lease: jobs.AssemblyLease
    programme: Programme
    levels: levels.Levels | None
    wanted: Sequence[Deliverable]
    key: str

    def gain(self, wanted: Deliverable) -> float | None:
        """dB, None where a deliverable stays as loud as it was spoken."""
        return None if self.levels is None else self.levels.gain(wanted)

    def audio_key(self, number: int) -> str:
        """Where a deliverable lies in the store."""
        wanted = self.wanted[number]
        key = self.key if not number else keys.digest({"of": self.key, "deliverable": wanted.stored()})
        return keys.audio(key, wanted.kind.suffix)

    def output(self, number: int, folder: Path, cover: Path | None) -> encode.Output:
        """A deliverable as its encoder is told of it; the file is made in the folder."""
        wanted, options = self.wanted[number], self.lease.options
        return encode.Output(
            folder / f"{self.lease.job_id}-{number}.{wanted.kind.suffix}",
            wanted.kind,
            self.programme.sample_rate,
            chapters=self.programme.chapters(),
            tags={name: str(options[name]) for name in _TAGS if options.get(name)},
            cover=cover,
            target_rate=wanted.sample_rate,
            bitrate=wanted.bitrate,
        )

    def reader(self, store: Store, wanted: Deliverable) -> Reader:
        """Reads takes at a deliverable's level."""
        ceiling = wanted.level.ceiling if wanted.level is not None else 0.0
        return reels.reader(store, self.programme.sample_rate, self.gain(wanted), ceiling)


def described(ready: Ready, number: int, path: Path) -> dict[str, Any]:
    """What is told of one file."""
    wanted = ready.wanted[number]
    rate = wanted.kind.rate(wanted.sample_rate or ready.programme.sample_rate, wanted.bitrate)
    told: dict[str, Any] = {
        **wanted.stored(),
        "sample_rate": rate,
        "key": ready.audio_key(number),
        "bytes": path.stat().st_size,
        "sha256": _sha256(path),
    }
    if (gain := ready.gain(wanted)) is not None:
        told["gain_db"] = gain
    if wanted.preset == "acx":
        measured = acx_file.measure(path)
        told["measured"] = asdict(measured)
        if (problem := measured.problem()) is not None:
            told["problem"] = f"ACX would not take it: {problem}"
    return told


def caption(store: Store, ready: Ready, folder: Path) -> None:
    """Put the captions that a job wants into the store, with times from sample counts."""
    programme = ready.programme
    for kind in ready.lease.options["captions"]:
        path = folder / f"{ready.lease.job_id}.{kind}"
        if kind == "json":
            lines = captions.timing(_timed(programme), programme.samples, programme.sample_rate)
        else:
            lines = (captions.vtt if kind == "vtt" else captions.srt)(programme.cues(), programme.sample_rate)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        upload(store, keys.captions(ready.key, kind), path, CAPTION_TYPES[kind], _sha256(path))


def _timed(programme: Programme) -> Iterator[tuple[captions.Cue, dict[str, Any]]]:
    for part, cue in zip(programme.parts, programme.cues(), strict=True):
        told = {"segment": part.position, "chapter": part.chapter, "take": part.take_key}
        yield cue, told if part.precision is None else {**told, "precision": part.precision}


def upload(store: Store, key: str, path: Path, media_type: str, digest: str) -> None:
    """Store a file, in place of one that was made of takes which have since been rendered again, not to the same bit."""
    if store.upload(key, path, content_type=media_type):
        return
    try:
        with store.open(key) as stream:
            same = hashlib.file_digest(stream, "sha256").hexdigest() == digest  # type: ignore[arg-type]
    except errors.ObjectMissingError:
        same = False
    except errors.ObjectArchivedError:
        same = store.size(key) == path.stat().st_size
    if not same:
        store.delete([key])
        store.upload(key, path, content_type=media_type)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
