"""The options of a request, which are part of its take key."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from storage import settings
from workers.engines.engine import Options
from workers.engines.maya1.settings import Maya1Settings


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

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, given: Any) -> Any:
        """Tells where that is set which is no request's to choose."""
        for name, value in given.items() if isinstance(given, Mapping) else ():
            if f"maya1_{name}" not in Maya1Settings.model_fields:
                continue
            variable = f"{settings.PREFIX}MAYA1_{name.upper()}"
            reason = f"it is a setting of the machine that renders: {variable}={value}"
            error = PydanticCustomError("elsewhere", "{reason}", {"reason": reason})
            details = InitErrorDetails(type=error, loc=(name,), input=value)
            raise ValidationError.from_exception_data(cls.__name__, [details])
        return given
