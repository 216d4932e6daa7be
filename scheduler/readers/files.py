"""Which files the user means: files, folders with all that can be read below them, and patterns."""

import dataclasses
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from scheduler import custom_ids
from scheduler.document import Problem
from scheduler.readers import registry

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class File:
    """A file to be read, with the name that it gives its document."""

    path: Path
    reader: registry.Reader
    place: str  # from the folder that the user named
    custom_id: str


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    root: Path | None  # the folder that the user named, None where it was the file


def find(names: Iterable[str]) -> list[File | Problem]:
    """The files that the names stand for, each once, in the order of the names; folders in natural order.

    Two files that would give the same custom_id get a digest of their path added to it.
    """
    found: dict[Path | Problem, File | Problem] = {}
    for name in names:
        for item in _found(name):
            key = item if isinstance(item, Problem) else item.path.absolute()
            found.setdefault(key, item if isinstance(item, Problem) else _file(item))
    files = list(found.values())
    uses = Counter(item.custom_id for item in files if isinstance(item, File) and not item.reader.many)
    return [
        _distinguished(item) if isinstance(item, File) and uses[item.custom_id] > 1 else item for item in files
    ]


def natural(path: PurePath) -> list[list[str | int]]:
    """A key that sorts `2.txt` before `10.txt`."""
    return [
        [int(part) if part.isdecimal() else part.lower() for part in _DIGITS.split(name)] for name in path.parts
    ]


def _found(name: str) -> Sequence[_Found | Problem]:
    try:
        return _named(name)
    except (OSError, ValueError) as error:  # such as a name too long, or with a NUL
        return [Problem(name, f"cannot be read: {error}")]


def _named(name: str) -> Sequence[_Found | Problem]:
    path = Path(name)
    if not os.path.lexists(name) and glob.has_magic(name):
        return _matching(name)
    if path.is_dir():
        return _below(path, path) or [Problem(name, f"has no file in it that ends in {_known()}")]
    if not path.exists():
        return [Problem(name, "is not there")]
    if registry.find(path.suffix) is None:
        return [Problem(name, f"cannot be read: its name must end in {_known()}")]
    if not path.is_file():
        return [Problem(name, "is no regular file")]
    return [_Found(path, None)]


def _matching(pattern: str) -> Sequence[_Found | Problem]:
    """What a pattern matches. Other files beside those that can be read are passed over."""
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    found: list[_Found | Problem] = []
    matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - as shells do it: no hidden files, no errors
    for path in sorted(map(Path, matches), key=natural):
        if path.is_dir():
            found += _below(path, root)
        elif _readable(path):
            found.append(_Found(path, root))
    return found or [Problem(pattern, f"matches no file that ends in {_known()}")]


def _below(folder: Path, root: Path) -> list[_Found | Problem]:
    """Every file in and below a folder that can be read; hidden ones are passed over."""
    paths: list[Path] = []
    problems: list[_Found | Problem] = []

    def note(error: OSError) -> None:
        problems.append(Problem(str(error.filename), f"cannot be read: {error.strerror}"))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in names if not name.startswith(".")]
    return [_Found(path, root) for path in sorted(filter(_readable, paths), key=natural)] + problems


def _readable(path: Path) -> bool:
    return registry.find(path.suffix) is not None and path.is_file()


def _file(found: _Found) -> File:
    reader = registry.find(found.path.suffix)
    assert reader is not None, "files without a reader were passed over"
    root = found.root or found.path.parent
    place = PurePath(root.name, found.path.relative_to(root))
    return File(found.path, reader, place.as_posix(), custom_ids.from_path(found.path, found.root))


def _distinguished(file: File) -> File:
    name = f"{file.custom_id}-{custom_ids.short_digest(file.place)}"
    return dataclasses.replace(file, custom_id=custom_ids.made_valid(name))


def _known() -> str:
    return ", ".join(registry.suffixes())
