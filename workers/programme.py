"""A job's programme: its takes and pauses one after another, laid out in samples before any sound is read.

Every time in captions, chapters and timing is a count of samples from here, so nothing drifts however long a book is.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from storage import segments
from storage.objects.store import Store
from storage.takes import TakesGoneError
from workers import keep
from workers.audio import captions
from workers.audio.metadata import Chapter

log = logging.getLogger(__name__)

READ_AHEAD = 4  # takes fetched, and brought to their level, while the encoder works


@dataclass(frozen=True, slots=True)
class Strip:
    """A piece of sound: a take from one of its samples on, and the silence after it. No take: only silence."""

    take_key: str | None
    skip: int  # samples of the take that are not heard
    samples: int  # of the take, the skipped ones included
    silence: int  # samples

    @property
    def length(self) -> int:
        """Samples that are heard."""
        return self.samples - self.skip + self.silence


@dataclass(frozen=True, slots=True)
class Programme:
    """What is heard when, in samples."""

    parts: Sequence[segments.Part]
    sample_rate: int
    starts: Sequence[int]  # of each part
    samples: int  # all of it, pauses included
    head: int = 0  # samples of silence before the first part

    @classmethod
    def of(cls, parts: Sequence[segments.Part], head_ms: int = 0, tail_ms: int = 0) -> "Programme":
        """Lay out takes and pauses one after another, with silence before and after all of it."""
        rate = parts[0].sample_rate
        head = at = head_ms * rate // 1000
        starts: list[int] = []
        for part in parts:
            starts.append(at)
            at += part.samples + part.pause_ms * rate // 1000
        return cls(parts, rate, starts, at + tail_ms * rate // 1000, head)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.sample_rate

    def cues(self) -> Iterator[captions.Cue]:
        """What is said when."""
        for part, start in zip(self.parts, self.starts, strict=True):
            yield captions.Cue(start, start + part.samples, part.text)

    def chapters(self) -> list[Chapter]:
        """Where each chapter begins and ends; none where the text has none. Silence before all belongs to the first."""
        begins = [
            (part.chapter, start)
            for part, start in zip(self.parts, self.starts, strict=True)
            if part.chapter is not None
        ]
        if begins and begins[0][1] == self.head:
            begins[0] = (begins[0][0], 0)
        ends = [start for _, start in begins[1:]] + [self.samples] * bool(begins)
        return [Chapter(title, start, end) for (title, start), end in zip(begins, ends, strict=True)]

    def silences(self) -> Iterator[tuple[int, int]]:
        """Where nothing is heard between two parts: first sample, and the first that is heard again."""
        for at in range(len(self.parts) - 1):
            yield self.starts[at] + self.parts[at].samples, self.starts[at + 1]

    def strips(self, start: int = 0, end: int | None = None) -> list[Strip]:
        """The sound from one sample to another; `end` must not lie inside a take, `start` may."""
        end = self.samples if end is None else end
        found: list[Strip] = []
        at = start
        first = max(0, bisect_right(self.starts, start) - 1)
        if start < self.starts[0]:
            found.append(Strip(None, 0, 0, min(self.starts[0], end) - start))
            at = min(self.starts[0], end)
        for number in range(first, len(self.parts)):
            if at >= end:
                break
            part, begin = self.parts[number], self.starts[number]
            until = self.starts[number + 1] if number + 1 < len(self.parts) else self.samples
            until = min(until, end)
            over = begin + part.samples
            if at >= over:  # in the silence after it
                found.append(Strip(None, 0, 0, until - at))
            else:
                assert until >= over, "no stretch ends inside a take"
                found.append(Strip(part.take_key, at - begin, part.samples, until - over))
            at = until
        return found


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads sound from the store, a few takes ahead, each as `treat` makes it."""

    store: Store
    treat: Callable[[bytes], bytes] = field(default=lambda pcm: pcm)

    def stream(self, strips: Sequence[Strip]) -> Iterator[bytes]:
        """Mono PCM16 of one strip after another. Raises TakesGoneError, which names every take that is missing."""
        with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="takes") as readers:
            ahead: list[Future[bytes | None]] = []
            for at, strip in enumerate(strips):
                while len(ahead) < READ_AHEAD and at + len(ahead) < len(strips):
                    ahead.append(readers.submit(self._take, strips[at + len(ahead)]))
                pcm = ahead.pop(0).result()
                if pcm is None:
                    raise TakesGoneError(self._gone(strips[at:]))
                yield pcm
                if strip.silence:
                    yield bytes(2 * strip.silence)

    def _take(self, strip: Strip) -> bytes | None:
        pcm = self._stored(strip)
        return None if pcm is None else self.treat(pcm)[2 * strip.skip :]

    def _stored(self, strip: Strip) -> bytes | None:
        """A take's PCM, None where it is gone or is not what the database says."""
        if strip.take_key is None:
            return b""
        pcm = keep.sound(self.store, strip.take_key)
        if pcm is None:
            return None
        if len(pcm) != 2 * strip.samples:  # another rendering than the one that was recorded: this one will be
            log.warning("the take %s has %d samples, not %d", strip.take_key, len(pcm) // 2, strip.samples)
            return None
        return pcm

    def _gone(self, strips: Sequence[Strip]) -> list[str]:
        missing = {strip.take_key for strip in strips if self._stored(strip) is None}
        return sorted(key for key in missing if key is not None)
