"""Pauses that a text asks for itself: `<break time="500ms"/>` or `<break time="1.2s"/>`, as in SSML."""

import re
from collections.abc import Iterator

from storage import errors

MAX_MS = 60_000  # longer ones are cut down to this
_SHOWN = 60  # characters of a wrong tag that its error repeats
_BEGINNING = re.compile(r"<break(?=[\s/>]|$)", re.IGNORECASE)
_TAG = re.compile(
    r"""<break\s+time\s?=\s?(["'])\s?(?P<number>\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s?(?P<unit>ms|s)\s?\1\s?/?>(?:\s?</break>)?""",
    re.IGNORECASE,
)


class BreakTagError(errors.InputError):
    """The pause tag {tag} is wrong; write it as <break time="500ms"/> or <break time="1.2s"/>."""


def split(text: str) -> Iterator[tuple[str, int | None]]:
    """Runs of text, each with the pause in milliseconds that a tag sets after it; None after the last.

    Raises BreakTagError.
    """
    start = 0
    if "<" in text:
        for beginning in _BEGINNING.finditer(text):
            tag = _TAG.match(text, beginning.start())
            if tag is None:
                raise BreakTagError(tag=repr(_wrong(text, beginning.start())))
            yield text[start : tag.start()], _milliseconds(tag["number"], tag["unit"])
            start = tag.end()
    yield text[start:], None


def _milliseconds(number: str, unit: str) -> int:
    factor = 1000 if unit.lower() == "s" else 1
    return min(MAX_MS, round(float(number) * factor))


def _wrong(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return shown[: end + 1] if (end := shown.find(">")) >= 0 else shown
