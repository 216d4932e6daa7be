"""Named voices: each has a description (what Maya1 speaks from) and an espeak voice, so a name works on any engine."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from storage import errors

MAX_DESCRIPTION = 1000  # characters


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice by name. A description given in place makes a voice without a name."""

    name: str
    description: str  # English prose, ends in a full stop: Maya1 reads out one that does not
    espeak: str | None = (
        None  # an espeak-ng voice with its variant, such as `en-us+f3`; None: chosen from the description
    )


class UnknownVoiceError(errors.InputError):
    """There is no voice named {name!r}{hint}. `voicemill voices` lists them; a description in place has spaces in it."""


class VoiceFileError(errors.InputError):
    """The voices file {path} is wrong: {reason}."""


def load(path: Path | None = None) -> dict[str, Voice]:
    """The built-in voices, and those of a user's TOML file over them. Raises VoiceFileError."""
    table = _parse(resources.files("workers").joinpath("voices.toml").read_text(encoding="utf-8"), "built in")
    if path is not None:
        try:
            table |= _parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise VoiceFileError(path=path, reason=error) from error
    return table


def resolve(name: str, table: Mapping[str, Voice]) -> Voice:
    """The voice of that name, or one made of a description in place. Raises UnknownVoiceError."""
    name = " ".join(name.split())
    if name in table:
        return table[name]
    if " " in name and len(name) <= MAX_DESCRIPTION:
        return Voice(name="", description=full_stop(name))
    close = difflib.get_close_matches(name, table, n=1)
    raise UnknownVoiceError(name=name[:60], hint=f" (did you mean {close[0]!r}?)" if close else "")


def full_stop(description: str) -> str:
    """The description on one line, ending in a full stop, without double quotes (they would end its attribute)."""
    text = " ".join(description.replace('"', "'").split())
    return text if text.endswith((".", "!", "?")) else text.rstrip(",;:") + "."


def _parse(text: str, origin: str) -> dict[str, Voice]:
    try:
        entries: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise VoiceFileError(path=origin, reason=error) from error
    return {name: _voice(name, entry, origin) for name, entry in entries.items()}


def _voice(name: str, entry: Any, origin: str) -> Voice:
    known = {"description", "espeak"}
    if not isinstance(entry, dict) or not isinstance(entry.get("description"), str):
        raise VoiceFileError(path=origin, reason=f"[{name}] needs a `description`")
    if unknown := sorted(set(entry) - known):
        raise VoiceFileError(
            path=origin, reason=f"[{name}] has {unknown[0]!r}; known are description and espeak"
        )
    if " " in name or not entry["description"].strip():
        raise VoiceFileError(
            path=origin, reason=f"[{name}] needs a name without spaces and a description with words"
        )
    espeak = entry.get("espeak")
    if espeak is not None and not isinstance(espeak, str):
        raise VoiceFileError(path=origin, reason=f"[{name}] has an `espeak` that is no string")
    return Voice(name=name, description=full_stop(entry["description"]), espeak=espeak)
