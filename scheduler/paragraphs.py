"""Paragraphs of plain text: what stands between blank lines."""

import re
from collections.abc import Iterable, Iterator

MAX_CHARACTERS = (
    1_000_000  # a longer paragraph is parted at a sentence or a space, so that memory stays bounded
)
_BLANK_LINE = re.compile(r"\n(?:[^\S\n]*\n)+|[\u2029\f]")
_LAST_END = re.compile(r"(?s).*[.!?。]\s")
_TAIL = 2000  # characters at the end of a part among which its end is looked for


def split(text: str) -> Iterator[str]:
    """The paragraphs of a text that is there as a whole."""
    if "\n" not in text and "\r" not in text and len(text) <= MAX_CHARACTERS:
        yield text
    else:
        yield from stream((text.replace("\r\n", "\n").replace("\r", "\n"),))


def stream(chunks: Iterable[str]) -> Iterator[str]:
    """The paragraphs of a text that comes in chunks, line ends as `\\n`, each as soon as it is whole."""
    held: list[str] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        # A blank line may lie across two chunks, so the seam is looked at together with both sides.
        if size < MAX_CHARACTERS and not _BLANK_LINE.search((held[-2] if len(held) > 1 else "") + chunk):
            continue
        *whole, last = _BLANK_LINE.split("".join(held))
        for paragraph in whole:
            yield from _parts(paragraph)
        *whole, last = _parts(last) or [""]
        yield from whole
        held, size = [last], len(last)
    for paragraph in _BLANK_LINE.split("".join(held)):
        yield from _parts(paragraph)


def _parts(paragraph: str) -> list[str]:
    """A paragraph of at most the length there is, or the parts of a longer one; nothing where it is blank."""
    parts = []
    start = 0
    while len(paragraph) - start > MAX_CHARACTERS:
        end = _end(paragraph, start)
        parts.append(paragraph[start:end])
        start = end
    return [part for part in (*parts, paragraph[start:]) if part and not part.isspace()]


def _end(text: str, start: int) -> int:
    tail_start = start + MAX_CHARACTERS - _TAIL
    tail = text[tail_start : start + MAX_CHARACTERS]
    if found := _LAST_END.match(tail):
        return tail_start + found.end()
    space = max(tail.rfind(" "), tail.rfind("\n"))
    return tail_start + (space + 1 if space >= 0 else _TAIL)
