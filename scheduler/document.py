"""What a reader makes of its input: documents, one of which becomes one job."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a heading: text that is spoken in one go, and followed by a longer pause than a sentence."""

    text: str
    chapter: str | None = (
        None  # the title of the chapter that begins with this block; None: the chapter goes on
    )


@dataclass(frozen=True, slots=True)
class Document:
    """One long text with the producer's own name for it. `blocks` is read once, as a stream."""

    custom_id: str
    blocks: Iterable[Block]
    where: str  # for messages: `corpus.jsonl line 12`
    title: str | None = None
    author: str | None = None
    language: str | None = None  # BCP 47, as the source states it
    options: Mapping[str, Any] = field(default_factory=dict)  # voice, format, seed, priority, options: as given
    cover: bytes | None = None  # a picture for its audio: PNG or JPEG


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the input that cannot be used: one line for the user."""

    where: str
    reason: str
