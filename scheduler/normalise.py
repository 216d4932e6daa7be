"""Text as a voice should get it: one spelling for each quote, dash, space and ellipsis, no mark without a sound.

No rule joins two words or loses one. Tags that the cutter or an engine reads (`<break time="1s"/>`, `<laugh>`)
pass through.
"""

import re
import unicodedata

NORMALISER_VERSION = 1  # part of the cutter's fingerprint: raise it with every change of what comes out

_EM_DASH = "—"
_SPACE = " "
_PICTURE = "\ufffc"  # stands for a dropped picture until the spaces around it are settled

_SPELLINGS = {
    **dict.fromkeys("“”„‟«»〝〞〟＂″", '"'),
    **dict.fromkeys("‘’‚‛‹›ʼ＇′", "'"),
    **dict.fromkeys("‐‑‒−﹣－\u2043", "-"),
    **dict.fromkeys("―⸺⸻︱", _EM_DASH),
    "–": "–",  # settled by its neighbours, below
    "…": "...",
    "⋯": "...",
    "℃": "°C",
    "℉": "°F",
    "№": "No. ",
    "°": "°",
    "©": "©",
}
_COMPATIBLE = (  # look-alikes of plain letters and units, spelled out by NFKC
    range(0x1D400, 0x1D800),  # mathematical letters, used as "fonts"
    range(0xFB00, 0xFB07),  # ligatures such as ﬁ
    range(0x3300, 0x3400),  # squared units such as ㎏
)
_JOINERS = "\u200c\u200d"  # they shape letters of Arabic and Indic scripts; elsewhere they only glue emoji
_FIRST_JOINING_LETTER = "\u0600"
_SILENT_MARKS = frozenset("\u20e3\u180b\u180c\u180d\ufffd\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


def normalise(text: str) -> str:
    """The text on one line, normalised. Doing it twice changes nothing more."""
    if text.isascii():
        return text.strip() if not _ASCII_WORK.search(text) else _tidy(text.translate(_CHARACTERS))
    text = _FRENCH_QUOTE.sub('"', unicodedata.normalize("NFC", text)).translate(_CHARACTERS)
    if any(joiner in text for joiner in _JOINERS):
        text = _STRAY_JOINER.sub("", text)
    return _tidy(unicodedata.normalize("NFC", text))


def speakable(text: str) -> bool:
    """Whether there is at least one letter or digit to be spoken."""
    return _LETTER_OR_DIGIT.search(text) is not None


def _tidy(text: str) -> str:
    text = _PICTURES.sub(_SPACE, _PICTURES_BEFORE_A_STOP.sub("", text))
    text = _SPACE.join(text.split())
    text = _SPACED_DOTS.sub("...", text)
    text = _DOTS_BEFORE_A_WORD.sub("... ", _DOTS.sub("...", text))
    text = _LONE_EN_DASH.sub(_EM_DASH, text).replace("–", "-")
    return _DASHES.sub(_spaced_dash, text).strip()


def _spaced_dash(match: re.Match[str]) -> str:
    """` — `, without the space that would part it from a quote or bracket it touches."""
    text, start, end = match.string, match.start(), match.end()
    before = "" if start > 0 and text[start - 1] in "\"'([{" and match[0][0] != _SPACE else _SPACE
    after = "" if end < len(text) and text[end] in "\"')]},.;:!?" and match[0][-1] != _SPACE else _SPACE
    return before + _EM_DASH + after


class _Characters(dict[int, str]):
    """What becomes of each character, worked out when it is first met."""

    def __missing__(self, codepoint: int) -> str:
        spelling = self[codepoint] = _spelling(chr(codepoint))
        return spelling


def _spelling(character: str) -> str:
    if (known := _SPELLINGS.get(character)) is not None:
        return known
    if character.isspace():
        return _SPACE
    if character in _JOINERS:
        return character
    if any(ord(character) in block for block in _COMPATIBLE):
        return unicodedata.normalize("NFKC", character)
    if character in _SILENT_MARKS or _is_variation_selector(character):
        return ""
    match unicodedata.category(character):
        case "So":
            return _PICTURE
        case "Cc" | "Cf" | "Cs" | "Co" | "Cn":
            return ""
        case _:
            return character


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


_CHARACTERS = _Characters()
_ASCII_WORK = re.compile(r"[\x00-\x1f\x7f]|--|  |\. \.|\.\.\.[.\w]")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_STRAY_JOINER = re.compile(rf"(?<![{_FIRST_JOINING_LETTER}-\U0010ffff])[{_JOINERS}]|[{_JOINERS}](?!\w)")
_PICTURES_BEFORE_A_STOP = re.compile(rf"(?<=\w) ?(?:{_PICTURE} ?)+(?=[.,;:!?])")
_PICTURES = re.compile(_PICTURE)
_FRENCH_QUOTE = re.compile("«[\u00a0\u202f]|[\u00a0\u202f]»")
_SPACED_DOTS = re.compile(r"(?<!\.)\.(?: \.){2,}")
_DOTS = re.compile(r"\.{3,}")
_DOTS_BEFORE_A_WORD = re.compile(r"(?<=\w)\.\.\.(?=\w)")
_LONE_EN_DASH = re.compile(r"(?<!\S)–|–(?!\S)|–{2,}")
_DASHES = re.compile(rf" ?(?:(?:--+|{_EM_DASH}) ?)+")
