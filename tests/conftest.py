"""What every test may ask for: a clean environment, and databases, brokers and stores of its own.

Servers are started when a test first needs one (`tests/ring.py`). Where one is not installed its tests are
skipped, or fail if VOICEMILL_TEST_REQUIRE_SERVERS=1, as `make test` has it.
"""

import gc
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import hypothesis
import pytest

from storage import objects
from tests import databases, ring, servers

SERVER_FIXTURES = {"empty_postgres_url", "postgres_url", "redis_url", "rabbitmq", "s3_url"}
RING = pytest.StashKey[ring.Ring]()
REGION: Final = "eu-central-1"
# How quickly examples are made says something of the machine, nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

REQUIRED = os.environ.get("VOICEMILL_TEST_REQUIRE_SERVERS") == "1"

Server = Callable[[str], ring.Addresses]


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # what is imported now stays: there is no garbage among it
    told = getattr(config, "workerinput", None)
    config.stash[RING] = ring.FarRing(told["ring"], told["ring_key"]) if told else ring.OwnRing()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    own = node.config.stash[RING]
    node.workerinput |= {"ring": own.address, "ring_key": own.key}


def pytest_unconfigure(config: pytest.Config) -> None:
    own = config.stash[RING]
    if isinstance(own, ring.OwnRing):
        own.close()
    gc.unfreeze()  # extensions in C++ look for what was left behind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of whoever runs the tests reaches them, nor the other way round."""
    for name in os.environ:
        if name.startswith(("VOICEMILL_", "AWS_", "XDG_", "CELERY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VOICEMILL_SPOT", "off")  # no test asks 169.254.169.254
    home = tmp_path_factory.mktemp("home", numbered=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """Addresses of a shared server by name."""

    def get(name: str) -> ring.Addresses:
        try:
            return request.config.stash[RING].get(name)
        except servers.ServerMissingError as error:
            if REQUIRED:
                raise
            pytest.skip(str(error))

    return get


@pytest.fixture
def empty_postgres_url(server: Server) -> Iterator[str]:
    """A Postgres database without tables."""
    with databases.fresh(server("postgres")["url"], "template1") as url:
        yield url


@pytest.fixture
def postgres_url(server: Server) -> Iterator[str]:
    """A Postgres database with the tables of this version: a copy of a template that is made once a run."""
    url = server("postgres")["url"]
    with databases.fresh(url, databases.template(url)) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    databases.migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """A SQLite database with the tables of this version."""
    path = shutil.copy(_sqlite_template, tmp_path / "voicemill.db")
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database with the tables of this version, once of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def redis_url(server: Server) -> str:
    """A Redis database with nothing in it."""
    import redis

    url = server("redis")["url"]
    with closing(redis.Redis.from_url(url)) as client:
        number = client.incr("tests")  # in database 0, which no test gets
    return url.removesuffix("/0") + f"/{number}"


@pytest.fixture
def rabbitmq(server: Server) -> Iterator[ring.Addresses]:
    """A vhost of RabbitMQ with nothing in it: `url`, and the `management_url` of its server."""
    addresses, name = server("rabbitmq"), uuid.uuid4().hex
    servers.add_vhost(addresses["management_url"], name)
    yield addresses | {"url": addresses["url"].removesuffix("//") + f"/{name}"}
    servers.remove_vhost(addresses["management_url"], name)


@pytest.fixture
def rabbitmq_url(rabbitmq: ring.Addresses) -> str:
    """A vhost of RabbitMQ with nothing in it."""
    return rabbitmq["url"]


@pytest.fixture
def s3_url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, with credentials in the environment."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    options, bucket = {"endpoint_url": server("s3")["url"], "region": REGION}, f"test-{uuid.uuid4().hex}"
    with closing(boto3.client("s3", endpoint_url=options["endpoint_url"], region_name=REGION)) as client:
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return f"s3://{bucket}?{urlencode(options)}"


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    """A folder that is not there yet."""
    return (tmp_path / "store").as_uri()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.server)])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty object store, once of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def store(store_url: str) -> objects.Store:
    """An empty object store, once of each kind."""
    return objects.open_store(store_url)
