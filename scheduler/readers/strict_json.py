"""JSON as the standard has it: no NaN, no key twice, no text that is not Unicode."""

import json
from typing import Any, NoReturn

_MAX_DIGITS = 40  # far more than any option has


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError whose message goes on from `The text ...`."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("is no JSON that can be read: it is nested too deeply") from error
    if "\\u" in text:
        _check_characters(value)
    return value


def _check_characters(value: Any) -> None:
    """Refuse what JSON's escapes can say and a text cannot hold."""
    whole = json.dumps(value, ensure_ascii=False)
    if r"\u0000" in whole.replace(r"\\", ""):
        raise ValueError("holds a NUL (\\u0000)")
    try:
        whole.encode()
    except UnicodeEncodeError as error:
        code = ord(whole[error.start])
        raise ValueError(f"holds half a character (\\u{code:04x}, a lone surrogate)") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"is ambiguous: the key {twice[:40]!r} stands in it twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no number that can be used")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _no_constant(digits[:20])


def _short(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else _no_constant(digits[:20])


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_short
)
