"""Names that producers give their jobs: what one may be, and how one is made of a path or a title.

A custom_id also names the finished file, so it must be a file name on every system.
"""

import hashlib
import re
import unicodedata
from pathlib import PurePath

MAX_BYTES = 200  # of UTF-8: leaves room for a suffix in the 255 bytes of a file name
_SLUG_CHARACTERS = 60
_FORBIDDEN = '/\\:*?"<>|'
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{device}{n}" for device in ("com", "lpt") for n in range(1, 10)}
)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{4,198}")  # nothing that the rules below could find fault with
_NOT_IN_A_NAME = re.compile(rf"[{re.escape(_FORBIDDEN)}\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_NOT_IN_A_SLUG = re.compile(r"[\W_]+")
_APOSTROPHES = re.compile("['’‘ʼ]")


def check(custom_id: str) -> str | None:
    """Why this cannot be a custom_id, None if it can."""
    if _PLAIN.fullmatch(custom_id):
        return None
    if not custom_id:
        return "the id is empty"
    if any(0xD800 <= ord(character) <= 0xDFFF for character in custom_id):
        return "the id has a lone surrogate, which is no character"
    if (size := len(custom_id.encode())) > MAX_BYTES:
        return f"the id {custom_id[:40]!r}... has {size} bytes, more than {MAX_BYTES}"
    if bad := next((c for c in custom_id if c in _FORBIDDEN or unicodedata.category(c) == "Cc"), None):
        return f"the id {custom_id!r} has the character {bad!r}, which cannot be in a file name"
    if custom_id[0] in ". " or custom_id[-1] in ". ":
        return f"the id {custom_id!r} begins or ends with a dot or a space"
    if custom_id.split(".")[0].rstrip().lower() in _RESERVED:
        return f"the id {custom_id!r} is the name of a device on Windows"
    if not unicodedata.is_normalized("NFC", custom_id):
        return f"the id {custom_id!r} is not in Unicode's composed form (NFC)"
    return None


def from_path(path: PurePath, root: PurePath | None = None) -> str:
    """The custom_id of a file: its path below `root`, or only its name, without the suffix: `part1-ch2`."""
    parts = path.relative_to(root).parts if root is not None else (path.name,)
    stem = "-".join((*parts[:-1], PurePath(parts[-1]).stem))
    return made_valid(stem)


def made_valid(name: str) -> str:
    """The nearest valid custom_id to any string; one that has to be cut short gets a digest of the whole."""
    valid = unicodedata.normalize("NFC", _NOT_IN_A_NAME.sub("-", name)).strip(". ") or "text"
    if valid.split(".")[0].rstrip().lower() in _RESERVED:
        valid = f"_{valid}"
    if len(valid.encode()) > MAX_BYTES:
        room = MAX_BYTES - 9  # a dash and eight digits
        valid = f"{valid.encode()[:room].decode(errors='ignore').rstrip('. ')}-{short_digest(name)}"
    return valid


def short_digest(name: str) -> str:
    """Eight hexadecimal digits that tell one name from another."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def slug(title: str) -> str:
    """A title as a part of a custom_id: `A Scandal in Bohemia` gives `a-scandal-in-bohemia`. May be empty."""
    plain = unicodedata.normalize("NFKC", _APOSTROPHES.sub("", title)).lower()
    words = _NOT_IN_A_SLUG.sub("-", unicodedata.normalize("NFC", plain)).strip("-")
    if len(words) > _SLUG_CHARACTERS:
        words = words[: _SLUG_CHARACTERS + 1].rpartition("-")[0] or words[:_SLUG_CHARACTERS]
    return words
