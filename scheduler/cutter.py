"""Cuts blocks of text into pieces that a voice speaks in one go, and says how long the silence after each is.

A piece is one or more whole sentences of a paragraph, up to a limit of characters; only a sentence longer than
that is cut inside, where it hurts least. Every piece ends in punctuation: models repeat or trail off without.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from scheduler import breaks, normalise, packing
from scheduler.document import Block
from scheduler.lexicon import Lexicon

CUTTER_VERSION = 1  # part of the cutter's fingerprint: raise it with every change of what comes out
LIMIT = 220  # characters: 12 to 14 s of speech
MIN_LIMIT = 40  # characters
_PUNCTUATED = re.compile(r"""[.!?,;:…—。！？，；：、．｡।॥؟،؛۔።։]["')\]}」』）】]*(?:\s?<\w+>)*\Z""")
_MARKS = frozenset(".!?,;:…—")
_TAIL = 80  # characters at the end in which the punctuation, quotes and tags of an ending lie


class Pause(StrEnum):
    """Where a piece ends, which is what the silence after it stands for."""

    CLAUSE = "clause"  # inside a sentence too long for one piece
    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"
    CHAPTER = "chapter"  # the next piece begins a chapter
    BREAK = "break"  # the text asked for it
    END = "end"  # nothing follows


@dataclass(frozen=True, slots=True)
class Pauses:
    """Milliseconds of silence for each place that a text does not set itself."""

    clause_ms: int = 80
    sentence_ms: int = 250
    paragraph_ms: int = 600
    chapter_ms: int = 1500

    def after(self, pause: Pause) -> int:
        """The silence for a place."""
        return {
            Pause.CLAUSE: self.clause_ms,
            Pause.SENTENCE: self.sentence_ms,
            Pause.PARAGRAPH: self.paragraph_ms,
            Pause.CHAPTER: self.chapter_ms,
        }.get(pause, 0)


@dataclass(frozen=True, slots=True)
class Piece:
    """Text for one segment, and the silence after it."""

    text: str
    pause_ms: int
    pause: Pause
    chapter: str | None = None  # the title of the chapter that begins with this piece


def cut(
    blocks: Iterable[Block],
    *,
    lexicon: Lexicon | None = None,
    language: str | None = None,
    limit: int = LIMIT,
    pauses: Pauses = Pauses(),
) -> Iterator[Piece]:
    """The pieces of a text, as a stream, each of at most `limit` characters.

    What has no letter or digit is dropped and leaves its pause. Raises `breaks.BreakTagError`, and whatever
    reading the blocks raises.
    """
    if limit < MIN_LIMIT:
        raise ValueError(f"expected a limit of at least {MIN_LIMIT} characters, got {limit}")
    held, held_chapter = "", None  # the piece that waits until the silence after it is known
    chapter: str | None = None
    gap = _Gap(pauses)
    for block in blocks:
        gap.widen(Pause.PARAGRAPH if block.chapter is None else Pause.CHAPTER)
        chapter = chapter if block.chapter is None else block.chapter
        for text, after in _pieces(block.text, lexicon, language, limit):
            if normalise.speakable(text):
                if held:
                    yield Piece(held, gap.milliseconds, gap.pause, held_chapter)
                held, held_chapter, chapter = text, chapter, None
                gap = _Gap(pauses)
            if isinstance(after, Pause):
                gap.widen(after)
            elif after is not None:
                gap.ask(after)
    if held:
        yield Piece(held, gap.asked_ms or 0, Pause.END, held_chapter)


def _pieces(
    text: str, lexicon: Lexicon | None, language: str | None, limit: int
) -> Iterator[tuple[str, Pause | int | None]]:
    """Pieces of a paragraph, each with its place, or a tag's milliseconds; None after the last."""
    text = normalise.normalise(text)
    if lexicon is not None:
        text = lexicon.apply(text)
    runs = list(breaks.split(text))
    last_spoken = max((n for n, (run, _) in enumerate(runs) if normalise.speakable(run)), default=-1)
    for number, (run, pause_ms) in enumerate(runs):
        *units, last = packing.pack(run.strip(), limit - 1, language)  # a character is left for the punctuation
        for unit in units:
            yield _punctuated(unit.text, unit.whole), Pause.SENTENCE if unit.whole else Pause.CLAUSE
        yield _punctuated(last.text, whole=number >= last_spoken), pause_ms


def _punctuated(text: str, whole: bool) -> str:
    """The text with a full stop or a comma where it ends in no punctuation of its own."""
    text = text.strip()
    if text[-1:] in _MARKS or _PUNCTUATED.search(text, max(0, len(text) - _TAIL)):
        return text
    return f"{text}." if whole else f"{text},"


class _Gap:
    """The silence between two pieces, while the places and tags in it are still being met."""

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._widest = Pause.CLAUSE
        self._natural_ms = 0
        self.asked_ms: int | None = None

    def widen(self, place: Pause) -> None:
        """One more place lies in it. Places add up, to a chapter's pause at most."""
        self._widest = max(self._widest, place, key=_WIDTHS.index)
        most = max(self._pauses.chapter_ms, self._pauses.paragraph_ms)
        self._natural_ms = min(most, self._natural_ms + self._pauses.after(place))

    def ask(self, milliseconds: int) -> None:
        """A tag lies in it: tags add up, and count instead of the places."""
        self.asked_ms = min(breaks.MAX_MS, (self.asked_ms or 0) + milliseconds)

    @property
    def pause(self) -> Pause:
        """What the silence stands for."""
        return Pause.BREAK if self.asked_ms is not None and self._widest is not Pause.CHAPTER else self._widest

    @property
    def milliseconds(self) -> int:
        """How long it is."""
        if self.asked_ms is None:
            return self._natural_ms
        return max(self.asked_ms, self._natural_ms) if self._widest is Pause.CHAPTER else self.asked_ms


_WIDTHS = list(Pause)
