"""Which of espeak's voices speaks: by name, or chosen from a description."""

import difflib
import hashlib
import re
from collections.abc import Mapping

from workers.engines.espeak import wheel

# Variants of one kind lie close in pitch and level (-18 to -25 dBFS) and far enough apart in timbre to be told from
# each other; which of them a description gets follows from its words.
_VARIANTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("female", "low"): ("f4", "aunty"),
    ("female", "normal"): ("f2", "steph", "f5"),
    ("female", "high"): ("f3", "Annie", "belinda"),
    ("female", "old"): ("grandma", "f1"),
    ("female", "whisper"): ("whisperf",),
    ("female", "robot"): ("robosoft8", "robosoft6"),
    ("male", "low"): ("m8", "quincy", "adam"),
    ("male", "normal"): ("m3", "m7", "Alex", "michel"),
    ("male", "high"): ("rob", "Mario", "Reed"),
    ("male", "old"): ("grandpa", "croak", "m1"),
    ("male", "whisper"): ("whisper",),
    ("male", "robot"): ("robosoft3", "UniRobot"),
}

_GENDERS = {
    "female": {
        "female",
        "woman",
        "girl",
        "lady",
        "she",
        "her",
        "mother",
        "grandmother",
        "queen",
        "witch",
        "feminine",
    },
    "male": {
        "male",
        "man",
        "boy",
        "gentleman",
        "he",
        "his",
        "father",
        "grandfather",
        "king",
        "wizard",
        "masculine",
    },
}

_KINDS = {  # the first that fits
    "whisper": {"whisper", "whispering", "whispered", "whispery", "breathy"},
    "robot": {"robot", "robotic", "android", "machine", "ai"},
    "old": {"old", "elderly", "senior", "grandmother", "grandfather", "60s", "70s", "80s", "90s"},
    "high": {"highpitch", "child", "kid", "boy", "girl", "teen", "teenage"},
    "low": {"lowpitch", "deep", "gravelly", "bass", "baritone"},
}
_PITCH = re.compile(r"\b(low|high)[ _-]pitch(?:ed)?\b")  # one word, unlike the `high` of a high intensity

_ACCENTS = {  # the first that fits
    "en-gb-scotland": {"scottish", "scots", "scotland"},
    "en-us-nyc": {"york", "brooklyn"},
    "en-029": {"caribbean", "jamaican"},
    "en-gb-x-gbclan": {"lancashire", "northern"},
    "en-gb-x-gbcwmd": {"midlands", "birmingham"},
    "en-us": {"american", "us", "canadian"},
    "en-gb-x-rp": {"posh", "rp", "aristocratic"},
    "en": {"british", "english", "uk", "indian", "australian", "irish", "eastern"},  # the nearest that there is
}


def named(name: str) -> str:
    """A voice as espeak spells it, such as `en-us+f3`. Raises ValueError, as espeak would pass over a bad variant."""
    language, plus, variant = name.strip().partition("+")
    language = _known("language", language, wheel.languages())
    if not plus:
        return language
    return f"{language}+{_known('variant', variant, wheel.variants())}"


def described(description: str) -> str:
    """The voice nearest to a description in English; the same words always give the same voice."""
    words = re.findall(r"[a-z0-9]+", _PITCH.sub(r"\1pitch", description.lower()))
    accent = _first(_ACCENTS, words) or "en-us"
    kind = _first(_KINDS, words) or "normal"
    gender = _first(_GENDERS, words)
    genders = [gender] if gender else list(_GENDERS)
    candidates = [variant for gender in genders for variant in _VARIANTS[gender, kind]]
    number = int.from_bytes(hashlib.sha256(" ".join(words).encode()).digest()[:8], "big")
    return f"{accent}+{candidates[number % len(candidates)]}"


def _known(what: str, name: str, table: Mapping[str, str]) -> str:
    found = table.get(name.strip().casefold())
    if found is not None:
        return found
    close = difflib.get_close_matches(name.casefold(), table, n=1)
    hint = f" (did you mean {table[close[0]]!r}?)" if close else ""
    raise ValueError(f"espeak has no {what} {name!r}{hint}")


def _first(table: Mapping[str, set[str]], words: list[str]) -> str | None:
    return next((name for name, signs in table.items() if signs.intersection(words)), None)
