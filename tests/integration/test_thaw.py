"""`voicemill thaw`: out of an archive of an S3 server on which a restore takes as long as the test wants."""

import importlib
import json
import re
import urllib.request
from contextlib import closing
from pathlib import Path

import boto3
import pytest
import sqlalchemy as sa

from cli import main
from scheduler import sweep, thawing
from storage import endpoints, objects, outbox, prices, thaws
from storage.models import Delivery, Event, Job, Thaw
from storage.objects.store import Standing, Warmth
from tests import corpus_maker, receivers, servers
from tests.integration.test_storage_upkeep import work
from workers.webhooks import deliver
from workers.webhooks.settings import WebhookSettings

PRICES = prices.load()
DOC = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")


class Glacier(servers.S3):
    """S3 whose restores end when they are told to."""

    def hold(self, holding):
        """Whether restores stay under way."""
        how = {"progression": "manual", "times": 1_000_000} if holding else {"progression": "immediate"}
        body = json.dumps({"model_name": "s3::keyrestore", "transition": how}).encode()
        request = urllib.request.Request(
            f"{self.url}/moto-api/state-manager/set-transition", body, method="POST"
        )
        urllib.request.urlopen(request).close()


@pytest.fixture(scope="module")
def server():
    with Glacier() as server:
        yield server


@pytest.fixture
def bucket(server, monkeypatch, request):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    name = f"test-{abs(hash(request.node.name)):x}"
    with closing(boto3.client("s3", endpoint_url=server.url, region_name="us-east-1")) as client:
        client.create_bucket(Bucket=name)
    server.hold(True)
    return f"s3://{name}?endpoint_url={server.url}&region=us-east-1"


@pytest.fixture
def database(sqlite):
    return sqlite


@pytest.fixture
def frozen(database, bucket, tmp_path):
    """Two finished jobs whose audio has grown old."""

    def freeze(storage_class="GLACIER"):
        corpus_maker.accepted(database, {"one": "Some text.", "two": "Another text."})
        work(database, objects.open_store(bucket), tmp_path)
        store = objects.open_store(bucket)
        old = objects.open_store(bucket, {"storage_class": storage_class})
        for row in rows(database):
            data = store.get(row.audio_key)
            store.delete([row.audio_key])
            old.put(row.audio_key, data)
        return store

    return freeze


@pytest.fixture
def run(tmp_path, bucket, monkeypatch, capsys):
    monkeypatch.setenv("VOICEMILL_STORE_URL", bucket)
    monkeypatch.setenv("VOICEMILL_WEBHOOK_ALLOW_PRIVATE", "true")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["--home", str(tmp_path), *map(str, arguments)])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def rows(database):
    with database.read() as connection:
        return list(connection.execute(sa.select(Job).order_by(Job.c.id)))


def events(database):
    with database.read() as connection:
        return [json.loads(body) for body in connection.scalars(sa.select(Event.c.body).order_by(Event.c.id))]


def count(database, table):
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table))


