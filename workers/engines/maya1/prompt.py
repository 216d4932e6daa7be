"""Text and voice as the ids that Maya1 was trained on: SOH BOS body EOT EOH SOA SOS."""

import difflib
import re
from typing import TYPE_CHECKING

from workers import voices
from workers.engines.maya1 import constants

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TAGS = tuple(f"<{name}>" for name in constants.TAGS)
TAG = re.compile(r"<[/|]?[A-Za-z][\w|-]*(?:\s+[\w-]+\s*=[^<>]*)?\s*/?>")
END = (constants.TEXT_END, constants.HUMAN_END, constants.ANSWER_START, constants.SPEECH_START)


def prepare(text: str, strip_unknown: bool) -> str:
    """The text as it may be spoken. Raises ValueError naming a tag that Maya1 does not know, unless stripped."""
    for tag in dict.fromkeys(TAG.findall(text)):
        if tag in TAGS:
            continue
        if not strip_unknown:
            raise ValueError(_unknown(tag))
        text = text.replace(tag, " ")
    text = " ".join(text.split())
    if not any(character.isalnum() for character in text):
        raise ValueError("there is nothing to say in it")
    return text


def describe(description: str) -> str:
    """A voice's description, ending in a full stop: one without is read aloud. Raises ValueError for a tag in it."""
    if tag := TAG.search(description):
        raise ValueError(f"the description has the tag {tag.group()}; tags go into the text")
    if not any(character.isalnum() for character in description):
        raise ValueError("it has no description")
    return voices.full_stop(description)


def count_tags(text: str) -> int:
    """How many emotion tags a prepared text has."""
    return sum(text.count(tag) for tag in TAGS)


def _unknown(tag: str) -> str:
    if tag.startswith("</"):
        return f"the closing tag {tag} is not Maya1's: a tag stands alone, before what it colours"
    close = difflib.get_close_matches(tag.strip("<>/| ").lower(), constants.TAGS, n=1)
    return f"the tag {tag} is not one of Maya1's" + (f"; did you mean <{close[0]}>?" if close else "")


class Prompts:
    """Makes prompts with a checkpoint's tokenizer.

    double_bos feeds a BOS in front of everything too, as the official code does by assembling a string and having
    the tokenizer add one more. Which form training used is not documented: `voicemill model check` compares them.
    """

    def __init__(self, tokenizer: "Tokenizer", double_bos: bool) -> None:
        self._tokenizer = tokenizer
        start = (constants.HUMAN_START, constants.BOS)
        self._start = (constants.BOS, *start) if double_bos else start
        self._tags = {tokenizer.token_to_id(tag) for tag in TAGS}

    def ids(self, voice: str, text: str) -> tuple[int, ...]:
        """The whole prompt. Raises ValueError if text or voice hold a control token of the model."""
        body = self._encode(f'<description="{voice}"> {text}')
        if any(token >= constants.FIRST_SPECIAL and token not in self._tags for token in body):
            raise ValueError("it has a control token of the model")
        return (*self._start, *body, *END)

    def prefix(self, voice: str) -> tuple[int, ...]:
        """What the prompts of one voice nearly always begin with."""
        return (*self._start, *self._encode(f'<description="{voice}">'))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
