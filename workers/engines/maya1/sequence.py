"""One request on its way through the decoder, as the host knows it, and the guards that end it."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from workers.engines.engine import Request
from workers.engines.maya1 import constants, partials, prompt

BUDGET_START = 210  # tokens that any text may have
BUDGET_PER_CHARACTER = 7  # tokens; clean renders use 3.2 to 4.8
BUDGET_PER_TAG = 400  # tokens; a laugh may take that many
USUAL_PER_CHARACTER = 4.5  # tokens
LEAST_PER_CHARACTER = 3.2  # tokens: the fastest speech seen
LOOP_PERIODS = (1, 2, 3, 4)  # frames
LOOP_REPEATS = 8


class End(Enum):
    """How a sequence ended."""

    SPEECH = auto()  # the model said so: the only way to a take
    BUDGET = auto()
    LOOP = auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and the codes that it has so far. `owner` is whoever waits for it."""

    request: Request
    prompt: tuple[int, ...]
    prefix: tuple[int, ...]  # the prompt's start that other requests of the same voice share
    budget: int  # frames, the last of which may only hold the end of speech
    temperature: float
    top_p: float
    penalty: float
    owner: Any = None
    codes: bytearray = field(default_factory=bytearray)  # int16 little-endian, 7 a frame
    slot: int = -1  # of the cache, while it is being decoded
    end: End | None = None

    @property
    def frames(self) -> int:
        """Whole frames so far."""
        return len(self.codes) // partials.FRAME

    @property
    def remaining(self) -> float:
        """Tokens still to be expected: what is to come last is admitted first."""
        return len(self.request.text) * USUAL_PER_CHARACTER - self.frames * constants.FRAME

    @property
    def cause(self) -> bytes:
        """What its partials are the beginning of."""
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "penalty": self.penalty}
        return partials.cause(self.prompt, self.request.seed, sampling)

    def add(self, frame: bytes) -> None:
        """One more frame, then the guards."""
        self.codes += frame
        if self._loops():
            self.end = End.LOOP
        elif self.frames >= self.budget:
            self.end = End.BUDGET

    def _loops(self) -> bool:
        """Whether the last frames are a cycle of 1 to 4 frames, 8 times over."""
        codes, frame = self.codes, partials.FRAME
        for period in LOOP_PERIODS:
            if codes[-frame:] == codes[-frame * (period + 1) : -frame * period]:
                span = period * frame  # a cycle's bytes
                if codes[-LOOP_REPEATS * span :] == codes[-span:] * LOOP_REPEATS:
                    return True
        return False


def budget(text: str, max_tokens: int, room: int) -> int:
    """Frames that a text may take, given the options' limit and the context's room, both in tokens.

    Raises ValueError if the text could not be spoken within those limits however fast.
    """
    limit = min(max_tokens, room) // constants.FRAME
    least = len(text) * LEAST_PER_CHARACTER / constants.FRAME
    if least > limit or limit <= constants.MIN_FRAMES:
        raise ValueError(
            f"{len(text)} characters need about {int(len(text) * USUAL_PER_CHARACTER)} tokens, "
            f"and there is room for {max(0, limit) * constants.FRAME}"
        )
    wanted = BUDGET_START + BUDGET_PER_CHARACTER * len(text) + BUDGET_PER_TAG * prompt.count_tags(text)
    return min(limit, -(-wanted // constants.FRAME))
