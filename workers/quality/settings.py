"""Settings of the machine that listens to takes."""

from typing import Literal

import pydantic

from storage.settings import RoomSettings


class ListenSettings(RoomSettings):
    """How takes are listened to by a speech recogniser."""

    asr: Literal["off", "whisper", "pocketsphinx"] = pydantic.Field(
        default="off",
        description="The recogniser: off, whisper, or pocketsphinx (English only, rough, brings its own small model).",
    )
    asr_model: str = pydantic.Field(
        default="small",
        description="whisper: a folder with a CTranslate2 model, or a name such as small or large-v3, to be downloaded.",
    )
    asr_device: Literal["auto", "cpu", "cuda"] = pydantic.Field(
        default="auto", description="whisper: where it runs."
    )
    asr_share: float = pydantic.Field(
        default=1.0, ge=0, le=1, description="The share of takes that are listened to, 0 to 1."
    )
