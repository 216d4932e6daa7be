"""The queue `submit`: work from programs that reach only the broker (docs/producers.md)."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from storage import keys, rejections
from storage.models import Corpus, Job, Segment
from storage.objects import open_store
from tests import fleet
from workers import producer
from workers.exit_codes import WorkerExit

pytestmark = pytest.mark.timeout(180)

LONG = "A sentence of a very long text. " * 10_000  # 320 KB


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, fleet.ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jobs_of(mill: fleet.Fleet, corpus: str) -> dict[str, str]:
    with mill.database.read() as connection:
        query = sa.select(Job.c.custom_id, Job.c.state).join(Corpus).where(Corpus.c.name == corpus)
        return {row.custom_id: row.state for row in connection.execute(query)}


def message(corpus: str, **more: Any) -> dict[str, Any]:
    jobs = [{"id": "one", "text": "Some words."}]
    return {
        "voicemill": 1,
        "corpus": corpus,
        "engine": "slow",
        "options": {"format": "wav"},
        "jobs": jobs,
        **more,
    }


def test_everything_a_producer_may_send(
    mill: fleet.Fleet, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEMILL_BROKER_URL", broker_url)
    monkeypatch.setenv("VOICEMILL_STORE_URL", mill.store_url)

    # With the helper, before any scheduler was ever started: it declares the queue. Everything is sent twice.
    long = {"id": "long", "text": LONG, "title": "Long"}
    jobs = [long, *({"id": f"short-{n}", "text": f"Number {n}."} for n in range(1200))]
    for _ in range(2):
        assert producer.send("helped", jobs, engine="slow", options={"format": "wav"}) == 2
    content = json.dumps({"text": LONG}, ensure_ascii=False).encode()
    assert open_store(mill.store_url).get(keys.text(content)) == content

    # Without it, by the contract alone.
    scheduler = mill.start("scheduler")
    alone = example("producer_redis" if broker_url.startswith("redis") else "producer_amqp")
    mill.until(lambda: mill.state("helped"))
    bare = [
        alone.MESSAGE,
        alone.MESSAGE,
        message("grown", more=True),
        message("grown", jobs=[{"id": "two", "text": "More words.", "seed": 7, "priority": "high"}]),
        message("grown", more=True),  # the first one again, late: it does not open the corpus for ever
    ]
    bad = {
        "not-known": (message("not-known", voicemill=2), "version 2 of the contract is not known"),
        "no-jobs": (message("no-jobs", jobs=[]), "jobs: "),
        "typo": (message("typo", job="x"), "job: Extra inputs are not permitted"),
        "engine": (message("engine", engine="slw"), "did you mean 'slow'?"),
        "voice": (message("voice", jobs=[{"id": "a", "text": "A.", "format": "tape"}]), "tape"),
        "priority": (message("priority", options={"priority": "urgent"}), "urgent"),
        "gone": (message("gone", jobs=[{"id": "a", "text_key": "texts/no.json"}]), "there is no such object"),
        "escape": (message("escape", jobs=[{"id": "a", "text_key": "texts/../takes/x"}]), "texts/../takes/x"),
        "mute": (message("mute", jobs=[{"id": "a", "text": " "}]), "nothing in its text that can be spoken"),
        "clash": (message("helped", jobs=[{"id": "short-1", "text": "Other."}]), "with another text"),
    }
    for sent in (*bare, *(sent for sent, _ in bad.values())):
        alone.send(broker_url, sent)
    undecodable(mill)
    mill.until(lambda: mill.json("rejected")["total"] >= len(bad) + 1)
    mill.until(lambda: len(jobs_of(mill, "grown")) == 2)

    rejected = mill.json("rejected")
    assert (rejected["total"], rejected["kept"]) == (len(bad) + 1, len(bad) + 1)
    reasons = {line["corpus"]: line["reason"] for line in rejected["messages"]}
    for name, (sent, reason) in bad.items():
        assert reason in reasons[sent["corpus"]], name
    assert "it is not JSON" in reasons[None]
    assert (
        json.loads(next(line["body"] for line in rejected["messages"] if line["corpus"] == "typo"))["job"]
        == "x"
    )
    assert "Traceback" not in scheduler.log()

    assert len(jobs_of(mill, "helped")) == 1201
    assert mill.segments("bulletin") == 1
    with mill.database.read() as connection:
        words = connection.scalars(sa.select(Segment.c.text).join(Job).where(Job.c.custom_id == "long"))
        assert sum(map(len, words)) > 0.9 * len(LONG)
    mill.run("cancel", "helped")
    mill.worker()
    mill.until_ended("grown")
    assert jobs_of(mill, "grown") == {"one": "completed", "two": "completed"}


def undecodable(mill: fleet.Fleet) -> None:
    """A message that says it is JSON and is not."""
    with mill.connection() as connection:
        connection.Producer().publish(
            b"{broken",
            exchange="",
            routing_key="submit",
            content_type="application/json",
            content_encoding="utf-8",
        )


def test_what_no_database_takes_is_rejected_once_and_the_next_message_is_taken(
    make_fleet: Callable[..., fleet.Fleet], rabbitmq_url: str
) -> None:
    mill = make_fleet(rabbitmq_url)
    deep: Any = "words"
    for _ in range(900):
        deep = [deep]
    bad = {
        "surrogate": (message("surrogate", jobs=[{"id": "a\ud800", "text": "A."}]), "lone surrogate"),
        "title": (message("title", jobs=[{"id": "a", "text": "A.", "title": "b\udfff"}]), "job 'a': "),
        "half": (message("ha\ud800lf"), "corpus: the id has a lone surrogate"),
        "naught": (message("nau\x00ght"), "cannot be in a file name"),
        "mark": (message("mark", **{"o\x00\udc00": 1}), "Input should be a valid string"),
        "level": (message("level", options={"preset": "acx", "loudness": float("nan")}), "does not take it"),
        "deep": (message("deep", extra=deep), "Extra inputs are not permitted"),
    }
    scheduler = mill.start("scheduler")
    mill.until(lambda: "ready." in scheduler.log())
    alone = example("producer_amqp")
    for sent in (*(sent for sent, _ in bad.values()), message("good")):
        alone.send(rabbitmq_url, sent)
    mill.until(lambda: jobs_of(mill, "good"))
    rejected = mill.json("rejected")
    reasons = {line["corpus"]: line["reason"] for line in rejected["messages"]}
    for name, (_, reason) in bad.items():
        assert reason in reasons[name], name
    assert rejected["total"] == len(bad)
    assert "Traceback" not in scheduler.log()
    assert scheduler.terminate() == 0
    assert mill.depth("submit") == 0, "one of them came back"


def test_of_many_rejected_messages_the_last_are_kept_and_all_are_counted(
    mill: fleet.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejections, "KEPT", 2)
    assert "No message was rejected." in mill.run("rejected").stdout
    for number in range(5):
        with mill.database.write() as connection:
            rejections.keep(connection, corpus=None, reason=f"reason {number}", body="")
    told = mill.json("rejected")
    assert (told["total"], told["kept"]) == (5, 2)
    assert [line["reason"] for line in told["messages"]] == ["reason 4", "reason 3"]
    assert "5 messages were rejected; the last 2 are kept" in mill.run("rejected").stdout


WRONG = {  # a setting, a file's content where it names one, and what is said
    "LEXICON": ("lexicon.toml", "nuada = 1", "The lexicon {path} is wrong at line 1: "),
    "VOICES": ("voices.toml", "[x", "The voices file {path} is wrong: "),
    "VOICE": (
        "narator",
        None,
        "The setting voice is wrong (VOICEMILL_VOICE): There is no voice named 'narator'",
    ),
    "FORMAT": ("tape", None, "The setting format is wrong (VOICEMILL_FORMAT): "),
    "ENGINE": ("slw", None, "The setting engine is wrong (VOICEMILL_ENGINE): There is no engine 'slw'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_scheduler_whose_own_settings_are_wrong_takes_no_message(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str, name: str
) -> None:
    mill = make_fleet(redis_url)
    value, content, told = WRONG[name]
    if content is not None:
        path = mill.folder / value
        path.write_text(content)
        value, told = str(path), told.format(path=path)
    mine = {f"VOICEMILL_{name}": value}
    example("producer_redis").send(redis_url, message("waits"))
    error = mill.run("scheduler", settings=mine, code=WorkerExit.BAD_INPUT).stderr
    assert error.startswith(f"Error: {told}")
    assert error.count("\n") == 1
    line = [sys.executable, "-m", "celery", "-A", "scheduler.tick", "worker", "-P", "threads", "-Q", "plan"]
    plain = subprocess.run(line, env=mill.environment | mine, cwd=mill.folder, capture_output=True, text=True)
    assert plain.returncode == WorkerExit.BAD_INPUT
    assert told in plain.stderr
    assert "Traceback" not in plain.stderr
    assert mill.depth("submit") == 1


def test_messages_wait_while_a_file_of_the_scheduler_is_wrong(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    mill = make_fleet(redis_url)
    lexicon = mill.folder / "lexicon.toml"
    lexicon.write_text('nuada = "noo-ah-da"')
    scheduler = mill.start("scheduler", settings={"VOICEMILL_LEXICON": str(lexicon)})
    mill.until(lambda: "ready." in scheduler.log())
    lexicon.write_text("nuada = 1")
    alone = example("producer_redis")
    for number in range(3):
        jobs = [{"id": f"job-{number}", "text": "Nuada spoke."}]
        alone.send(redis_url, message("waits", jobs=jobs, more=number < 2))
    mill.until(lambda: "submissions wait: Nothing that producers send can be accepted: " in scheduler.log())
    lexicon.write_text('nuada = "noo-ah-da"')
    mill.until(lambda: len(jobs_of(mill, "waits")) == 3)
    with mill.database.read() as connection:
        assert set(connection.scalars(sa.select(Segment.c.text))) == {"Noo-ah-da spoke."}
    assert mill.json("rejected")["total"] == 0


def test_a_message_for_an_engine_that_is_broken_here_waits(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    mill = make_fleet(redis_url)
    information = mill.folder / "packages" / "broken_engine-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-engine\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[voicemill.engines]\nbroken = tests.nowhere:SPEC\n")
    example("producer_redis").send(redis_url, message("waits", engine="broken"))
    scheduler = mill.start("scheduler")
    mill.until(lambda: "be accepted: The engine broken (broken-engine) cannot be used: " in scheduler.log())
    assert scheduler.terminate() == 0
    assert mill.depth("submit") == 1
    assert mill.json("rejected")["total"] == 0


def test_a_corpus_that_was_cancelled_when_nothing_was_left_of_it_takes_jobs_again(
    make_fleet: Callable[..., fleet.Fleet], redis_url: str
) -> None:
    mill = make_fleet(redis_url)
    alone = example("producer_redis")
    mill.start("scheduler")
    mill.worker()
    alone.send(redis_url, message("grown", more=True))
    mill.until(lambda: jobs_of(mill, "grown") == {"one": "completed"})
    assert mill.state("grown") == "running", "its producer announced more"
    assert mill.json("cancel", "grown")["cancelled"]
    alone.send(redis_url, message("grown", jobs=[{"id": "two", "text": "More words."}]))
    mill.until(lambda: mill.json("rejected")["total"] == 1)

    told = mill.run("retry", "grown", "--job", "one").stdout
    assert told == "grown: nothing of it failed, was cancelled or needs a listen\n"
    assert mill.state("grown") == "cancelled", "one of its jobs was asked for, which needs nothing"
    told = mill.run("retry", "grown").stdout
    assert told == "grown: it is no longer cancelled, and all that it has so far is done\n"
    assert mill.state("grown") == "running"
    alone.send(redis_url, message("grown", jobs=[{"id": "two", "text": "More words."}]))
    mill.until_ended("grown")
    assert jobs_of(mill, "grown") == {"one": "completed", "two": "completed"}


def test_two_schedulers_take_the_same_corpus_in_at_once(mill: fleet.Fleet, broker_url: str) -> None:
    schedulers = [mill.start("scheduler") for _ in range(2)]
    alone = example("producer_redis" if broker_url.startswith("redis") else "producer_amqp")
    mill.until(lambda: all("ready." in scheduler.log() for scheduler in schedulers))
    for number in range(20):
        jobs = [{"id": f"job-{number}-{n}", "text": f"Words {number} {n}."} for n in range(5)]
        for _ in range(2):
            alone.send(broker_url, message("shared", jobs=jobs, more=number < 19))
    mill.until(lambda: len(jobs_of(mill, "shared")) == 100)
    mill.worker()
    mill.until_ended("shared")
    assert mill.json("rejected")["total"] == 0
    assert set(mill.rendered().values()) == {1}


def test_the_example_with_the_helper_runs(mill: fleet.Fleet) -> None:
    done = subprocess.run(
        [sys.executable, fleet.ROOT / "examples" / "producer.py"],
        env=mill.environment,
        cwd=mill.folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "sent 2 jobs in 1 message(s)\n", done.stderr
    assert mill.depth("submit") == 1
