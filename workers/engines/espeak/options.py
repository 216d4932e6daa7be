"""The options of the espeak engine."""

import pydantic

from workers.engines.engine import Options


class EspeakOptions(Options):
    """How espeak speaks, whatever the voice."""

    rate: int = pydantic.Field(default=175, ge=80, le=450, description="Words a minute.")
    pitch: int = pydantic.Field(
        default=50, ge=0, le=99, description="Height of the voice, 50 is the voice's own."
    )
    range: int = pydantic.Field(default=50, ge=0, le=99, description="Liveliness of the pitch, 0 is monotone.")
    volume: int = pydantic.Field(
        default=100, ge=0, le=200, description="Loudness in per cent; above 100 it may clip."
    )
    word_gap: int = pydantic.Field(
        default=0, ge=0, le=100, description="Pause between words, in 10 ms at 175 words."
    )
