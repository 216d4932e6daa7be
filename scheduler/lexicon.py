"""A pronunciation lexicon: words, and how to spell them so that any engine says them right.

TOML (`nuada = "noo-ah-da"`) or two columns (`nuada<TAB>noo-ah-da`, or with a comma). An entry in lower case
stands for the word however it is capitalised, one with capitals for exactly that spelling; `/.../` is a regular
expression. The longest entry wins, and what it puts in is not looked at again.
"""

import csv
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from scheduler import normalise, patterns
from storage import errors, keys

_WINDOW = 1000  # characters looked at in one go: bounds what a regular expression can cost on hostile text
_WINDOW_END = re.compile(r"(?s).*[.!?;]\s")
_SUFFIXES = {".tsv": "\t", ".csv": ","}
_BUCKET_DEPTH = 3  # letters by which entries are grouped, so that long lexicons stay quick
_BUCKET_ENTRIES = 8  # so few are tried one after the other
_WORD_END = r"(?!\w|'t\b)"  # `can` is not in `can't`, but `Anna` is in `Anna's`
_GROUP_IN_RESPELLING = re.compile(r"\\(\d)")


class LexiconError(errors.InputError):
    """The lexicon {path} is wrong{line}: {reason}."""


@dataclass(frozen=True)
class Lexicon:
    """Entries and their respellings, compiled into one expression when first applied."""

    entries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """The lexicon of a `.toml`, `.tsv` or `.csv` file. Raises LexiconError, with the line if known."""
        entries: dict[str, str] = {}
        for line, word, respelling in _read(path):
            key = word.strip() if patterns.is_pattern(word.strip()) else normalise.normalise(word)
            if reason := _fault(key, respelling) or ("it stands here twice" if key in entries else None):
                raise LexiconError(path=path, line=_at(line), reason=f"{word[:60]!r}: {reason}")
            entries[key] = normalise.normalise(respelling)
        return cls(entries)

    @cached_property
    def digest(self) -> str:
        """sha256 of what the lexicon does, as 64 hexadecimal digits: a part of the cutter's fingerprint."""
        return keys.digest(dict(self.entries))

    def apply(self, text: str) -> str:
        """The text with every entry respelled, once, in time linear in its length."""
        if not self.entries:
            return text
        return "".join(self._expression.sub(self._respell, window) for window in _windows(text))

    @cached_property
    def _patterns(self) -> dict[str, str]:
        return {entry: text for entry, text in self.entries.items() if patterns.is_pattern(entry)}

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        words = [entry for entry in self.entries if entry not in self._patterns]
        branches = ["<[^<>]{1,64}>"]  # a tag is no text: it is found first, and put back as it was
        branches += [f"(?P<p{number}>{pattern[1:-1]})" for number, pattern in enumerate(self._patterns)]
        if words:
            branches.append(rf"(?<!\w)(?:{_alternatives(words)}){_WORD_END}")
        return re.compile("|".join(branches))

    def _respell(self, match: re.Match[str]) -> str:
        found = match[0]
        if match.lastgroup:
            return _fill(list(self._patterns.values())[int(match.lastgroup[1:])], match)
        for spelling in (found, found.lower(), found.casefold()):
            if (respelling := self.entries.get(spelling)) is not None:
                return respelling[:1].upper() + respelling[1:] if found[:1].isupper() else respelling
        return found


def _alternatives(words: Iterable[str], depth: int = 1) -> str:
    """An expression for any of the words, the longest first, grouped by their first letters."""
    longest_first = sorted(words, key=len, reverse=True)
    if depth > _BUCKET_DEPTH or len(longest_first) <= _BUCKET_ENTRIES:
        return "|".join(map(_as_written, longest_first))
    beginning = lambda word: (-len(word[:depth]), word[:depth].lower())  # noqa: E731
    buckets = itertools.groupby(sorted(longest_first, key=beginning), key=beginning)
    return "|".join(
        f"(?=(?i:{re.escape(letters)}))(?:{_alternatives(bucket, depth + 1)})"
        for (_, letters), bucket in buckets
    )


def _as_written(word: str) -> str:
    return f"(?i:{re.escape(word)})" if word == word.lower() else re.escape(word)


def _fill(respelling: str, match: re.Match[str]) -> str:
    """A pattern's respelling with `\\1` .. `\\9` filled in; its groups are numbered from its own."""
    assert match.lastgroup is not None
    first = match.re.groupindex[match.lastgroup]
    return _GROUP_IN_RESPELLING.sub(lambda number: match[first + int(number[1])] or "", respelling)


def _windows(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _WINDOW:
        window = text[start : start + _WINDOW]
        stop = _WINDOW_END.match(window)
        end = stop.end() if stop else window.rfind(" ") + 1 or _WINDOW
        yield window[:end]
        start += end
    yield text[start:]


def _fault(entry: str, respelling: str) -> str | None:
    if not entry:
        return "there is no word"
    if not patterns.is_pattern(entry):
        return None
    if reason := patterns.fault(entry[1:-1]):
        return reason
    groups = re.compile(entry[1:-1]).groups
    asked = [int(number) for number in _GROUP_IN_RESPELLING.findall(respelling)]
    return f"it has no group \\{max(asked)}" if asked and max(asked) > groups else None


def _read(path: Path) -> Iterator[tuple[int | None, str, str]]:
    """Line (where it is known), word and respelling of each entry."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LexiconError(path=path, line="", reason=error) from error
    if path.suffix.lower() == ".toml":
        return _toml(path, text)
    if delimiter := _SUFFIXES.get(path.suffix.lower()):
        return _table(path, text, delimiter)
    raise LexiconError(path=path, line="", reason="its name must end in .toml, .tsv or .csv")


def _toml(path: Path, text: str) -> Iterator[tuple[int | None, str, str]]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LexiconError(path=path, line="", reason=error) from error  # the parser names the line itself
    for word, respelling in table.items():
        line = _line_of(word, text)
        if not isinstance(respelling, str):
            raise LexiconError(path=path, line=_at(line), reason=f"{word!r} needs a respelling in quotes")
        yield line, word, respelling


def _line_of(word: str, text: str) -> int | None:
    key = re.compile(rf"""(?m)^[ \t]*(["']?){re.escape(word)}\1[ \t]*[=.]""")
    return text.count("\n", 0, match.start()) + 1 if (match := key.search(text)) else None


def _table(path: Path, text: str, delimiter: str) -> Iterator[tuple[int | None, str, str]]:
    rows = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in rows:
            if not row or row[0].startswith("#"):
                continue
            if len(row) != 2:
                reason = f"it needs a word and a respelling, two columns; it has {len(row)}"
                raise LexiconError(path=path, line=_at(rows.line_num), reason=reason)
            yield rows.line_num, row[0], row[1]
    except csv.Error as error:
        raise LexiconError(path=path, line=_at(rows.line_num), reason=error) from error


def _at(line: int | None) -> str:
    return f" at line {line}" if line else ""
