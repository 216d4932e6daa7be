"""One attempt: a POST over a connection of its own, to the very address that was checked.

There are no redirects, no proxies and no connections kept; the answer may take so long, be so big, and no more.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, cast

from storage import errors
from workers.webhooks import addresses, targets
from workers.webhooks.settings import WebhookSettings

READ_BYTES = 16_384  # of a response's body; the rest is not waited for
HEAD_BYTES = 65_536  # of everything before it
KEEP_CHARACTERS = 1024  # of a response's body, for people
AGENT = "Voicemill-Webhooks/1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt."""

    status: int | None = None  # None where there was no response
    error: str | None = None  # why there was none
    retry_after: float | None = None  # seconds that the endpoint asks for
    body: str | None = None  # the beginning of the response's

    @property
    def accepted(self) -> bool:
        """Whether the endpoint took the event: 2xx, and nothing else."""
        return self.status is not None and 200 <= self.status <= 299


class Sender:
    """Sends as the settings say. Safe to share between threads."""

    def __init__(self, settings: WebhookSettings, lookup: addresses.Lookup = addresses.lookup) -> None:
        self._settings = settings
        self._lookup = lookup
        self._policy = addresses.Policy(settings.webhook_allow_private, settings.webhook_allow_networks)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body to a URL. What goes wrong on the way is an answer, too, and not an exception."""
        deadline = time.monotonic() + self._settings.webhook_total_seconds
        try:
            target = targets.parse(url)
            with self._connected(target, deadline) as connection:
                _write(connection, _request(target, headers, body), deadline)
                return _read(connection, deadline)
        except TimeoutError:
            return Answer(error=f"no answer within {self._settings.webhook_total_seconds:g} s")
        except ssl.SSLCertVerificationError as error:
            return Answer(error=f"its certificate is not good: {error.verify_message}")
        except http.client.RemoteDisconnected:
            return Answer(error="it closed the connection without an answer")
        except http.client.HTTPException as error:
            return Answer(error=f"its answer is not HTTP: {type(error).__name__}")
        except errors.VoicemillError as error:
            return Answer(error=str(error))
        except OSError as error:
            return Answer(error=error.strerror or type(error).__name__)

    def _connected(self, target: targets.Target, deadline: float) -> socket.socket:
        """A connection to the first address that answers, of those that were looked up once and checked."""
        seconds = self._settings.webhook_connect_seconds
        found = addresses.within(min(seconds, _left(deadline)), self._lookup, target.host, target.port)
        plain = _connect(self._policy.check(target.host, found), min(seconds, _left(deadline)))
        if target.scheme == "http":
            return plain
        with plain:  # until the other takes it over
            plain.settimeout(_left(deadline))
            return self._tls.wrap_socket(plain, server_hostname=target.host)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._settings.webhook_ca_file is not None:
            context.load_verify_locations(cafile=self._settings.webhook_ca_file)
        return context


class ConnectTimeoutError(errors.VoicemillError):
    """It cannot be reached within {seconds:g} s."""


def _connect(places: list[addresses.Place], seconds: float) -> socket.socket:
    """Connect to one after the other, each with its share of the time."""
    deadline = time.monotonic() + seconds
    failure: Exception = ConnectTimeoutError(seconds=seconds)
    for number, (family, place) in enumerate(places):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(deadline - time.monotonic(), 0.001) / (len(places) - number))
            connection.connect(place)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except TimeoutError:
            connection.close()
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _request(target: targets.Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {target.path} HTTP/1.1", f"Host: {target.authority}", f"User-Agent: {AGENT}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _write(connection: socket.socket, request: bytes, deadline: float) -> None:
    view = memoryview(request)
    while view:
        connection.settimeout(_left(deadline))
        view = view[connection.send(view) :]


def _read(connection: socket.socket, deadline: float) -> Answer:
    source = io.BufferedReader(_Incoming(connection, deadline))
    response = http.client.HTTPResponse(cast(socket.socket, _File(source)), method="POST")
    try:
        response.begin()
        retry_after = _seconds(response.headers.get("Retry-After"))
    except (OSError, http.client.HTTPException):
        raise
    except Exception as error:  # the peer chose every byte that the parsers have stumbled over
        return Answer(error=f"its answer cannot be read: {type(error).__name__}")
    try:
        body = response.read(READ_BYTES)
    except Exception:  # a chunk of -5 bytes is a ValueError
        body = b""  # the status has been said; the rest is only for people
    return Answer(status=response.status, retry_after=retry_after, body=_shown(body))


class _Incoming(io.RawIOBase):
    """What a connection receives, until the deadline, and up to a size."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._room = HEAD_BYTES + READ_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._room <= 0:
            raise http.client.HTTPException("too long")
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(buffer)
        self._room -= count
        return count


@dataclass(frozen=True, slots=True)
class _File:
    """The one thing of a socket that HTTPResponse asks for."""

    source: io.BufferedIOBase

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        return self.source


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _seconds(retry_after: str | None) -> float | None:
    """What a `Retry-After` asks for, which is a number of seconds or a date."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _shown(body: bytes) -> str:
    """The beginning of a response as text that any terminal and any database takes."""
    text = body[: 4 * KEEP_CHARACTERS].decode("utf-8", "replace")[:KEEP_CHARACTERS]
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
