"""Requests to a metadata server, each with one deadline over the whole of it.

`http.client` on its own limits the wait for each read, so that a server which sends a byte now and then holds it for ever.
And unlike `urllib` it knows nothing of proxies, which must never see these requests: the addresses are link-local.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from storage import errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BODY_LIMIT = 65_536  # bytes: the longest true answer is a few thousand


class LinkError(errors.VoicemillError):
    """{url}: {reason}."""


class EndpointError(errors.InputError):
    """The metadata endpoint {endpoint!r} cannot be used: it must look like http://169.254.169.254."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole. `headers` are found in any case of their letters."""

    url: str
    status: int
    headers: http.client.HTTPMessage
    body: str

    def fault(self, reason: str) -> LinkError:
        """That this is not the answer it should be."""
        return LinkError(url=self.url, reason=reason)

    def expect(self, *statuses: int) -> "Answer":
        """Itself, if its status is one of these. Raises LinkError."""
        if self.status not in statuses:
            raise self.fault(f"answered {self.status}")
        return self

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object, whatever its content type claims. Raises LinkError."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise self.fault(f"answered what is no JSON: {self.body[:40]!r}") from error
        if not isinstance(found, dict):
            raise self.fault(f"answered no JSON object: {self.body[:40]!r}")
        return found


class Link:
    """Requests to one server, from any thread, each on a connection of its own. `close` ends those under way."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        try:
            parts = urlsplit(self.endpoint)
            self._host, self._port = parts.hostname or "", parts.port or http.client.HTTP_PORT
        except ValueError as error:
            raise EndpointError(endpoint=endpoint) from error
        if parts.scheme != "http" or not self._host or parts.query or parts.fragment:
            raise EndpointError(endpoint=endpoint)
        self._path = parts.path
        self._lock = threading.Lock()
        self._live: set[_Socket] = set()
        self._closed = False

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        body: str | None = None,
    ) -> Answer:
        """One request. Redirects are not followed. Raises LinkError, after `timeout` seconds at the latest.

        A host name in the endpoint adds the time that it takes to look up.
        """
        url = f"{self.endpoint}{path}"
        try:
            with _Socket(self._address(), timeout) as connection:
                self._enter(connection)
                try:
                    return self._exchange(connection, method, path, headers, body, url)
                finally:
                    self._leave(connection)
        except TimeoutError as error:
            raise LinkError(url=url, reason=f"no answer within {timeout:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LinkError(url=url, reason=str(error) or type(error).__name__) from error

    def close(self) -> None:
        """End the requests under way, with an error, and refuse new ones. Safe to call twice, from any thread."""
        with self._lock:
            self._closed = True
            for connection in self._live:
                with suppress(OSError):  # not connected yet, or no longer
                    connection.shutdown(socket.SHUT_RDWR)

    def _address(self) -> "_Address":
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return found[0][0], found[0][4]

    def _enter(self, connection: "_Socket") -> None:
        with self._lock:
            if self._closed:
                raise ConnectionAbortedError("closed")
            self._live.add(connection)

    def _leave(self, connection: "_Socket") -> None:
        with self._lock:
            self._live.discard(connection)

    def _exchange(
        self,
        connection: "_Socket",
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: str | None,
        url: str,
    ) -> Answer:
        connection.open()
        client = http.client.HTTPConnection(self._host, self._port)
        client.sock = connection
        client.request(method, self._path + path, body, {**headers, "Connection": "close"})
        with client.getresponse() as response:
            content = response.read(BODY_LIMIT + 1)
            if len(content) > BODY_LIMIT:
                raise ValueError(f"more than {BODY_LIMIT} bytes")
            if response.length:
                raise http.client.IncompleteRead(content, response.length)
            return Answer(url, response.status, response.headers, content.decode("utf-8", "replace"))


_Address = tuple[int, Any]  # family, and where in it


class _Socket(socket.socket):
    """A TCP socket whose connecting, writes and reads share one deadline."""

    def __init__(self, address: _Address, seconds: float) -> None:
        super().__init__(address[0], socket.SOCK_STREAM)
        self._to = address[1]
        self._deadline = time.monotonic() + seconds

    def open(self) -> None:
        self._limit()
        self.connect(self._to)
        self._limit()

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> int:
        self._limit()
        return super().recv_into(buffer, nbytes, flags)

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
