"""Codes to sound without the model that made them: for engines whose codec is a small thing beside it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from storage import errors


class OtherCodecError(errors.InputError):
    """The codes were turned into sound by another codec, or on another kind of device, than `voicemill config` names here,
    and would sound otherwise. Run this on such a machine, or take `voicemill thaw`."""


class Speaker(Protocol):
    """A loaded codec."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    def speak(self, codes: Sequence[bytes], recipes: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """The PCM of takes, as their engine made it: `Take.codes` and `Take.recipe` become `Take.pcm`.

        Raises OtherCodecError where this codec would make other sound of them.
        """
        ...


@runtime_checkable
class Speaking(Protocol):
    """A specification whose engine's codes can be made sound again."""

    def speaker(self) -> Speaker:
        """The codec, ready to use. Raises EngineUnavailableError or what else keeps it from loading."""
        ...
