"""The options of a request, which are part of its take key."""

from pydantic import Field

from workers.engines.engine import Options


class Maya1Options(Options):
    """Sampling as the model's authors publish it."""

    temperature: float = Field(default=0.4, ge=0, le=2, description="0 takes the likeliest token each time")
    top_p: float = Field(default=0.9, gt=0, le=1, description="probability mass that a token is drawn from")
    repetition_penalty: float = Field(
        default=1.1, ge=1, le=2, description="of tokens that the take has already; 1 is none"
    )
    max_tokens: int = Field(default=2048, ge=35, le=32768, description="of a take; 82 are a second of sound")
    strip_unknown_tags: bool = Field(
        default=False, description="drop tags that Maya1 does not know instead of refusing them"
    )