def test_a_corpus_is_asked_for_comes_and_is_told_of(database, frozen, server, run, tmp_path):
    store = frozen()
    with receivers.Receiver() as receiver:
        made = database.run(lambda connection: endpoints.add(connection, receiver.url, ["job.thawed"]))
        receiver.secret = made.secret.get_secret_value()
        code, out, err = run("fetch", "-o", tmp_path / "out")
        assert code == 1
        assert "2 jobs lie in an archive (one, two)" in err
        assert "voicemill thaw corpus" in err
        code, out, _ = run("thaw", "corpus", "--tier", "bulk", "--days", "3")
        assert code == 0
        assert "Asked for 2 jobs: 2 objects" in out
        assert "there in about 5 to 12 hours" in out
        assert "corpus: 2 thawing" in out
        code, out, _ = run("thaw", "corpus")  # again: it is on its way, and S3 refuses to be asked twice
        assert "Asked" not in out
        assert "corpus: 2 thawing" in out
        assert thawing.settle(database, store, 0.0) == 0
        assert receiver.requests == []
        server.hold(False)
        code, out, _ = run("thaw", "one")
        assert "one: 1 ready" in out
        assert "UTC" in out
        assert thawing.settle(database, store, 0.0) == 1
        assert thawing.settle(database, store, 0.0) == 0
        deliver.due(database, WebhookSettings(webhook_allow_private=True))
        assert receiver.problems == []
        bodies = [json.loads(request.body) for request in receiver.requests]
    assert [body["type"] for body in bodies] == ["job.thawed"] * 2
    assert {body["data"]["id"] for body in bodies} == {"one", "two"}
    assert all(body["data"]["available_until"].endswith("Z") and body["data"]["sha256"] for body in bodies)
    code, out, err = run("fetch", "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == ["one.wav", "two.wav"]
    code, out, _ = run("thaw", "--json")
    assert {(line["custom_id"], line["state"], line["tier"]) for line in json.loads(out)} == {
        ("one", "ready", "bulk"),
        ("two", "ready", "bulk"),
    }


def test_what_is_fetched_of_a_half_frozen_corpus_is_what_can_be(database, frozen, run, tmp_path):
    store = frozen()
    two = rows(database)[1]
    store.delete([two.audio_key])
    store.put(two.audio_key, b"warm")
    code, out, err = run("fetch", "-o", tmp_path / "out", "--json")
    told = json.loads(out)
    assert (code, told["frozen"], told["files_written"]) == (1, ["one"], 1)
    assert (tmp_path / "out" / "two.wav").read_bytes() == b"warm"
    assert "1 job lies in an archive (one)" in err


def test_asking_that_was_lost_is_made_good_for(database, frozen, server):
    """Killed between the row and S3: the next look asks."""
    store = frozen()
    one, two = rows(database)
    database.run(lambda connection: thaws.ask(connection, [one.id, two.id], "standard", 3))
    assert {job.warmth for job in thawing.look(store, [one, two])} == {Warmth.FROZEN}
    assert thawing.settle(database, store, 0.0) == 0
    assert {job.warmth for job in thawing.look(store, [one, two])} == {Warmth.THAWING}
    assert thawing.settle(database, store, 60.0) == 0  # not so soon again
    server.hold(False)
    assert thawing.settle(database, store, 60.0) == 0
    assert thawing.settle(database, store, 0.0) == 2


def test_a_job_that_is_taken_up_again_needs_no_thaw(database, frozen):
    store = frozen()
    one, two = rows(database)
    database.run(lambda connection: thaws.ask(connection, [one.id, two.id], "standard", 3))
    with database.write() as connection:
        connection.execute(sa.update(Job).where(Job.c.id == one.id).values(state="pending"))
        connection.execute(sa.delete(Job).where(Job.c.id == two.id))
    assert thawing.settle(database, store, 0.0) == 0
    assert count(database, Thaw) == 0


def test_two_who_look_at_once_tell_once(database, frozen, server):
    store = frozen()
    jobs = thawing.look(store, rows(database))
    with receivers.Receiver() as receiver:
        database.run(lambda connection: endpoints.add(connection, receiver.url, []))
        server.hold(False)
        thawing.ask(database, store, jobs, "standard", 3, PRICES)
        jobs = thawing.look(store, rows(database))
        for job in jobs * 2:
            database.run(lambda connection, job=job: thaws.arrive(connection, job.row.id, job.until))
    assert [event["type"] for event in events(database)] == ["job.thawed"] * 2
    assert count(database, Delivery) == 2


def test_what_is_asked_for_costs_what_the_list_says(database, frozen):
    """By hand: 2 objects of Deep, standard: size / 2**30 * 0.02 + 2 / 1000 * 0.10, and 3 days of copies in Standard."""
    store = frozen("DEEP_ARCHIVE")
    jobs = thawing.look(store, rows(database))
    size = sum(row.audio_bytes for row in rows(database))
    asked = thawing.ask(database, store, jobs, "standard", 3, PRICES)
    assert (asked.jobs, asked.objects, asked.bytes, asked.takes_about) == (2, 2, size, "12 hours")
    assert asked.cost == pytest.approx(size / 2**30 * 0.02 + 0.0002 + size / 2**30 * 0.023 * 3 / 30, rel=1e-9)


def test_a_bulk_thaw_is_free_and_its_copies_are_not(database, frozen, run):
    """A gigabyte of Flexible for a month: no retrieval, 0.023 of Standard."""
    store = frozen()
    one = thawing.Job(rows(database)[0], {"audio/aa/a.mp3": Standing(2**30, "GLACIER", Warmth.FROZEN)})
    asked = thawing._asked([one], "bulk", 30, PRICES)
    assert asked.cost == pytest.approx(0.023)
    assert store.list("audio/")
    _, out, _ = run("thaw", "corpus", "--days", "9")
    assert "about 0.00 USD with 9 days of readable copies, at the prices of 2026-03; there in about 3" in out


def test_deep_archive_knows_no_haste_and_says_so(database, frozen, run):
    frozen("DEEP_ARCHIVE")
    code, _, err = run("thaw", "corpus", "--tier", "expedited")
    assert code == 2
    assert "'one' lies in Glacier Deep Archive, which knows no expedited thaw" in err
    assert count(database, Thaw) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nobody"], "neither a corpus nor a job named 'nobody'"),
        (["one", "--corpus", "nobody"], "no corpus named 'nobody'"),
        (["three", "--corpus", "corpus"], "no job 'three'"),
        (["one"], "Say in which with --corpus"),
        (["twins"], "has no finished audio"),
        (["one", "--days", "0"], "0"),
        (["one", "--tier", "fast"], "fast"),
    ],
)
def test_a_slip_is_one_line(database, run, arguments, reason):
    corpus_maker.accepted(database, {"one": "Some text."})
    corpus_maker.accepted(database, {"one": "Some other text."}, name="twins")
    code, out, err = run("thaw", *arguments)
    assert (code, out) == (2, "")
    assert reason in err


