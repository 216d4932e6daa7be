"""What the `espeakng-loader` wheel brings: the library, its data, and the voices in it. Loads nothing of it."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "espeakng-loader"


@dataclass(frozen=True, slots=True)
class Wheel:
    """Where it lies on disk."""

    shared_object: Path
    data: Path  # the folder `espeak-ng-data`

    @property
    def version(self) -> str:
        """The wheel's version; the library has its own."""
        return metadata.version(DISTRIBUTION)

    @property
    def data_version(self) -> str:
        """The version of the phoneme data, the first four bytes of `phondata`: `0x14801`."""
        with (self.data / "phondata").open("rb") as file:
            return hex(int.from_bytes(file.read(4), "little"))

    def digest(self) -> str:
        """sha256 over the library and every file of its data, names included: about 20 MB, 20 ms."""
        total = hashlib.sha256(hashlib.sha256(self.shared_object.read_bytes()).digest())
        for path in sorted(path for path in self.data.rglob("*") if path.is_file()):
            total.update(path.relative_to(self.data).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


@cache
def find() -> Wheel:
    """The installed wheel. Raises LookupError with the reason, in words for the user."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise LookupError(f"the package {DISTRIBUTION} is not installed")
    import espeakng_loader

    library = Path(espeakng_loader.get_library_path())
    data = Path(espeakng_loader.get_data_path())
    if not library.is_file() or not (data / "phondata").is_file():
        raise LookupError(f"the package {DISTRIBUTION} has no library or no data in {library.parent}")
    return Wheel(library, data)


@cache
def languages() -> dict[str, str]:
    """Every language or accent by its case-folded name: `en-us`, `fr`, `en-gb-scotland`. Raises LookupError."""
    names = {path.name.lower() for path in (find().data / "lang").rglob("*") if path.is_file()}
    return {name: name for name in sorted(names)} | {"en-gb": "en"}  # espeak's own `en` is British


@cache
def variants() -> dict[str, str]:
    """Every variant of a voice, by its case-folded name: `f3`, `andrea` for `Andrea`. Raises LookupError."""
    return {path.name.casefold(): path.name for path in sorted((find().data / "voices" / "!v").iterdir())}
