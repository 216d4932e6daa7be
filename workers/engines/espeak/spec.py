"""What the scheduler and the CLI know of the espeak engine."""

from typing import TYPE_CHECKING

from storage import settings
from workers.engines.engine import Options
from workers.engines.espeak import speaker, wheel
from workers.engines.espeak import text as texts
from workers.engines.espeak.options import EspeakOptions
from workers.engines.limits import Limits
from workers.engines.maya1 import constants
from workers.settings import WorkerSettings
from workers.voices import Voice

if TYPE_CHECKING:
    from workers.engines.espeak.engine import EspeakEngine

CHARACTERS_PER_SECOND = 19.0  # of English prose at 175 words a minute; 18.0 to 19.6 over the built-in voices


class EspeakSpec:
    """As `EngineSpec`. Tokens are counted as if a codec made them, so that estimates read alike for every engine."""

    name = "espeak"
    pool = "espeak"
    needs_gpu = False
    options: type[Options] = EspeakOptions
    token_rate = constants.TOKENS_PER_SECOND
    tokens_per_character = constants.TOKENS_PER_SECOND / CHARACTERS_PER_SECOND
    # It speaks 18 characters a second, from 8 to 47 by its rate, and spells foreign letters out. It cannot loop or halt.
    limits = Limits((-0.3, 0.012), (3.0, 0.25), 0.0, rms_dbfs=-60.0, silence_ratio=0.9, clipped_ratio=0.01)
    uses_seed = False

    def unavailable(self) -> str | None:
        """Why it cannot run here: the wheel is missing or broken."""
        try:
            wheel.find()
        except LookupError as error:
            return str(error)
        return None

    def voice(self, voice: Voice) -> str:
        """The voice's own espeak voice, else the one nearest to its description."""
        return speaker.described(voice.description) if voice.espeak is None else speaker.named(voice.espeak)

    def prepare(self, text: str, options: Options) -> str:
        """The text without Maya1's emotion tags and control characters. Refuses nothing."""
        return texts.plain(text)

    def load(self) -> "EspeakEngine":
        """The engine, with as many processes as the settings say."""
        from workers.engines.espeak.engine import EspeakEngine

        return EspeakEngine(settings.load(WorkerSettings).espeak_processes)
