"""A broker, a database or a store that goes away and comes back, whatever is going on meanwhile."""

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import psycopg
import pytest
import redis
import sqlalchemy as sa

from storage.models import Corpus, Event, Job, Segment
from tests import corpus_maker, databases, fleet, receivers, servers, slow_engine
from tests.faults import proxy

pytestmark = [pytest.mark.timeout(240), pytest.mark.server]

BROKERS = {"redis": servers.Redis, "rabbitmq": partial(servers.RabbitMQ, management=True)}
MakeFleet = Callable[..., fleet.Fleet]


@pytest.fixture(scope="module", params=list(BROKERS))
def _broker(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    with BROKERS[request.param]() as server:
        yield server


@pytest.fixture
def broker(_broker: servers.Server) -> servers.Server:
    """A broker that is ours to do with as we like, with nothing in it."""
    if not _broker.runs:
        _broker.start()
    if isinstance(_broker, servers.RabbitMQ):
        for queue in json.loads(manage(_broker, "queues")):
            manage(_broker, f"queues/%2F/{quote(queue['name'], safe='')}", "DELETE")
    else:
        with redis.Redis.from_url(_broker.url) as client:
            client.flushall()
    return _broker


def accept(mill: fleet.Fleet, texts: list[str], name: str = "corpus") -> None:
    corpus_maker.accepted(mill.database, texts, name=name, spec=slow_engine.SPEC)


def numbered(count: int, word: str = "Sentence") -> list[str]:
    return [f"{word} number {number}." for number in range(count)]


def corpus_file(mill: fleet.Fleet, name: str) -> str:
    path = mill.folder / f"{name}.jsonl"
    path.write_text("".join(f'{{"id": "{name}-{n}", "text": "Number {n} of {name}."}}\n' for n in range(3)))
    return str(path)


def test_the_broker_may_stop_and_start_in_the_middle(make_fleet: MakeFleet, broker: servers.Server) -> None:
    mill = make_fleet(broker.url)
    accept(mill, [*numbered(10), "HOLD this one.", *numbered(10, "Later")])
    scheduler = mill.start("scheduler")
    worker = mill.worker()
    mill.until(lambda: mill.holders() and mill.segments("corpus", "done") == 10)
    broker.stop()

    submit = ["submit", "--engine", "slow", "--format", "wav"]
    begun = time.monotonic()
    done = mill.run(*submit, corpus_file(mill, "meanwhile"), "--name", "meanwhile")
    assert "the corpus is accepted, and work begins when it is back" in done.stderr
    mill.run(*submit, corpus_file(mill, "unwanted"), "--name", "unwanted")
    mill.run("cancel", "unwanted")
    assert time.monotonic() - begun < 30
    assert (mill.state("meanwhile"), mill.state("unwanted")) == ("running", "cancelled")
    assert mill.json("status", "corpus")["segments"]["done"] == 10
    refused = mill.run("worker", "--engine", "slow", code=2).stderr
    assert refused.startswith("Error: The broker ")
    assert refused.count("\n") == 1

    mill.open_gate()  # what is in hand is finished without a broker
    mill.until(lambda: mill.segments("corpus", "done") == 21)
    broker.start()
    mill.until_ended("corpus", "meanwhile")
    assert set(mill.rendered().values()) == {1}

    broker.kill()
    begun = time.monotonic()
    # 1: Celery was just then acknowledging something
    assert {scheduler.terminate(), worker.terminate()} <= {0, 1}, mill.told()
    assert time.monotonic() - begun < 30


def test_two_copies_of_a_message_meet_after_a_cut_and_come_to_one_result_and_one_event(
    make_fleet: MakeFleet, broker: servers.Server
) -> None:
    mill = make_fleet(broker.url, settings={"VOICEMILL_WEBHOOK_ALLOW_PRIVATE": "true"})
    mill.start("scheduler")
    worker = mill.worker()
    with receivers.Receiver() as receiver:
        mill.run("webhooks", "add", receiver.url)
        accept(mill, ["HOLD this one."])
        mill.until(mill.holders)
        cut(mill, broker)
        message = mill.until(lambda: came_twice(worker))
        mill.until(lambda: f"Task render[{message}] succeeded" in worker.log())
        assert re.search(rf"Task render\[{message}\] succeeded in \S+: 'nothing to do: another ", worker.log())
        assert mill.segments("corpus", "done") == 0, "while the first copy was at it"
        mill.open_gate()
        mill.until_ended("corpus")
        assert list(mill.rendered().values()) == [1]
        assert [(batch.outcome, batch.lease_number) for batch in mill.batches()] == [("done", 1)]

        mill.close_gate()
        accept(mill, ["HOLD another one."], name="next")  # whoever reconnected hears of it
        mill.until(mill.holders)
        mill.open_gate()
        mill.until_ended("next")
        receiver.wait_for(4)
    assert list(mill.rendered().values()) == [1, 1]
    with mill.database.read() as connection:
        events = Counter(connection.scalars(sa.select(Event.c.type)))
        results = list(
            connection.execute(
                sa.select(Job.c.segments_done, Job.c.audio_key, Segment.c.take_key).join(Segment)
            )
        )
    assert events == {"job.completed": 2, "corpus.completed": 2}
    assert len(receiver.ids) == len(set(receiver.ids)) == 4
    assert [result.segments_done for result in results] == [1, 1]
    assert worker.process.poll() is None
    mill.close()


def came_twice(worker: fleet.Process) -> str | None:
    """The message of a batch that was handed to a worker a second time."""
    received = Counter(re.findall(r"Task render\[(\S+)\] received", worker.log()))
    return next((message for message, count in received.items() if count > 1), None)


def cut(mill: fleet.Fleet, broker: servers.Server) -> None:
    """Close every connection to a broker, from its side."""
    if isinstance(broker, servers.Redis):
        with redis.Redis.from_url(broker.url) as client:
            assert client.client_kill_filter(_type="normal", skipme=True) > 0
        return
    assert isinstance(broker, servers.RabbitMQ)
    for name in mill.until(lambda: connections(broker)):
        with suppress(urllib.error.HTTPError):  # it has gone by itself
            manage(broker, f"connections/{quote(name, safe='')}", "DELETE")


def connections(broker: servers.RabbitMQ) -> list[str]:
    """The names of all connections to RabbitMQ; none before it tells of that by which batches are handed out."""
    names = [found["name"] for found in json.loads(manage(broker, "connections"))]
    readers = [
        found for found in json.loads(manage(broker, "consumers")) if found["queue"]["name"] == "render.slow"
    ]
    known = [found["channel_details"]["connection_name"] for found in readers if found["channel_details"]]
    return names if known and set(known) <= set(names) else []


def manage(broker: servers.RabbitMQ, path: str, method: str = "GET") -> bytes:
    """One request to RabbitMQ's management API, as guest."""
    request = urllib.request.Request(
        f"{broker.management_url}/api/{path}",
        method=method,
        headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def test_what_is_rolled_back_is_not_rung_for_and_what_is_committed_is_not_lost(
    make_fleet: MakeFleet, broker: servers.Server, postgres_url: str
) -> None:
    mill = make_fleet(broker.url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE refusals AS SELECT 1")
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF EXISTS (SELECT FROM refusals) THEN RAISE 'refused by the test'; END IF; RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse AFTER INSERT ON batches FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        accept(mill, numbered(3))
        scheduler = mill.start("scheduler", settings={"VOICEMILL_SWEEP_SECONDS": "600"})  # it would wait, too
        mill.until(lambda: "refused by the test" in scheduler.log())
        assert mill.depth("render.slow") == 0
        assert mill.segments("corpus", "pending") == 3

        # The next one is held in its transaction, then between its commit and its message, and there it is killed.
        with connection.transaction():
            connection.execute("LOCK TABLE batches IN SHARE MODE")
            connection.execute("DELETE FROM refusals")
            mill.until(lambda: is_held(postgres_url))
            broker.freeze()
    mill.until(lambda: [batch.published_at for batch in mill.batches()] == [None])
    scheduler.signal(signal.SIGKILL)
    mill.until(lambda: not mill.left_behind())
    broker.thaw()
    assert [batch.published_at for batch in mill.batches()] == [None]
    mill.start("scheduler")
    mill.worker()
    mill.until_ended("corpus")
    assert set(mill.rendered().values()) == {1}
    assert len(mill.batches()) == 1


def is_held(postgres_url: str) -> bool:
    """Whether somebody waits for a lock to insert a batch. In a transaction of its own, which sees what is new."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO batches%'"
    )
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        return connection.execute(waiting).fetchone() is not None


def test_the_database_may_stop_and_start_in_the_middle(make_fleet: MakeFleet, redis_url: str) -> None:
    with servers.Postgres() as postgres:
        databases.migrate(postgres.url)
        mill = make_fleet(redis_url, database_url=postgres.url, settings={"VOICEMILL_LEASE_SECONDS": "5"})
        accept(mill, [*numbered(5), "HOLD this one.", *numbered(5, "Later")])
        mill.start("scheduler")
        worker = mill.worker()
        mill.until(lambda: mill.holders() and mill.segments("corpus", "done") == 5)
        watching = mill.start("watch", "corpus")
        mill.until(lambda: "segments" in watching.log())
        postgres.stop()
        mill.until(lambda: "Still watching" in watching.log())
        submit = ["submit", "--engine", "slow", corpus_file(mill, "later"), "--name", "later"]
        for command in (submit, ["cancel", "corpus"], ["watch", "corpus"], ["status"]):
            told = mill.run(*command, code=2).stderr
            assert told.startswith("Error: The database "), told
            assert told.count("\n") == 1
        mill.open_gate()
        mill.until(lambda: worker.log().count("batch 1 waits") > 8)  # seconds: longer than its lease of five
        postgres.start()
        mill.until_ended("corpus")
        assert watching.wait() == 0
        assert "The database is back" in watching.log()
        assert mill.run(*submit).returncode == 0
        mill.until_ended("later")
        assert set(mill.rendered().values()) == {1}
        mill.close()


def test_the_store_may_be_away(make_fleet: MakeFleet, redis_url: str, s3_url: str) -> None:
    endpoint = next(part for part in s3_url.split("?")[1].split("&") if part.startswith("endpoint_url"))
    port = int(endpoint.rpartition("%3A")[2])
    with proxy.Proxy(f"http://127.0.0.1:{port}") as front:
        mill = make_fleet(redis_url, store_url=s3_url.replace(str(port), str(front.server_address[1])))
        mill.start("scheduler")
        worker = mill.worker()
        front.fail(proxy.Fault.RESET_BEFORE, share=1.0)
        submit = [
            "submit",
            "--engine",
            "slow",
            "--format",
            "wav",
            corpus_file(mill, "later"),
            "--name",
            "later",
        ]
        told = mill.run(*submit, code=2).stderr
        assert told.startswith("Error: The object store ")
        assert told.count("\n") == 1
        assert mill.scalar(sa.select(sa.func.count()).select_from(Corpus)) == 0

        accept(mill, numbered(5))
        mill.until(lambda: "batch 1 waits: The object store" in worker.log())
        mill.run("cancel", "corpus")
        mill.run("retry", "corpus")
        front.heal()
        mill.run(*submit)
        mill.until_ended("corpus", "later")
