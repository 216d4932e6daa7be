"""Which cloud is this? All are asked at once, each for a short time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from workers.spot.link import LinkError
from workers.spot.source import Source


def first(sources: Sequence[Source], timeout: float) -> Source | None:
    """The first of the sources that knows this machine, None if none does. Takes `timeout` seconds at most."""
    with ThreadPoolExecutor(len(sources), "spot-probe") as pool:
        answers = list(pool.map(lambda source: _probe(source, timeout), sources))
    return next((source for source, answer in zip(sources, answers, strict=True) if answer), None)


def _probe(source: Source, timeout: float) -> bool:
    try:
        return source.probe(timeout)
    except LinkError:
        return False