def test_nothing_is_frozen_in_a_folder(database, run, folder_url, tmp_path, monkeypatch):
    monkeypatch.setenv("VOICEMILL_STORE_URL", folder_url)
    corpus_maker.accepted(database, {"one": "Some text."})
    work(database, objects.open_store(folder_url), tmp_path)
    code, out, _ = run("thaw", "corpus")
    assert code == 0
    assert "corpus: 1 ready\nAll of it can be fetched." in out
    assert count(database, Thaw) == 0


def test_thaws_are_drawn_as_coded():
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", DOC, re.MULTILINE))
    assert drawn == {(source, target) for source, targets in thaws.STEPS.items() for target in targets}
    assert set(thaws.STEPS) == set(thaws.State)


def test_the_sweep_forgets_events_for_which_nothing_is_left_to_do(database):
    with receivers.Receiver() as receiver:
        database.run(lambda connection: endpoints.add(connection, receiver.url, []))
    for name in ("sent", "waits", "new"):
        with database.write() as connection:
            outbox.write(connection, outbox.EventType.JOB_FAILED, {"id": name}, corpus_id=1)
    with database.write() as connection:
        sent = sa.select(Event.c.id).where(Event.c.body.contains("sent")).scalar_subquery()
        connection.execute(sa.update(Delivery).where(Delivery.c.event_id == sent).values(state="delivered"))
        old = Event.c.created_at - 31 * 86_400
        connection.execute(sa.update(Event).where(~Event.c.body.contains("new")).values(created_at=old))
    sweep.sweep(database, keep_events=32 * 86_400)
    assert len(events(database)) == 3
    sweep.sweep(database)
    assert [event["data"]["id"] for event in events(database)] == ["waits", "new"]


def test_the_clock_looks_after_thaws(database, frozen, server, monkeypatch):
    monkeypatch.setenv("VOICEMILL_BROKER_URL", "redis://127.0.0.1:1/0")  # never connected to
    tick = importlib.import_module("scheduler.tick")
    store = frozen()
    monkeypatch.setattr(tick, "_database", database)
    monkeypatch.setattr(tick, "_store", store)
    monkeypatch.setenv("VOICEMILL_THAW_POLL_SECONDS", "1")
    assert tick.app.conf.beat_schedule["thaws"]["task"] == tick.look_after_thaws.name
    thawing.ask(database, store, thawing.look(store, rows(database)), "standard", 3, PRICES)
    with database.write() as connection:
        connection.execute(sa.update(Thaw).values(looked_at=Thaw.c.looked_at - 2))
    server.hold(False)
    with tick._looking:
        assert tick.look_after_thaws() == "another look is under way"
    assert tick.look_after_thaws() == "2 jobs are thawed"
    assert tick.look_after_thaws() == "nothing has thawed"
