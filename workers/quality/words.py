"""What a recogniser heard beside what should have been said.

A share of words is not enough: a dropped clause of a long segment leaves it high. So the longest run of words that were
lost, added or others counts as well. What recognisers merely spell in their own way is no difference: case, accents,
punctuation, `every day` for `everyday`, `colour` for `color`, digits for words and words for digits.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from workers.audio.checks import Verdict
from workers.engines.engine import Reason
from workers.engines.limits import Limits

LEAST_WORDS = 4  # of a text; of less nothing certain can be said
ALIKE = 0.75  # two short runs of letters that are the same to so much are one spelled in two ways
ALIKE_WORDS = 3  # runs up to so many words may be
WORDS_A_NUMBER = 6  # `1,984` may be heard as one thousand nine hundred and eighty four
HEARD_CHARACTERS = 300  # kept of what was heard

_TAG = re.compile(r"<[a-z_]+>")
_INSIDE = re.compile(r"(?<=\d)[.,:](?=\d)|['’ʼ`´]")  # of a word: 12:45, 1,984, don't
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # written without spaces: a word each
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+")


@dataclass(frozen=True, slots=True)
class Heard:
    """How far what was heard is the text."""

    ratio: float  # of the text's words, 1 where all were heard; lost, added and other words count against it
    run: int  # words: the longest run of such
    heard: str  # its beginning, in the recogniser's own writing

    def as_dict(self) -> dict[str, Any]:
        """As it is stored among a take's metrics."""
        return {**asdict(self), "ratio": round(self.ratio, 4)}


def words(text: str) -> list[str]:
    """A text's words as they are compared: no tags, no accents, no case, no punctuation."""
    bare = unicodedata.normalize("NFKD", _INSIDE.sub("", _TAG.sub(" ", text)))
    kept = "".join(character for character in bare if not unicodedata.combining(character))
    return _WORD.findall(unicodedata.normalize("NFKC", kept).casefold())


def compare(text: str, heard: str) -> Heard | None:
    """How far a text was heard; None where it is too short to say."""
    expected, found = words(text), words(heard)
    if len(expected) < LEAST_WORDS:
        return None
    runs = [
        _divergence(expected[a:b], found[c:d])
        for kind, a, b, c, d in SequenceMatcher(None, expected, found, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    ratio = max(0.0, 1 - sum(runs) / len(expected))
    return Heard(ratio, max(runs, default=0), heard.strip()[:HEARD_CHARACTERS])


def judge(stored: Mapping[str, Any], within: Limits) -> Verdict | None:
    """Why what was heard cannot be the text, from `Heard.as_dict`; None where it can."""
    ratio, run, heard = stored["ratio"], stored["run"], stored["heard"]
    if ratio < within.words_ratio:
        detail = f"{ratio:.0%} of its words were heard, less than {within.words_ratio:.0%}; heard was {heard!r}"
        return Verdict(Reason.WORDS, detail, 1 - ratio / within.words_ratio)
    if run > within.words_run:
        detail = (
            f"{run} words in a row were not heard as written, more than {within.words_run}; heard was {heard!r}"
        )
        return Verdict(Reason.WORDS, detail, run / within.words_run - 1)
    return None


def _divergence(expected: Sequence[str], found: Sequence[str]) -> int:
    """How many words two runs differ by, spelling apart."""
    count = max(len(expected), len(found))
    if expected and found:
        numbers = sum(any(character.isdigit() for character in word) for word in (*expected, *found))
        if numbers:
            return max(0, count - WORDS_A_NUMBER * numbers)
        if count <= ALIKE_WORDS and _alike("".join(expected), "".join(found)):
            return 0
    return count


def _alike(one: str, other: str) -> bool:
    return one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE
