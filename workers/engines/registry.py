"""Which engines there are: those that installed packages register under the entry point group `voicemill.engines`."""

import difflib
import logging
from functools import cache
from importlib import metadata

from storage import errors
from workers.engines.engine import EngineSpec

GROUP = "voicemill.engines"
PREFERRED, FALLBACK = "maya1", "espeak"

log = logging.getLogger(__name__)


class UnknownEngineError(errors.InputError):
    """There is no engine {name!r}{hint}. There are {known}."""


class BrokenEngineError(errors.InputError):
    """The engine {name} ({origin}) cannot be used: {reason}."""


def specs() -> dict[str, EngineSpec]:
    """Every engine that can be imported, by name. One that cannot is logged in a line and left out."""
    found: dict[str, EngineSpec] = {}
    for name in sorted(_entry_points()):
        try:
            found[name] = _load(name)
        except BrokenEngineError as error:
            log.warning("%s", error)
    return found


def spec(name: str) -> EngineSpec:
    """The engine of that name. Raises UnknownEngineError, BrokenEngineError."""
    names = _entry_points()
    if name in names:
        return _load(name)
    close = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    known = ", ".join(sorted(names)) or "none: Voicemill itself is not installed (pip install .)"
    raise UnknownEngineError(name=name[:40], hint=hint, known=known)


def default() -> tuple[EngineSpec, str]:
    """The engine where none is named, and why that one, as a sentence without its full stop."""
    try:
        preferred = spec(PREFERRED)
        reason = preferred.unavailable()
    except UnknownEngineError:
        return spec(FALLBACK), f"{PREFERRED} is not installed"
    except BrokenEngineError as error:
        return spec(FALLBACK), str(error).removesuffix(".")
    if reason is None:
        return preferred, f"{PREFERRED} can run here"
    return spec(FALLBACK), f"{PREFERRED} cannot run here: {reason.removesuffix('.')}"


@cache
def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


@cache
def _load(name: str) -> EngineSpec:
    entry = _entry_points()[name]
    origin = entry.dist.name if entry.dist is not None else entry.value
    try:
        loaded = entry.load()
    except Exception as error:  # whatever a package does when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise BrokenEngineError(name=name, origin=origin, reason=reason) from error
    wanted = [attribute for attribute in _attributes() if not hasattr(loaded, attribute)]
    if wanted:
        reason = f"{entry.value} is no engine specification, it has no {wanted[0]!r}"
        raise BrokenEngineError(name=name, origin=origin, reason=reason)
    spec: EngineSpec = loaded
    return spec


def _attributes() -> list[str]:
    methods = [name for name in vars(EngineSpec) if not name.startswith("_")]
    return sorted({*EngineSpec.__annotations__, *methods})
