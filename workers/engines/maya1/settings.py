"""How this machine runs Maya1. What of it shapes a take also enters `Engine.identity`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from storage.settings import RoomSettings


class Maya1Settings(RoomSettings):
    """VOICEMILL_MAYA1_… or `maya1_…` in voicemill.toml."""

    maya1_model: str = Field(
        default="maya-research/maya1", description="Maya1: a folder or a Hugging Face name."
    )
    maya1_revision: str | None = Field(
        default=None, description="Maya1's commit on the hub; unset: the one that this machine fetched first."
    )
    maya1_snac: str = Field(default="hubertsiuzdak/snac_24khz", description="Its codec: a folder or a name.")
    maya1_snac_revision: str | None = Field(
        default=None, description="The codec's commit on the hub; likewise."
    )
    maya1_device: str = Field(default="auto", description="auto (CUDA where there is any), cuda, cuda:1, cpu.")
    maya1_dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto", description="auto: bf16 from NVIDIA's Ampere on, fp16 on older GPUs, fp32 on a CPU."
    )
    maya1_kv_dtype: Literal["auto", "fp8", "int8"] = Field(
        default="auto", description="Keys and values: auto as the model, or in 8 bits (faster, not exact)."
    )
    maya1_gemm: Literal["auto", "fp8"] = Field(
        default="auto", description="Products: auto as the model, or in 8 bits (faster, not exact)."
    )
    maya1_slots: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Sequences at once; unset: as many as memory holds, 512 at most, 1,024 in 8 bits.",
    )
    maya1_context: int = Field(default=2176, ge=256, description="Tokens of a prompt and its speech, at most.")
    maya1_bos: Literal["double", "single"] = Field(
        default="double",
        description="The prompt's begin-of-text tokens: double as the official code feeds them.",
    )
    maya1_vocoder: Literal["torch", "tensorrt"] = Field(
        default="torch", description="What turns codes into sound; TensorRT engines are built when missing."
    )
    maya1_vocoder_noise: bool = Field(
        default=True, description="The codec's own noise, drawn from each take's seed; off: none."
    )
    maya1_trim_first_frame: bool = Field(
        default=True, description="Leave out the first 85 ms of sound, as the official code does."
    )
    maya1_cache: Path = Field(
        default=Path("~/.cache/voicemill"),
        description="Folder for TensorRT engines, and for which revisions were fetched.",
    )
