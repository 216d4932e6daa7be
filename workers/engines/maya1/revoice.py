"""Kept codes become the same sound again, by the codec alone: 20 million parameters in place of 3.3 billion.

What turns codes into a take beside them: the codec with its precision and noise, the seed that the noise is drawn from,
and whether the first frame is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storage import keys
from workers.engines.codes import OtherCodecError
from workers.engines.maya1 import constants, vocoder

FULL_SCALE = 32767  # of a 16-bit sample


def pcm(sound: np.ndarray, trim_first_frame: bool) -> bytes:
    """A take's PCM16 of the vocoder's float32 in -1 .. 1."""
    kept = sound[constants.SAMPLES_PER_FRAME :] if trim_first_frame else sound
    return bytes((np.clip(kept, -1.0, 1.0) * FULL_SCALE).round().astype("<i2").tobytes())


def codec(identity: Mapping[str, Any], trim_first_frame: bool) -> str:
    """What two ways from codes to sound must share to give the same, in 16 hexadecimal digits."""
    return keys.digest({"codec": dict(identity), "trim": trim_first_frame})[:16]


class Revoicer:
    """See `workers.engines.codes.Speaker`."""

    def __init__(self, sound: vocoder.Vocoder, trim_first_frame: bool, batch: int) -> None:
        self._sound, self._trim, self._batch = sound, trim_first_frame, batch
        self._codec = codec(sound.identity, trim_first_frame)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self._sound.sample_rate

    def speak(self, codes: Sequence[bytes], recipes: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """The PCM of takes. One by one on a CPU, as the engine does it there. Raises OtherCodecError."""
        if any(recipe.get("codec") != self._codec for recipe in recipes):
            raise OtherCodecError
        made: list[bytes] = []
        for start in range(0, len(codes), self._batch):
            chunk = slice(start, start + self._batch)
            frames = [np.frombuffer(each, "<i2").reshape(-1, constants.FRAME) for each in codes[chunk]]
            sounds = self._sound.decode(frames, [int(recipe["seed"]) for recipe in recipes[chunk]])
            made += [pcm(sound, self._trim) for sound in sounds]
        return made
