"""What every engine must do, run over each that can be loaded here. A new engine adds one entry to ENGINES."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests import tiny_maya1
from workers.engines.engine import Engine, Failure, Partial, Request, Take
from workers.engines.espeak.engine import EspeakEngine


@dataclass(frozen=True)
class Case:
    """One engine under test, and words of its own for what the tests ask of it."""

    load: Callable[[], Engine]
    voices: tuple[str, str]
    bad_voice: str | None = None  # one that it must refuse; None where it takes any
    options: dict[str, Any] = field(default_factory=dict)


ENGINES = [
    pytest.param(Case(lambda: EspeakEngine(2), ("en-us+m3", "en-us+f2"), bad_voice="xx+nobody"), id="espeak"),
    pytest.param(Case(tiny_maya1.load, ("A calm voice.", "An old man, hoarse and slow.")), id="maya1"),
]

TEXTS = (
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "No!",
    "The hallway smelt of boiled cabbage and old rag mats.",
    "Why?",
    "A coloured poster, too large for indoor display, had been tacked to the wall.",
    "Winston made for the stairs.",
)


@pytest.fixture(scope="module", params=ENGINES)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def engine(case: Case) -> Iterator[Engine]:
    engine = case.load()
    yield engine
    engine.close()


def requests(case: Case, count: int = 12, seed: int = 7) -> list[Request]:
    voices = [case.voices[n // len(TEXTS) % 2] for n in range(count)]
    return [Request(f"key{n}", TEXTS[n % len(TEXTS)], voices[n], seed, case.options) for n in range(count)]


def render(engine: Engine, wanted: list[Request]) -> dict[str, Take]:
    takes: dict[str, Take] = {}
    for result in engine.render(wanted, threading.Event()):
        assert isinstance(result, Take), result
        assert result.key not in takes
        takes[result.key] = result
    return takes


@pytest.fixture(scope="module")
def takes(engine: Engine, case: Case) -> dict[str, Take]:
    return render(engine, requests(case))


def test_one_result_a_request(takes: dict[str, Take], case: Case) -> None:
    assert takes.keys() == {request.key for request in requests(case)}


def test_pcm_is_mono_16_bit_at_the_engines_rate(engine: Engine, takes: dict[str, Take]) -> None:
    for take in takes.values():
        assert take.sample_rate == engine.sample_rate
        assert len(take.pcm) % 2 == 0
        assert len(take.pcm) > 0.1 * 2 * engine.sample_rate
    assert engine.identity["name"]


def test_codes_are_frames_of_seven(takes: dict[str, Take]) -> None:
    for take in takes.values():
        assert take.codes is None or len(take.codes) % (7 * 2) == 0
        assert take.tokens >= 0


def test_nothing_to_do(engine: Engine) -> None:
    assert list(engine.render([], threading.Event())) == []


def test_same_request_same_bytes(engine: Engine, case: Case, takes: dict[str, Take]) -> None:
    assert render(engine, requests(case)) == takes


def test_batching_and_order_change_nothing(engine: Engine, case: Case, takes: dict[str, Take]) -> None:
    wanted = requests(case)
    alone = {key: take for request in wanted[::3] for key, take in render(engine, [request]).items()}
    assert alone == {key: takes[key] for key in alone}
    assert render(engine, wanted[::-1]) == takes


def test_another_engine_gives_the_same_bytes(case: Case, takes: dict[str, Take]) -> None:
    other = case.load()
    try:
        assert render(other, requests(case)[4:8]) == {
            request.key: takes[request.key] for request in requests(case)[4:8]
        }
    finally:
        other.close()


def test_several_threads_at_once(engine: Engine, case: Case, takes: dict[str, Take]) -> None:
    found: list[dict[str, Take]] = []
    wanted = requests(case)
    parts = [wanted[:6], wanted[6:], wanted[3:9]]
    threads = [threading.Thread(target=lambda part=part: found.append(render(engine, part))) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for some in found:
        assert some == {key: takes[key] for key in some}


def test_requests_may_be_endless(engine: Engine, case: Case) -> None:
    """Requests are taken as there is room for them, not all at first."""
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield Request(f"endless{taken}", TEXTS[1], case.voices[0], 1, case.options)

    results = engine.render(endless(), threading.Event())
    keys = [next(results).key for _ in range(5)]
    assert len(set(keys)) == 5
    assert taken < 10_000


def test_stop_before_the_start(engine: Engine, case: Case) -> None:
    stop = threading.Event()
    stop.set()
    results = list(engine.render(requests(case), stop))
    assert {result.key for result in results} == {request.key for request in requests(case)}
    assert all(isinstance(result, Partial) and result.state == b"" and result.tokens == 0 for result in results)


def test_stop_on_the_way_and_go_on(engine: Engine, case: Case, takes: dict[str, Take]) -> None:
    """What was stopped goes on from its partial, and ends as if it had never been stopped."""
    stop = threading.Event()
    wanted = {request.key: request for request in requests(case)}

    def stopping() -> Iterator[Request]:
        for number, request in enumerate(wanted.values()):
            if number == 5:
                stop.set()
            yield request

    results = {result.key: result for result in engine.render(stopping(), stop)}
    assert results.keys() == wanted.keys()
    partials = {key: result for key, result in results.items() if isinstance(result, Partial)}
    assert len(partials) >= len(wanted) - 5
    rest = [
        Request(key, wanted[key].text, wanted[key].voice, wanted[key].seed, case.options, partial.state or None)
        for key, partial in partials.items()
    ]
    finished = {key: result for key, result in results.items() if isinstance(result, Take)} | render(
        engine, rest
    )
    assert {key: take.pcm for key, take in finished.items()} == {key: take.pcm for key, take in takes.items()}


def test_a_bad_request_fails_alone(engine: Engine, case: Case, takes: dict[str, Take]) -> None:
    wanted = requests(case)[:4]
    bad = Request("bad", TEXTS[0], case.voices[0], 1, {"no_such_option": 1})
    mixed = [wanted[0], bad, *wanted[1:]]
    if case.bad_voice is not None:
        mixed.insert(3, Request("voiceless", TEXTS[0], case.bad_voice, 1, case.options))
    results = {result.key: result for result in engine.render(mixed, threading.Event())}
    assert results.keys() == {request.key for request in mixed}
    for key, result in results.items():
        if key.startswith("key"):
            assert result == takes[key]
        else:
            assert isinstance(result, Failure)
            assert result.detail


def test_abandoned_results_do_not_block_the_next(engine: Engine, case: Case, takes: dict[str, Take]) -> None:
    results = engine.render(requests(case), threading.Event())
    next(results)
    results.close()  # type: ignore[attr-defined]
    wanted = requests(case)[:2]
    assert render(engine, wanted) == {request.key: takes[request.key] for request in wanted}


def test_close_twice(case: Case) -> None:
    engine = case.load()
    engine.close()
    engine.close()
