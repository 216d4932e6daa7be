"""What ACX (Audible) asks of a file: settings that meet it, and what a file is found to lack.

The figures are those that ACX publishes to its narrators: 192 kbit/s constant MP3 at 44.1 kHz, -23 to -18 dB RMS, peaks
below -3 dB, a noise floor below -60 dB RMS, at most 120 minutes, half a second to a second of quiet before and one to
five seconds after. Whether ACX takes synthetic narration is between its author and ACX.
"""

from dataclasses import dataclass

BITRATE = "192k"
SAMPLE_RATE = 44100  # Hz
RMS = -20.0  # dB that the preset aims at
CEILING = -4.0  # dBTP before the encoder, which adds some tenths
HEAD_MS, TAIL_MS = 750, 2000

RMS_RANGE = (-23.0, -18.0)  # dB
PEAK = -3.0  # dB
NOISE_FLOOR = -60.0  # dB RMS; what is louder is no quiet before or after the programme either
MINUTES = 120
HEAD_RANGE = (0.5, 1.0)  # seconds of quiet before the programme ...
TAIL_RANGE = (1.0, 5.0)  # ... and after it


@dataclass(frozen=True, slots=True)
class Measured:
    """An encoded file, measured."""

    rms: float  # dB, of all of it
    peak: float  # dB
    noise_floor: float | None  # dB RMS of its quietest pause; None: every pause in it is digital silence
    seconds: float
    head: float  # seconds of quiet before the programme
    tail: float  # seconds of quiet after it

    def problem(self) -> str | None:
        """What ACX would not take, as one sentence; None where all is well."""
        found = []
        low, high = RMS_RANGE
        if not low <= self.rms <= high:
            found.append(f"its RMS is {self.rms:.1f} dB, not between {low:.0f} and {high:.0f}")
        if self.peak > PEAK:
            found.append(f"its peak is {self.peak:.1f} dB, not below {PEAK:.0f}")
        if self.noise_floor is not None and self.noise_floor > NOISE_FLOOR:
            found.append(f"its noise floor is {self.noise_floor:.1f} dB, not below {NOISE_FLOOR:.0f}")
        for name, quiet, (least, most) in (
            ("before", self.head, HEAD_RANGE),
            ("after", self.tail, TAIL_RANGE),
        ):
            if not least <= quiet <= most:
                found.append(f"the quiet {name} it has {quiet:.2f} seconds, not {least:g} to {most:g}")
        if self.seconds > MINUTES * 60:
            found.append(f"it has {self.seconds / 60:.0f} minutes, more than {MINUTES}: use --split chapter")
        return "; ".join(found) or None
