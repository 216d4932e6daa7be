"""Takes on their way into the store, and back from what is left of them: what is recorded is what lies there.

Two workers may render the same take, and on a GPU not to the same bit. The first one's codes are the take; then its sound
is. Whoever comes second takes over what lies there.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from storage import errors, keys, takes
from storage.objects.store import Store, Together
from workers.audio import edit, wav
from workers.engines import codes
from workers.engines.engine import EngineSpec, Take

log = logging.getLogger(__name__)

AT_ONCE = 64  # takes whose codes are held in memory together

Speak = Callable[[Sequence[Take]], list[Take] | None]
"""Takes whose sound is to be made of their codes again; None where that cannot be done here."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in the store for a take, or will once it is flushed."""

    pcm: bytes  # mono PCM16
    tokens: int


class Codec:
    """The engine's codec, loaded when kept codes first have to become sound. Safe to use from several threads."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._lock = Lock()
        self._speaker: codes.Speaker | None = None

    def speak(self, kept: Sequence[Take]) -> list[Take] | None:
        """See `Speak`. Whatever goes wrong is logged: the takes are rendered afresh."""
        if not isinstance(self._spec, codes.Speaking) or any(take.recipe is None for take in kept):
            return None
        try:
            with self._lock:
                self._speaker = self._speaker or self._spec.speaker()
                sounds = self._speaker.speak(
                    [take.codes or b"" for take in kept], [take.recipe or {} for take in kept]
                )
        except Exception as error:  # no model here, another codec, no memory
            log.warning("%d takes cannot be made of their codes: %s", len(kept), error)
            return None
        return [replace(take, pcm=pcm) for take, pcm in zip(kept, sounds, strict=True)]


def put(store: Store, shelf: Together, take: Take, speak: Speak) -> Stored:
    """Tidy a take and put it on the shelf, unless there is one already, which is then the take. Raises a StoreError."""
    take = _agreed(store, shelf, take, speak)
    pcm = edit.tidy(take.pcm, take.sample_rate)
    if not _put_sound(shelf, take, pcm):
        there = sound(store, take.key)
        if there is None:  # it was damaged, and is gone
            _put_sound(shelf, take, pcm)
        else:
            pcm = there
    return Stored(pcm, take.tokens)


def recovered(store: Store, gone: Sequence[takes.Gone], speak: Speak) -> Iterator[Take]:
    """Those of these takes that need not be rendered again: their sound is there after all, or their codes are."""
    for start in range(0, len(gone), AT_ONCE):
        kept = []
        for one in gone[start : start + AT_ONCE]:
            take = Take(one.take_key, b"", one.sample_rate, one.tokens, recipe=one.recipe)
            if (there := sound(store, one.take_key)) is not None:
                yield replace(take, pcm=there, codes=_codes(store, one.take_key) if one.has_codes else None)
            elif one.has_codes and (known := _codes(store, one.take_key)) is not None:
                kept.append(replace(take, codes=known))
        yield from (speak(kept) if kept else None) or []


def sound(store: Store, take_key: str) -> bytes | None:
    """A take's PCM, None where it is not in the store. One that is damaged is deleted. Raises a StoreError."""
    try:
        return wav.unwrap(store.get(keys.take(take_key)))
    except errors.ObjectMissingError:
        return None
    except wav.BadTakeError as error:
        log.warning("the take %s is damaged: %s", take_key, error)
        store.delete([keys.take(take_key)])
        return None


def _agreed(store: Store, shelf: Together, take: Take, speak: Speak) -> Take:
    """The take whose codes are in the store: this one, or one that another worker began with the same words."""
    if take.codes is None or _put_codes(shelf, take):
        return take
    there = _codes(store, take.key)
    if there == take.codes:
        return take
    if there is not None:
        other = replace(take, codes=there, tokens=len(there) // 2)
        if (pcm := sound(store, take.key)) is not None:
            return replace(other, pcm=pcm)
        if made := speak([other]):
            return made[0]
    store.delete([keys.codes(take.key)])
    _put_codes(shelf, take)
    return take


def _put_sound(shelf: Together, take: Take, pcm: bytes) -> bool:
    return shelf.put(keys.take(take.key), wav.wrap(pcm, take.sample_rate), content_type="audio/wav")


def _put_codes(shelf: Together, take: Take) -> bool:
    assert take.codes is not None
    return shelf.put(keys.codes(take.key), wav.npy(take.codes), content_type="application/octet-stream")


def _codes(store: Store, take_key: str) -> bytes | None:
    """A take's codes, None where they are not in the store or damaged."""
    try:
        return wav.unnpy(store.get(keys.codes(take_key)))
    except errors.ObjectMissingError:
        return None
    except wav.BadTakeError as error:
        log.warning("the codes of the take %s are damaged: %s", take_key, error)
        return None
