"""Sentences of a paragraph, by `sentencex`: many languages, no break after `Mr.`, a quotation stays whole."""

from collections.abc import Iterator

import sentencex

DEFAULT_LANGUAGE = "en"
# Characters given to sentencex at once: its time grows with the square of a text without spaces or with unpaired
# brackets. Few paragraphs are longer than the first; a sentence longer than the second is parted at a space.
_WINDOW = 4000
_MAX_WINDOW = 32_000


def split(text: str, language: str | None = None) -> list[str]:
    """The sentences of a text, each with the spaces that follow it: joined, they are the text again.

    `language` is a BCP 47 tag; one that sentencex does not know falls back to its relatives, then to English.
    """
    if len(text) <= _WINDOW:
        return _split(text, language or DEFAULT_LANGUAGE)
    return list(_windowed(text, language or DEFAULT_LANGUAGE))


def _split(text: str, language: str) -> list[str]:
    sentences: list[str] = sentencex.segment(language, text)
    # sentencex drops some runs of line breaks; nothing may be lost here, whatever a later version does.
    return sentences if "".join(sentences) == text else [text]


def _windowed(text: str, language: str) -> Iterator[str]:
    """The last sentence of each window may go on behind it, so it is seen again as the first of the next."""
    start, size = 0, _WINDOW
    while len(text) - start > size:
        window = text[start : start + size]
        *whole, last = _split(window, language)
        if not whole and size < _MAX_WINDOW:
            size *= 2
            continue
        if not whole:
            whole = [last[: last.rfind(" ") + 1] or last]
        yield from whole
        start, size = start + sum(map(len, whole)), _WINDOW
    yield from _split(text[start:], language)
