"""Passwords, keys and webhook secrets: every process has them, and nobody who looks sees one."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import sqlalchemy as sa

from storage import signing
from storage.models import Delivery
from tests import fleet, hidden, receivers, servers

pytestmark = pytest.mark.timeout(240)

LISTINGS = (
    *("list", "list corpus", "status corpus", "review corpus", "report corpus", "rejected", "voices", "thaw"),
    *("webhooks list", "webhooks deliveries", "config", "doctor"),
    *("storage gc", "storage verify", "storage lifecycle plan", "storage lifecycle show"),
)
TELL_OF_THE_BROKER = ("config", "doctor")
CLOSED = "127.0.0.1:1"  # nobody listens there


@pytest.fixture
def secrets(broker_url: str, request: pytest.FixtureRequest) -> Iterator[hidden.Secrets]:
    found = hidden.Secrets()
    if broker_url.startswith("redis"):
        yield found
        return
    management = request.getfixturevalue("rabbitmq")["management_url"]
    servers.add_user(management, hidden.USER, found.broker, broker_url.rpartition("/")[2])
    yield found
    servers.remove_user(management, hidden.USER)


@pytest.fixture
def mill(
    make_fleet: Callable[..., fleet.Fleet],
    broker_url: str,
    postgres_url: str,
    s3_url: str,
    secrets: hidden.Secrets,
) -> fleet.Fleet:
    """A fleet each of whose processes has every secret."""
    return make_fleet(
        secrets.broker_url(broker_url),
        database_url=secrets.database_url(postgres_url),
        store_url=s3_url,
        settings={**secrets.settings, "VOICEMILL_WEBHOOK_ALLOW_PRIVATE": "true"},
    )


def told_secret(text: str) -> str:
    return next(word.strip('",') for word in text.split() if word.strip('",').startswith(signing.PREFIX))


def test_nobody_who_looks_sees_a_secret(
    mill: fleet.Fleet, secrets: hidden.Secrets, broker_url: str, request: pytest.FixtureRequest
) -> None:
    port, settings = servers.free_port(), {"FLOWER_UNAUTHENTICATED_API": "true"}
    if broker_url.startswith("amqp"):
        api = request.getfixturevalue("rabbitmq")["management_url"]
        settings["FLOWER_BROKER_API"] = f"{api.replace('//', f'//{hidden.USER}:{secrets.broker}@')}/api/"
    running = {
        "flower": mill.start("flower", "--port", str(port), settings=settings),
        "scheduler": mill.start("scheduler", "--log-level", "debug"),
        "worker": mill.worker("--log-level", "debug"),
    }

    def get(path: str) -> str:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return str(answer.read().decode())
        return ""

    mill.until(lambda: get("/healthcheck"))
    with receivers.Receiver() as receiver:
        source = mill.folder / "corpus.jsonl"
        source.write_text('{"id": "good", "text": "Some words."}\n{"id": "bad", "text": "REFUSE to speak."}')
        command = ["submit", str(source), "--engine", "slow", "--format", "wav", "--name", "corpus"]
        secrets.webhooks.append(told_secret(mill.run(*command, "--webhook", receiver.url).stderr))
        receiver.secret = secrets.webhooks[0]
        mill.until_ended("corpus", state="completed_with_errors")
        receiver.wait_for(3)
        secrets.webhooks.append(told_secret(mill.run("webhooks", "rotate", "1").stdout))
        assert receiver.problems == [], "the secret is in use"
    mill.run("webhooks", "test", "1", code=1)  # nobody is there any more
    with mill.connection() as connection:
        connection.Producer().publish({"voicemill": 2}, exchange="", routing_key="submit", serializer="json")
    mill.until(lambda: mill.json("rejected")["total"])
    mill.until(
        lambda: mill.scalar(sa.select(sa.func.count(Delivery.c.id)).where(Delivery.c.status.is_not(None)))
    )
    assert secrets.missing(mill) == {}, "a test of what is not there cannot fail"

    looked = {f"the log of {name}": process.log() for name, process in running.items()}
    mill.until(lambda: len(json.loads(get("/api/workers?refresh=true") or "{}")) == 3)
    workers = json.loads(get("/api/workers"))
    tasks = json.loads(get("/api/tasks"))
    pages = ["/", "/workers", "/tasks", "/broker", "/metrics"]
    pages += ["/api/tasks", "/api/workers", "/api/workers?refresh=true"]
    pages += [f"/worker/{name}" for name in workers] + [f"/task/{number}" for number in tasks]
    looked |= {f"Flower's {page}": get(page) for page in pages}
    listings = LISTINGS if broker_url.startswith("redis") else TELL_OF_THE_BROKER  # the rest once is enough
    for line in ("config", "webhooks list", *(f"{line} --json" for line in listings)):
        done = mill.run(*line.split(), code=None)
        looked[f"voicemill {line}"] = done.stdout + done.stderr
    for name, text in looked.items():
        assert text, f"{name} says nothing"
        assert secrets.shown(text) == [], name


def test_no_traceback_shows_a_secret(mill: fleet.Fleet, secrets: hidden.Secrets, broker_url: str) -> None:
    """Each in turn of what a process needs is away, or its URL is none."""
    scheme = broker_url.partition(":")[0]
    brokers = [
        {"VOICEMILL_BROKER_URL": secrets.broker_url(f"{scheme}://{CLOSED}/0")},
        {"VOICEMILL_BROKER_URL": f"{scheme}://u:a/{secrets.broker}@{CLOSED}/0"},
    ]
    databases = [
        {"VOICEMILL_DATABASE_URL": f"postgresql://postgres:{secrets.database}@{CLOSED}/none"},
        {"VOICEMILL_DATABASE_URL": f"postgresql://postgres@{CLOSED}/none?password={secrets.database}"},
        {"VOICEMILL_DATABASE_URL": f"postgresql://postgres:a@{secrets.database}@{CLOSED}/none"},
        {"VOICEMILL_DATABASE_URL": f"postgresql://postgres:a@b:{secrets.database}@{CLOSED}/none"},
    ]
    stores = [{"VOICEMILL_STORE_URL": f"s3://none?endpoint_url=http://{CLOSED}&region=none&retries=1"}]
    lines = {"scheduler": brokers}
    if scheme == "redis":  # the rest needs no broker: once is enough
        lines |= {"status corpus": [{}, *databases], "storage verify": stores, "doctor": databases + stores}
    for line, away in lines.items():
        for settings in away:
            done = mill.run("--traceback", *line.split(), settings=settings, code=None)
            assert ("Traceback" in done.stderr) == (line != "doctor"), done.stderr
            assert done.returncode
            assert secrets.shown(done.stdout + done.stderr) == [], (line, settings)
