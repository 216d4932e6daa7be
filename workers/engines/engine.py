"""What an engine is: the only thing the steps of a batch know of whatever turns text into sound."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from storage import errors
from storage.settings import RoomSettings
from workers.engines.limits import Limits
from workers.voices import Voice


class Reason(StrEnum):
    """Why a request gave no take. The value is what `errors.jsonl` and the database say."""

    TRUNCATED = "truncated"  # the token budget was reached before end-of-speech
    LOOP = "loop"  # the same few frames again and again, or, as a check of the take, the same sound
    TOO_LONG = "too_long"  # the text does not fit the engine's context or token budget at all
    BAD_TEXT = "bad_text"  # the engine cannot speak this text
    SILENT = "silent"  # a check of the take: next to no sound
    CLIPPED = "clipped"  # a check of the take: too many samples at full scale
    TOO_SHORT = "too_short"  # a check of the take: too little sound for its text
    TOO_SLOW = "too_slow"  # a check of the take: too much sound for its text
    WORDS = "words"  # a check of the take: a recogniser hears other words
    CRASHED = "crashed"  # the engine broke on this request


@dataclass(frozen=True, slots=True)
class Request:
    """One segment to be spoken. `key` (the take key) names it in every answer."""

    key: str
    text: str  # normalised, prepared by the engine's own spec
    voice: str  # in the engine's own words: a description for maya1, a voice name for espeak
    seed: int  # 0 .. 2**63 - 1
    options: Mapping[str, Any] = field(default_factory=dict)  # `EngineSpec.options`, dumped
    partial: bytes | None = None  # what an interrupted attempt had got to, as its `Partial` said


@dataclass(frozen=True, slots=True)
class Take:
    """One rendering. `pcm` is mono signed 16-bit little-endian at the engine's sample rate."""

    key: str
    pcm: bytes
    sample_rate: int  # Hz
    tokens: int  # codec tokens generated, 0 for engines without any
    codes: bytes | None = None  # int16 little-endian, shape [frames, 7], for engines with a codec
    recipe: Mapping[str, Any] | None = None  # what these need besides to become `pcm` again: see `codes`


@dataclass(frozen=True, slots=True)
class Partial:
    """A request that was stopped in flight: enough to go on from, in the engine's own form."""

    key: str
    state: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that gave no take, and why, in words for the producer."""

    key: str
    reason: Reason
    detail: str


Result = Take | Partial | Failure
Checkpoints = Callable[[list[Partial]], None]


class Engine(Protocol):
    """A loaded engine. One per process; several threads may call `render` at once."""

    @property
    def sample_rate(self) -> int:
        """Hz, of every take."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What of the engine shapes a take (name, model revision, codec, precision): part of every take key."""
        ...

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        """Exactly one result a request, as they come, in any order.

        When `stop` is set it takes on nothing new: what is in flight comes back as a `Partial` (or as its take, where
        that is quicker), what had not begun as a `Partial` with an empty state.
        """
        ...

    def close(self) -> None:
        """Give back processes, threads and device memory. Safe to call twice."""
        ...


@runtime_checkable
class Checkpointing(Protocol):
    """An engine whose sequences take so long that it hands out partials of them while it goes on."""

    on_checkpoint: Checkpoints | None
    """Called now and then, in a thread of the engine's own, with how far the sequences in flight are."""

    checkpoint_interval: float
    """Seconds from one of these calls to the next."""


class Options(BaseModel):
    """The options of an engine, each with its unit and default. Unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BadTextError(errors.InputError):
    """{where}: {reason}."""


class DeviceFaultError(errors.VoicemillError):
    """The device failed in a way that ends its use in this process: {reason}."""


class EngineUnavailableError(errors.InputError):
    """The engine {engine} cannot run here: {reason}."""


class EngineSpec(Protocol):
    """An engine as the scheduler and the CLI know it: cheap to import, without a model or torch in sight.

    Registered through the entry point group `voicemill.engines`.
    """

    name: str
    pool: str  # the render queue that its batches go to
    options: type[Options]
    tokens_per_character: float  # codec tokens that a character of text becomes, about
    needs_gpu: bool  # one worker process a GPU
    token_rate: float  # tokens a second of audio; engines without tokens count as if at SNAC's 82.03

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine (no library, no GPU, no model), None if it can."""
        ...

    def voice(self, voice: Voice) -> str:
        """A voice in the engine's own words. Raises ValueError with the reason if it has no such voice."""
        ...

    def prepare(self, text: str, options: Options) -> str:
        """A segment's text as this engine should get it. Raises ValueError with the reason if it cannot speak it."""
        ...

    def load(self) -> Engine:
        """The engine itself, ready to render. Raises EngineUnavailableError."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """A specification whose engine has settings of the machine that it runs on: `maya1_slots` of the engine maya1, say."""

    settings: type[RoomSettings]


@runtime_checkable
class Judged(Protocol):
    """A specification that knows what its engine's takes should be like. Those of others are held to wide limits."""

    limits: Limits
    uses_seed: bool  # whether another seed gives another take; where not, a take that fails its checks is not tried again
