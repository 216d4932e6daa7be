"""Packs the sentences of a paragraph into pieces of a given length, and cuts the sentences that are longer.

Every step is one pass over its text, so that time stays linear whatever is put in.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scheduler import sentences

SHORT = 20  # characters: models say pieces below that badly, so they join a neighbour where they fit
_CLOSERS = r"[\"')\]}」』）】]*"
_QUOTES_AND_BRACKETS = re.compile(r"[\"()\[\]{}「」『』（）【】]|(?<!\w)'|'(?!\w)")
_DANGLING_OPENER = re.compile(r"(?<=\s)[\"'(\[{「『（【]+\Z")
_STRONG_MARK = re.compile(rf"(?:[;:—]|\.\.\.){_CLOSERS}\s+|[；：]{_CLOSERS}\s*")
_COMMA = re.compile(rf",{_CLOSERS}\s+|[，、،]{_CLOSERS}\s*|\s-\s+")
_SPACE = re.compile(r"\s+")
_MAX_MARKS = 8  # combining marks that a hard cut leaves with their letter


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence or a part of one, with the spaces that follow it."""

    text: str
    whole: bool = True  # ends where a sentence does


def pack(paragraph: str, room: int, language: str | None = None) -> list[Unit]:
    """The pieces of a paragraph, none longer than `room` characters. Joined, they are the paragraph again."""
    if len(paragraph) <= room:
        return [Unit(paragraph)]
    groups = _filled(_units(paragraph, room, language), room)
    return [_joined(group) for group in _without_short(groups, room)]


def _units(paragraph: str, room: int, language: str | None) -> Iterator[Unit]:
    for sentence in sentences.split(paragraph, language):
        if _width(sentence) <= room:
            yield Unit(sentence)
            continue
        for part in _inner_sentences(sentence, language):
            *cut, last = _cut(part, room)
            yield from (Unit(text, whole=False) for text in cut)
            yield Unit(last)


def _inner_sentences(text: str, language: str | None) -> Iterator[str]:
    """The sentences inside a quotation or brackets: those of the same text without the marks around them."""
    position, opener = 0, ""
    for sentence in sentences.split(_QUOTES_AND_BRACKETS.sub(" ", text), language):
        part = opener + text[position : position + len(sentence)]
        position += len(sentence)
        dangling = _DANGLING_OPENER.search(part) if position < len(text) else None
        opener = dangling[0] if dangling else ""
        if part := part[: len(part) - len(opener)]:
            yield part


def _cut(text: str, room: int, level: int = 0) -> list[str]:
    """Parts of a sentence that fit, of about the same length, cut at the strongest marks that serve."""
    if _width(text) <= room:
        return [text]
    if level == len(_MARKS):
        return list(_hard(text, room))
    aim = len(text) / math.ceil(len(text) / room)
    parts: list[str] = []
    held: list[str] = []
    size = 0
    for part in _MARKS[level](text):
        if held and (size >= aim or size + _width(part) > room):
            parts.append("".join(held))
            held, size = [], 0
        if _width(part) > room:
            parts += _cut(part, room, level + 1)
        else:
            held.append(part)
            size += len(part)
    return [*parts, "".join(held)] if held else parts


def _after(mark: re.Pattern[str]) -> Callable[[str], Iterator[str]]:
    def split(text: str) -> Iterator[str]:
        start = 0
        for match in mark.finditer(text):
            yield text[start : match.end()]
            start = match.end()
        if start < len(text):
            yield text[start:]

    return split


_MARKS = (_after(_STRONG_MARK), _after(_COMMA), _after(_SPACE))


def _hard(text: str, room: int) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + room
        while end < len(text) and end > start + room - _MAX_MARKS and unicodedata.combining(text[end]):
            end -= 1
        yield text[start:end]
        start = end


def _filled(units: Iterator[Unit], room: int) -> list[list[Unit]]:
    """Units in groups, each as full as it gets."""
    groups: list[list[Unit]] = []
    size = 0
    for unit in units:
        if groups and size + _width(unit.text) <= room:
            groups[-1].append(unit)
            size += len(unit.text)
        else:
            groups.append([unit])
            size = len(unit.text)
    return groups


def _without_short(groups: list[list[Unit]], room: int) -> list[list[Unit]]:
    """The same, where a short group joins the one before, or takes its last unit."""
    settled: list[list[Unit]] = []
    for group in groups:
        before = settled[-1] if settled else None
        if before is None or min(_size(group), _size(before)) >= SHORT:
            settled.append(group)
        elif _size(before + group) <= room:
            before += group
        elif len(before) > 1 and _size(before[-1:] + group) <= room:
            settled.append([before.pop(), *group])
        else:
            settled.append(group)
    return settled


def _joined(group: list[Unit]) -> Unit:
    return Unit("".join(unit.text for unit in group), whole=group[-1].whole)


def _size(group: list[Unit]) -> int:
    return sum(len(unit.text) for unit in group[:-1]) + _width(group[-1].text)


def _width(text: str) -> int:
    """Characters without the spaces at the end, which a piece drops."""
    return len(text.rstrip())
