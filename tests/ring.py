"""The servers of one test run: each started when a test first asks for it, shared by all of xdist's workers.

They belong to the process that the run began with, since workers come and go; workers ask it over a socket.
"""

import os
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Protocol

from tests import servers

SHARED = {
    "postgres": servers.Postgres,
    "redis": servers.Redis,
    "rabbitmq": lambda: servers.RabbitMQ(management=True),
    "s3": servers.S3,
}

Address = tuple[str, int]
Addresses = dict[str, str]


class Ring(Protocol):
    """Whence a test has its servers."""

    def get(self, name: str) -> Addresses:
        """A running server's addresses by name. Raises ServerMissingError."""
        ...


class OwnRing:
    """The servers themselves, in the process that owns them."""

    def __init__(self) -> None:
        self._running: dict[str, servers.Server] = {}
        self._failed: dict[str, Exception] = {}
        self._starting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.key = os.urandom(16)
        self._listener = Listener(("127.0.0.1", 0), authkey=self.key)
        self.address: Address = self._listener.address
        threading.Thread(target=self._listen, daemon=True).start()

    def get(self, name: str) -> Addresses:
        """A running server's addresses, started if it is the first time. Raises ServerMissingError."""
        with self._starting[name]:
            if name in self._failed:  # once is enough to wait for what does not start
                raise self._failed[name]
            if name not in self._running:
                try:
                    self._running[name] = SHARED[name]().__enter__()
                except Exception as error:
                    self._failed[name] = error
                    raise
            return self._running[name].addresses

    def close(self) -> None:
        """End every server."""
        self._listener.close()
        with ThreadPoolExecutor(len(SHARED)) as pool:
            list(pool.map(servers.Server.close, self._running.values()))

    def _listen(self) -> None:
        with suppress(OSError):  # closed at the end of the run
            while True:
                threading.Thread(target=self._answer, args=[self._listener.accept()], daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection:
            try:
                connection.send(self.get(connection.recv()))
            except Exception as error:
                connection.send(error)


class FarRing:
    """The same, asked for by a worker of pytest-xdist."""

    def __init__(self, address: Address, key: bytes) -> None:
        self._address, self._key = address, key
        self._known: dict[str, Addresses] = {}

    def get(self, name: str) -> Addresses:
        """A running server's addresses. Raises ServerMissingError."""
        if name not in self._known:
            with Client(self._address, authkey=self._key) as connection:
                connection.send(name)
                answer = connection.recv()
            if isinstance(answer, Exception):
                raise answer
            self._known[name] = answer
        return self._known[name]
