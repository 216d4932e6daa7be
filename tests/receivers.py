"""Receivers of webhooks on the loopback address: one that does well, and many that do not."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from standardwebhooks import Webhook


@dataclass
class Exchange:
    """One request, and the connection on which to answer it."""

    connection: socket.socket
    line: str
    headers: dict[str, str]
    body: bytes
    released: threading.Event  # set when the test is over

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


Behaviour = Callable[[Exchange], None]


def answers(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Behaviour:
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    response = "\r\n".join([*lines, "", ""]).encode() + body

    def answer(exchange: Exchange) -> None:
        exchange.connection.sendall(response)

    return answer


def says(raw: bytes) -> Behaviour:
    """Answer with these bytes and hang up."""
    return lambda exchange: exchange.connection.sendall(raw)


def hangs(exchange: Exchange) -> None:
    """Never answer."""
    exchange.released.wait()


def hangs_up(exchange: Exchange) -> None:
    """Close without an answer."""


def dribbles(prefix: bytes) -> Behaviour:
    """Say this, and then a byte now and then for as long as anybody listens."""

    def dribble(exchange: Exchange) -> None:
        exchange.connection.sendall(prefix)
        while not exchange.released.wait(0.02):
            exchange.connection.sendall(b"x")

    return dribble


def answers_too_late(exchange: Exchange) -> None:
    """Take the event well, and say so when the sender has given up."""
    exchange.connection.settimeout(None)
    exchange.connection.recv(1)  # nothing comes until the other side has closed
    answers(200)(exchange)


@dataclass
class Receiver:
    """Listens until the block ends. Each request's signature is checked before the behaviour of the moment answers it."""

    secret: str | None = None
    behaviour: Behaviour = field(default_factory=lambda: answers(204))
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    requests: list[Exchange] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> "Receiver":
        self._released = threading.Event()
        self.changed = threading.Condition()
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._threads: list[threading.Thread] = []
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/hook?for=tests"

    @property
    def ids(self) -> list[str]:
        """The `webhook-id` of each request, in the order in which they came."""
        return [request.message_id for request in self.requests]

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        """Wait until so many requests have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, seconds), len(self.requests)

    def _accept(self) -> None:
        while not self._released.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the sender went away
            if self.tls is None:
                self._exchange(connection)
            else:
                with self.tls.wrap_socket(connection, server_side=True) as encrypted:
                    self._exchange(encrypted)

    def _exchange(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        source = connection.makefile("rb")
        line = source.readline().decode().strip()
        headers: dict[str, str] = {}
        while header := source.readline().decode().strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = source.read(int(headers["content-length"]))
        exchange = Exchange(connection, line, headers, body, self._released)
        self._verify(exchange)
        with self.changed:
            self.requests.append(exchange)
            self.changed.notify_all()
        self.behaviour(exchange)

    def _verify(self, exchange: Exchange) -> None:
        if self.secret is not None:
            try:
                Webhook(self.secret).verify(exchange.body, exchange.headers)
            except Exception as error:
                self.problems.append(f"{exchange.headers}: {error!r}")
