"""What espeak gets to read: words, never commands."""

import re

from workers.engines.maya1 import constants

_TAGS = re.compile(rf"<(?:{'|'.join(constants.TAGS)})>")
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f]")  # 0x01 begins a command to espeak, 0x00 ends a text
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_LONG_WORD = re.compile("([^\\W\u0e00-\U0010ffff]{70})(?=\\w)")  # in scripts that part words by spaces


def plain(text: str) -> str:
    """The text without Maya1's emotion tags, which espeak would read out, and without what is no character at all.

    A word (a scream, a key) of more than 160 bytes is parted, since espeak would leave out its end.
    """
    for pattern in (_TAGS, _COMMANDS, _LONE_SURROGATES):
        text = pattern.sub(" ", text)
    text = _LONG_WORD.sub(r"\1 ", text)
    return " ".join(text.split())


def check(text: str) -> None:
    """Raises ValueError for a text that `plain` would not have let through as it is."""
    if _COMMANDS.search(text):
        raise ValueError("the text has control characters")
    if _LONE_SURROGATES.search(text):
        raise ValueError("the text has half a surrogate pair, which is no character")
