"""Maya1: the engine that this project exists for. Importing this needs neither torch nor a model."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import storage.settings
from workers import gpus
from workers.engines.engine import EngineUnavailableError, Options
from workers.engines.limits import Limits
from workers.engines.maya1 import constants, options, prompt, sequence
from workers.engines.maya1.settings import Maya1Settings
from workers.voices import Voice

if TYPE_CHECKING:
    from workers.engines.maya1.engine import Maya1Engine
    from workers.engines.maya1.revoice import Revoicer

# At its normal pace it makes 3.2 to 6.2 tokens a character at 82 a second: 0.04 to 0.076 s. Its laughs take 300 to 400
# tokens. Its token budget ends a runaway at 2.6 s + 0.085 s a character, and its decoder ends cycles of up to four codec
# frames: what those let pass is looked at here.
LIMITS = Limits(
    (-0.5, 0.022),
    (2.0, 0.08),
    5.0,
    rms_dbfs=-45.0,
    silence_ratio=0.75,
    clipped_ratio=0.01,
    gap_seconds=4.0,
    loop_seconds=2.0,
)

LIBRARIES = ("torch", "safetensors", "tokenizers", "huggingface_hub")


class Maya1Spec:
    """See `workers.engines.engine.EngineSpec`."""

    name = "maya1"
    pool = "maya1"
    needs_gpu = True
    options: type[Options] = options.Maya1Options
    settings = Maya1Settings
    tokens_per_character = sequence.USUAL_PER_CHARACTER
    token_rate = constants.TOKENS_PER_SECOND
    limits = LIMITS
    uses_seed = True

    def unavailable(self) -> str | None:
        """Why it cannot run here. A model that was named in the settings is fetched by `load`, the default is not."""
        if missing := missing_libraries():
            return missing
        from workers.engines.maya1 import hub

        chosen = storage.settings.load(Maya1Settings)
        if chosen.maya1_device == "auto" and not Path(chosen.maya1_model).is_dir() and not _has_gpu():
            return "there is no NVIDIA GPU here (VOICEMILL_MAYA1_DEVICE=cpu runs it all the same, at a crawl)"
        if "maya1_model" not in chosen.model_fields_set:
            try:
                hub.model(chosen, fetch=False)
                hub.codec(chosen, fetch=False)
            except hub.CheckpointError:
                return "its model is not on this machine: `voicemill model pull` fetches it (7 GB)"
        return None

    def voice(self, voice: Voice) -> str:
        """The voice's description."""
        return prompt.describe(voice.description)

    def prepare(self, text: str, options: Options) -> str:
        """The text with its tags checked."""
        return prompt.prepare(text, bool(getattr(options, "strip_unknown_tags", False)))

    def load(self) -> "Maya1Engine":
        """The engine as the settings say, warm. Raises EngineUnavailableError, CheckpointError, SettingsError."""
        _need_libraries()
        from workers.engines.maya1 import loading

        return loading.load(storage.settings.load(Maya1Settings))

    def speaker(self) -> "Revoicer":
        """What makes sound of kept codes again, without the model. Raises EngineUnavailableError, CheckpointError."""
        _need_libraries()
        from workers.engines.maya1 import loading

        return loading.load_revoicer(storage.settings.load(Maya1Settings))


def missing_libraries() -> str | None:
    """Which of its libraries are not installed, as a sentence; None if all are."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed: pip install 'voicemill[maya1]'" if missing else None


def _need_libraries() -> None:
    if missing := missing_libraries():
        raise EngineUnavailableError(engine="maya1", reason=missing)


def _has_gpu() -> bool:
    try:
        return bool(gpus.chosen("all"))
    except gpus.NoGpuError:
        return False


SPEC = Maya1Spec()
