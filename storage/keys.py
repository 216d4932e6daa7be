"""The key layout of the object store. No other module spells a key.

    takes/ab/abcdef….wav      one take's audio: mono PCM16
    codes/ab/abcdef….npy      one take's codec tokens: int16, shape [frames, 7]
    audio/ab/abcdef….mp3      one job's finished audio, by assembly key
    captions/ab/abcdef….vtt   its captions (and .srt, and .json for the timing of each segment)
    texts/ab/abcdef….json     a long text that a producer sent by reference
    manifests/NAME/….jsonl    a corpus' results and errors
    reels/ab/abcdef…          a stretch of a long programme, encoded; gone once its job has ended
    covers/ab/abcdef….jpg     a picture that goes into audio files
    checks/abcdef…            what `doctor` tries a store with; gone at once

Every hexadecimal name is a sha256 of the content's cause, so a key is written once and never changes. What ages in its
own way has a prefix of its own: lifecycle rules go by prefix.
"""

import hashlib
import json
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an object is, by the first part of its key."""

    TAKES = "takes"
    CODES = "codes"
    AUDIO = "audio"
    CAPTIONS = "captions"
    TEXTS = "texts"
    MANIFESTS = "manifests"
    REELS = "reels"
    COVERS = "covers"
    CHECKS = "checks"


def prefix(kind: Kind) -> str:
    """What the keys of a kind, and no others, begin with."""
    return f"{kind.value}/"


def kind_of(key: str) -> Kind | None:
    """What an object is; None where the key is none of ours."""
    first, slash, _ = key.partition("/")
    return Kind(first) if slash and first in set(Kind) else None


def digest(cause: Any) -> str:
    """sha256 of a JSON-able value in its canonical form, as 64 hexadecimal digits."""
    canonical = json.dumps(cause, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def take(take_key: str) -> str:
    """Where a take's audio lies."""
    return f"takes/{take_key[:2]}/{take_key}.wav"


def codes(take_key: str) -> str:
    """Where a take's codec tokens lie, for engines that have any."""
    return f"codes/{take_key[:2]}/{take_key}.npy"


def audio(assembly_key: str, suffix: str) -> str:
    """Where a job's finished audio lies; the suffix is the format's, without a dot."""
    return f"audio/{assembly_key[:2]}/{assembly_key}.{suffix}"


def captions(assembly_key: str, suffix: str) -> str:
    """Where a job's captions (`vtt`, `srt`) or segment times (`json`) lie."""
    return f"captions/{assembly_key[:2]}/{assembly_key}.{suffix}"


def text(content: bytes) -> str:
    """Where a producer's long text lies: the key follows from its bytes."""
    name = hashlib.sha256(content).hexdigest()
    return f"texts/{name[:2]}/{name}.json"


def reel(reel_key: str) -> str:
    """Where an encoded stretch of a programme lies until its job has ended."""
    return f"reels/{reel_key[:2]}/{reel_key}"


def cover(content: bytes, suffix: str) -> str:
    """Where a cover picture (`jpg` or `png`) lies: the key follows from its bytes."""
    name = hashlib.sha256(content).hexdigest()
    return f"covers/{name[:2]}/{name}.{suffix}"


def manifest(corpus: str, revision: str, name: str) -> str:
    """Where a corpus' results or errors lie, as of one revision (a digest of what they tell)."""
    return f"manifests/{corpus}/{revision[:16]}/{name}.jsonl"


def corpus_of(key: str) -> str:
    """The corpus that a manifest is of."""
    return key.split("/")[1]
