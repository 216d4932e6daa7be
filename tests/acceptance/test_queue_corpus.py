"""A corpus through the queue: the same to the byte as in one process, in the right order, and fairly."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.models import Corpus
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
    line = mill.folder / "line.jsonl"
    line.write_text(json.dumps({"id": "one", "text": "One short line on an idle system."}))
    mill.run("submit", str(line), "--engine", "espeak", "--format", "wav", "--name", "one", "--wait")
    with mill.database.read() as connection:
        corpus = connection.execute(sa.select(Corpus.__table__).where(Corpus.name == "one")).one()
    assert corpus.finished_at - corpus.created_at < 6  # under 3 s on an idle machine: nothing waits for a clock


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
