"""What hears: sound in, words out. Behind it is whatever library and model the settings name."""

import importlib.util
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from storage import errors, settings
from workers.audio import wav
from workers.quality.settings import ListenSettings

log = logging.getLogger(__name__)

Hear = Callable[[bytes, int, str | None], str | None]
"""Mono PCM16, its sample rate in Hz and its language (BCP 47, None if nobody said); what is said in it, None for a
language that it does not know. Safe to call from several threads."""

SPHINX_RATE = 16000  # Hz


class RecogniserUnavailableError(errors.InputError):
    """The speech recogniser {name} cannot be used: {reason}. Set VOICEMILL_ASR=off to do without."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Who listens, and to how much."""

    hear: Hear | None
    share: float


def listening() -> Listening:
    """As the settings say. Raises RecogniserUnavailableError."""
    chosen = settings.load(ListenSettings)
    hear = load(chosen)
    return Listening(hear and patient(hear), chosen.asr_share)


def load(chosen: ListenSettings) -> Hear | None:
    """The recogniser that the settings name, None where it is off. Raises RecogniserUnavailableError."""
    if chosen.asr == "off":
        return None
    loaders: dict[str, tuple[str, str, Callable[[ListenSettings], Hear]]] = {
        "whisper": ("faster_whisper", "pip install 'voicemill[asr]'", _whisper),
        "pocketsphinx": ("pocketsphinx", "pip install pocketsphinx", _pocketsphinx),
    }
    library, remedy, loader = loaders[chosen.asr]
    if importlib.util.find_spec(library) is None:
        raise RecogniserUnavailableError(name=chosen.asr, reason=f"{library} is not installed ({remedy})")
    try:
        return loader(chosen)
    except Exception as error:  # a model that is not there, a device that is not: whatever the library raises
        raise RecogniserUnavailableError(
            name=chosen.asr, reason=f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
        ) from error


def patient(hear: Hear) -> Hear:
    """The same, but what it raises is a line in the log and no verdict: a batch does not end for it."""

    def heard(pcm: bytes, sample_rate: int, language: str | None) -> str | None:
        try:
            return hear(pcm, sample_rate, language)
        except Exception as error:
            log.warning(
                "the recogniser failed on a take, which passes unheard: %s: %s", type(error).__name__, error
            )
            return None

    return heard


def _whisper(chosen: ListenSettings) -> Hear:
    """Whisper by way of CTranslate2, greedy and without a memory of what came before: it should hear, not guess."""
    import faster_whisper

    model: Any = faster_whisper.WhisperModel(chosen.asr_model, device=chosen.asr_device)
    lock = Lock()

    def hear(pcm: bytes, sample_rate: int, language: str | None) -> str | None:
        spoken = None if language is None else language.partition("-")[0].lower()
        if spoken is not None and spoken not in model.supported_languages:
            return None
        with lock:
            found, _ = model.transcribe(
                io.BytesIO(wav.wrap(pcm, sample_rate)),
                language=spoken,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                without_timestamps=True,
            )
            return " ".join(segment.text.strip() for segment in found)

    return hear


def _pocketsphinx(_: ListenSettings) -> Hear:
    """PocketSphinx with the model in its wheel: English, 39 MB, no network, and about half of the words right."""
    import pocketsphinx

    decoder = pocketsphinx.Decoder(samprate=SPHINX_RATE, loglevel="FATAL")
    lock = Lock()

    def hear(pcm: bytes, sample_rate: int, language: str | None) -> str | None:
        if language is not None and language.partition("-")[0].lower() != "en":
            return None
        with lock:
            decoder.start_utt()
            decoder.process_raw(_resampled(pcm, sample_rate), no_search=False, full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
            return found.hypstr if found is not None else ""

    return hear


def _resampled(pcm: bytes, sample_rate: int) -> bytes:
    """The sound at 16 kHz, by straight lines between samples: good enough for features up to 6.8 kHz."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    at = np.arange(0, len(samples), sample_rate / SPHINX_RATE)
    return bytes(np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes())
