"""What a take's metrics mean for the segments that wait for it: done, to be tried again, or done and to be heard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from storage import segments, takes
from workers.audio import checks
from workers.engines.engine import EngineSpec, Failure, Judged
from workers.engines.limits import Limits
from workers.quality import recogniser, words

WORDS = "words"  # among a take's metrics: what a machine heard

Earlier = Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]
"""The metrics of those of these takes that exist, by take key."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a take."""

    done: Sequence[segments.Done] = ()
    failure: Failure | None = None  # it is to be rendered again with another seed


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds takes against the limits of their engine, and against what a machine hears in them if one listens."""

    spec: EngineSpec
    attempts: int
    hear: recogniser.Hear | None = None
    hear_share: float = 1.0  # of takes that it listens to
    within: Limits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "within", checks.limits(self.spec))

    def measure(self, key: str, pcm: bytes, sample_rate: int, work: segments.Work) -> dict[str, Any]:
        """A take's metrics, as they are stored with it."""
        loops = self.within.loop_seconds < inf
        metrics: dict[str, Any] = checks.measure(pcm, sample_rate, loops=loops).as_dict()
        heard = self._heard(key, pcm, sample_rate, work, metrics)
        if heard is not None:
            metrics[WORDS] = heard.as_dict()
        return metrics

    def judge(
        self,
        key: str,
        metrics: Mapping[str, Any],
        works: Sequence[segments.Work],
        key_of: Callable[[segments.Work, int], str],
        earlier: Earlier,
    ) -> Judgement:
        """Segments that are done with a take, or why it is tried again. `key_of` tells the take key of an attempt."""
        verdict = self._verdict(metrics, works[0].text)
        if verdict is None:
            return Judgement([segments.Done(work.id, key) for work in works])
        uses_seed = not isinstance(self.spec, Judged) or self.spec.uses_seed
        if uses_seed and works[0].attempts + 1 < self.attempts:
            return Judgement(failure=Failure(key, verdict.reason, verdict.detail))
        done = []
        for work in works:
            tried = [key_of(work, attempt) for attempt in range(work.attempts)]
            done.append(self._best(work, key, verdict, earlier(tried) if tried else {}))
        return Judgement(done)

    def _best(
        self,
        work: segments.Work,
        key: str,
        verdict: checks.Verdict,
        earlier: Mapping[str, Mapping[str, Any]],
    ) -> segments.Done:
        """The attempts are used up: the best of them is delivered, and needs a listen."""
        for other, metrics in sorted(earlier.items()):
            found = self._verdict(metrics, work.text)
            if found is None:
                return segments.Done(work.id, other)
            if checks.better(found, verdict):
                key, verdict = other, found
        return segments.Done(work.id, key, verdict.reason.value, verdict.detail)

    def _verdict(self, metrics: Mapping[str, Any], text: str) -> checks.Verdict | None:
        if takes.APPROVED in metrics or not metrics:
            return None
        verdict = checks.judge(checks.Metrics.stored(metrics), text, self.within)
        if verdict is None and WORDS in metrics:
            verdict = words.judge(metrics[WORDS], self.within)
        return verdict

    def _heard(
        self, key: str, pcm: bytes, sample_rate: int, work: segments.Work, metrics: Mapping[str, Any]
    ) -> words.Heard | None:
        """What a machine heard in a take that nothing else speaks against; None where none listens to it."""
        if self.hear is None or self._verdict(metrics, work.text) is not None:
            return None
        if int(key[:8], 16) >= self.hear_share * 2**32:  # the same ones whoever renders them
            return None
        heard = self.hear(pcm, sample_rate, work.options.get("language"))
        return None if heard is None else words.compare(work.text, heard)
