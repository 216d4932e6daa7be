"""A corpus through the queue: the same to the byte as in one process, in the right order, and fairly."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.models import Corpus
from storage.objects import open_store
from tests import corpus_maker, fleet, slow_engine

pytestmark = pytest.mark.timeout(240)

EXAMPLES = fleet.ROOT / "examples"
OPTIONS = ["--engine", "espeak", "--captions", "vtt,json", "--name", "evening"]
SOURCES = [str(EXAMPLES / "lines.jsonl"), str(EXAMPLES / "the-lamplighter.md")]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, bytes]:
    """What one process makes of the corpus."""
    out = tmp_path / "embedded"
    subprocess.run(
        [fleet.VOICEMILL, "render", *SOURCES, *OPTIONS, "-o", out, "--quiet"], check=True, cwd=tmp_path
    )
    return contents(out)


@pytest.mark.parametrize("broker_kind, store_kind", [("redis", "folder"), ("rabbitmq", "s3")])
def test_two_workers_make_what_one_process_makes(
    make_fleet: Callable[..., fleet.Fleet],
    request: pytest.FixtureRequest,
    embedded: dict[str, bytes],
    broker_kind: str,
    store_kind: str,
) -> None:
    broker_url = request.getfixturevalue(f"{broker_kind}_url")
    store_url = request.getfixturevalue(f"{store_kind}_url")
    mill = make_fleet(broker_url, store_url=store_url)
    told = mill.run("submit", *SOURCES, *OPTIONS)  # before any scheduler or worker was ever there
    assert told.stderr == ""
    mill.start("scheduler")
    mill.start("worker", "--engine", "espeak")
    mill.start("worker", "--engine", "espeak", "--no-assemble")
    mill.run("watch", "evening")
    mill.run("fetch", "evening", "-o", str(mill.folder / "out"))
    assert contents(mill.folder / "out") == embedded
    assert len(embedded) > 20

    mill.until(lambda: len(mill.members()) == 2)
    tries = [from_submit_to_audio(mill, number) for number in range(3)]
    for accepted, audio in tries:
        print(
            f"from submit to audio in the store: {audio:.2f} s, {accepted:.2f} s of them until it was accepted"
        )
    assert min(audio - accepted for accepted, audio in tries) < AIM, "something waits for a clock"
    assert min(audio for _, audio in tries) < AIM or is_busy()


AIM = 3.0  # seconds, on an idle system; other programs are on this machine, so the best of several tries counts


def is_busy() -> bool:
    """Whether there is so much else to do here that the start of a command, which is most of it, says nothing."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def from_submit_to_audio(mill: fleet.Fleet, number: int) -> tuple[float, float]:
    """Seconds from the start of a command that submits a short job until it is accepted, and until its audio is there."""
    store, name = open_store(mill.store_url), f"short-{number}"
    before = {entry.key for entry in store.list("audio/")}
    line = mill.folder / f"{name}.jsonl"
    line.write_text(json.dumps({"id": name, "text": f"Line {number} of a few, on an idle system."}))
    command = ["submit", str(line), "--engine", "espeak", "--format", "wav", "--name", name]
    wall, begun = time.time(), time.monotonic()
    submit = mill.start(*command)
    while {entry.key for entry in store.list("audio/")} == before:
        assert time.monotonic() < begun + fleet.DEADLINE, mill.told()
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    assert submit.wait() == 0
    mill.until_ended(name)
    accepted = mill.scalar(sa.select(Corpus.c.created_at).where(Corpus.c.name == name))
    return accepted - wall, seconds


def test_the_urgent_goes_first_and_equals_share(mill: fleet.Fleet) -> None:
    def accept(name: str, count: int, priority: str = "normal") -> None:
        texts = [f"Sentence {number} of {name}." for number in range(count)]
        corpus_maker.accepted(mill.database, texts, name=name, priority=priority, spec=slow_engine.SPEC)

    def done(name: str) -> int:
        return mill.segments(name, "done")

    pace = {slow_engine.SECONDS: "0.01", "VOICEMILL_BATCH_SEGMENTS": "20"}
    mill.environment.update(pace)
    accept("bulk", 300)
    mill.start("scheduler")
    mill.worker("--no-assemble")
    mill.until(lambda: done("bulk") > 0)
    accept("low", 20, "low")
    accept("urgent", 100, "high")
    mill.until(lambda: done("urgent") == 100)
    assert 0 < done("bulk") < 300
    assert done("low") == 0
    mill.until(lambda: done("bulk") == 300)

    accept("large", 300)  # a head start, and three times the work
    mill.until(lambda: done("large") > 0)
    ahead = mill.segments("large", "done", "batched")
    accept("small", 100)
    mill.until(lambda: done("small") == 100)
    assert done("large") < ahead + 100 + 5 * 20, "the small one had to wait for the large one"
    mill.until(lambda: done("large") == 300)
