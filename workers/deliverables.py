"""What a job is delivered as: one file or several of the same programme, each with its own format, rate and level."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from storage import errors
from workers.audio import acx, formats
from workers.audio.formats import Format

if TYPE_CHECKING:
    from workers.audio.loudness import Level

TRUE_PEAK = -1.0  # dBTP: EBU R128's ceiling, before the encoder
QUIETEST, LOUDEST = -40.0, -5.0  # LUFS that may be asked for
RATES = (8000, 192_000)  # Hz that may be asked for
PRESETS = ("acx",)


class BadDeliverableError(errors.InputError):
    """{reason}."""


@dataclass(frozen=True, slots=True)
class Deliverable:
    """One file of a job."""

    format: str
    bitrate: str | None = None  # such as 64k; None where the format has none
    sample_rate: int | None = (
        None  # Hz, of the file; None: that of the engine, or the next that the format takes
    )
    loudness: float | None = None  # LUFS of the whole programme; None: as it comes from the engine
    preset: str | None = None  # a publisher's rules, which set the rest
    folder: str = ""  # where it is fetched to, below the output folder: what tells two of the same kind apart

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Deliverable":
        """As `stored` put it."""
        return cls(**stored)

    def stored(self) -> dict[str, Any]:
        """As a job's options keep it."""
        return asdict(self)

    @property
    def kind(self) -> Format:
        """Its format."""
        return formats.by_name(self.format)

    @property
    def level(self) -> "Target | None":
        """The level it is brought to; None: as it was spoken."""
        if self.preset == "acx":
            return Target("acx", None, acx.RMS, acx.CEILING)
        return None if self.loudness is None else Target(f"{self.loudness:g}", self.loudness, None, TRUE_PEAK)


@dataclass(frozen=True, slots=True)
class Target:
    """A level that a programme is to have."""

    name: str
    lufs: float | None
    rms: float | None  # dBFS, where it is not the loudness that counts
    ceiling: float  # dBTP that no peak is to be over, before it is encoded

    def missing(self, level: "Level") -> float:
        """dB from a level to this one."""
        if self.lufs is not None:
            return self.lufs - level.lufs
        assert self.rms is not None
        return self.rms - level.rms


def checked(
    audio_format: str,
    bitrate: str | None = None,
    sample_rate: int | None = None,
    loudness: float | None = None,
    preset: str | None = None,
) -> Deliverable:
    """A deliverable as asked for, nothing left open that its format decides. Raises an InputError.

    A bit rate is passed over by formats that have none, so that one can be said for several.
    """
    if preset is not None:
        if preset not in PRESETS:
            raise BadDeliverableError(reason=f"there is no preset {preset!r}; there is {', '.join(PRESETS)}")
        return Deliverable("mp3", acx.BITRATE, acx.SAMPLE_RATE, None, preset)
    kind = formats.by_name(audio_format)
    if sample_rate is not None and not RATES[0] <= sample_rate <= RATES[1]:
        raise BadDeliverableError(
            reason=f"the sample rate {sample_rate} is not one from {RATES[0]} to {RATES[1]} Hz"
        )
    if sample_rate is not None:
        kind.check_rate(sample_rate)
    if loudness is not None and not QUIETEST <= loudness <= LOUDEST:
        raise BadDeliverableError(
            reason=f"the loudness {loudness:g} is not one from {QUIETEST:g} to {LOUDEST:g} LUFS; podcasts have -16"
        )
    kilobits = kind.kilobits(bitrate) if kind.bitrates else None
    return Deliverable(
        kind.name,
        None if kilobits is None else f"{kilobits}k",
        sample_rate,
        None if loudness is None else float(loudness),
    )


def several(wanted: list[Deliverable]) -> list[Deliverable]:
    """Each once; of those that would have the same file name, all but the first go into a folder of their own."""
    found: list[Deliverable] = []
    taken: set[tuple[str, str]] = set()
    for each in dict.fromkeys(wanted):
        names = chain(["", each.preset or f"{each.format}-2"], (f"{each.format}-{n}" for n in count(3)))
        folder = next(name for name in names if (name, each.kind.suffix) not in taken)
        taken.add((folder, each.kind.suffix))
        found.append(replace(each, folder=folder))
    return found
