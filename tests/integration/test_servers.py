"""The tests' own servers: they keep their data over crashes and restarts, and are gone when we are."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import kombu
import psycopg
import pytest
import redis

from tests import ring, servers

DEADLINE = 30.0  # seconds

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def _installed(server: Callable[[str], ring.Addresses]) -> None:
    """Skip where a server is missing, as for all other tests."""
    for name in servers.KINDS:
        server(name)


def test_postgres_keeps_its_data() -> None:
    with servers.Postgres() as postgres:
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        for again in (postgres.restart, lambda: crash(postgres)):
            again()
            with psycopg.connect(postgres.url) as connection:
                assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_redis_keeps_its_data() -> None:
    with servers.Redis() as server, closing(redis.Redis.from_url(server.url)) as client:
        client.set("kept", "7")
        for again in (server.restart, lambda: crash(server)):
            again()
            assert client.get("kept") == b"7"


def test_the_shared_broker_has_a_management_plugin(rabbitmq: ring.Addresses) -> None:
    with kombu.Connection(rabbitmq["url"]) as connection:
        connection.connect()
    with urlopen(rabbitmq["management_url"], timeout=DEADLINE) as answer:
        assert b"RabbitMQ" in answer.read()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users can pass through: Postgres does not run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_they_are_gone_when_their_owner_is_killed(open_folder: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-m", "tests.servers", "redis", "postgres"],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(open_folder)},
    )
    assert owner.stdout
    with owner.stdout as said:
        lines = [next(said), next(said)]
    processes = [int(pid) for path in open_folder.glob("*/processes") for pid in path.read_text().split()]
    assert len(processes) == len(lines) == 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + DEADLINE
    while list(open_folder.iterdir()) or any(map(runs, processes)):
        assert time.monotonic() < deadline, "a server outlives its owner"
        time.sleep(0.05)


def crash(server: servers.Server) -> None:
    server.kill()
    server.start()


def runs(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
