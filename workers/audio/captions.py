"""Captions. Every time is worked out from a count of samples, so nothing drifts in a long book."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LINE = 42  # characters, the width that broadcasters keep to
LINES = 2  # in one cue


@dataclass(frozen=True, slots=True)
class Cue:
    """What is heard from one sample to another, counted from the start of the file."""

    start_sample: int
    end_sample: int
    text: str


def vtt(cues: Iterable[Cue], sample_rate: int) -> Iterator[str]:
    """A WebVTT file, piece by piece."""
    yield "WEBVTT\n"
    for piece in _pieces(cues):
        text = piece.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f"\n{_span(piece, sample_rate, '.')}\n{text}\n"


def srt(cues: Iterable[Cue], sample_rate: int) -> Iterator[str]:
    """A SubRip file, piece by piece. It knows no escaping, so an arrow that players would take for a time is respelled."""
    for number, piece in enumerate(_pieces(cues), start=1):
        text = piece.text.replace("-->", "→").replace("<", "‹").replace(">", "›")
        yield f"{number}\n{_span(piece, sample_rate, ',')}\n{text}\n\n"


def timing(cues: Iterable[tuple[Cue, Mapping[str, Any]]], samples: int, sample_rate: int) -> Iterator[str]:
    """When each segment is heard, in samples and seconds, as JSON, piece by piece. A cue comes with what else is told."""
    yield f'{{"sample_rate": {sample_rate}, "samples": {samples}, "segments": ['
    for number, (cue, told) in enumerate(cues):
        line = {
            "start_sample": cue.start_sample,
            "end_sample": cue.end_sample,
            "start": round(cue.start_sample / sample_rate, 6),
            "end": round(cue.end_sample / sample_rate, 6),
            "text": cue.text,
        }
        yield ("," if number else "") + "\n" + json.dumps({**told, **line}, ensure_ascii=False)
    yield "\n]}\n"


def _pieces(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Each cue as cues of at most two lines, its time shared out by characters."""
    for cue in cues:
        lines = _lines(cue.text)
        blocks = [lines[index : index + LINES] for index in range(0, len(lines), LINES)]
        total, said = sum(map(len, lines)), 0
        for block in blocks:
            start = cue.start_sample + (cue.end_sample - cue.start_sample) * said // total
            said += sum(map(len, block))
            end = cue.start_sample + (cue.end_sample - cue.start_sample) * said // total
            yield Cue(start, end, "\n".join(block))


def _lines(text: str) -> list[str]:
    """The text in as few lines as it takes, all about as long."""
    text = " ".join(text.split())
    lines = _wrapped(text, LINE)
    for width in range(max(1, len(text) // max(1, len(lines))), LINE):
        even = _wrapped(text, width)
        if len(even) <= len(lines):
            return even
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _span(cue: Cue, sample_rate: int, point: str) -> str:
    start = cue.start_sample * 1000 // sample_rate
    end = max(start + 1, cue.end_sample * 1000 // sample_rate)
    return f"{_clock(start, point)} --> {_clock(end, point)}"


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"
