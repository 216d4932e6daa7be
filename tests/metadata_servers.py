"""The metadata servers of Amazon, Google and Azure on loopback: their protocols, and every way they can go wrong."""

import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PATIENCE = 30.0  # seconds that a test waits for what must come
Answer = tuple[int, dict[str, str], str]
TEXT, JSON, HTML = "text/plain", "application/json", "text/html"


class Heard:
    """What was said, in order. Give it as a callback, and wait for as many calls as must come."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self._change = threading.Condition()

    def __call__(self, what: Any) -> None:
        with self._change:
            self.said.append(what)
            self._change.notify_all()

    def wait(self, count: int = 1) -> list[Any]:
        """The first so many, when they have come."""
        with self._change:
            assert self._change.wait_for(lambda: len(self.said) >= count, PATIENCE), self.said
            return self.said[:count]


@dataclass
class Seen:
    """A request as the server got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: str
    status: int = 0  # of the answer, once there is one


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "MetadataServer"

    def answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        seen = Seen(self.command, parts.path, query, self.headers, body)
        self.server.requests(seen)
        fault = self.server.fault
        if fault is not None:
            self.close_connection = True
            fault(self)
        else:
            seen.status, headers, text = self.server.answer(seen)
            self.say(seen.status, headers, text)

    def say(self, status: int, headers: dict[str, str], text: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


class MetadataServer(ThreadingHTTPServer):
    """A server that answers as its cloud does, or as its `fault` has it."""

    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests = Heard()
        self.fault: Callable[[Handler], None] | None = None
        self.healed = threading.Event()
        self.content_type: str | None = None  # instead of the true one
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        TCPServer.server_bind(self)

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what these tests are about."""

    def answer(self, seen: Seen) -> Answer:
        raise NotImplementedError

    def preempt(self) -> None:
        """Announce the end of the machine."""
        raise NotImplementedError

    def calm(self) -> None:
        """Be the server of a new machine, whose end nobody knows of."""
        raise NotImplementedError

    def text(self, text: str, kind: str = TEXT, status: int = 200, **headers: str) -> Answer:
        return status, {"Content-Type": self.content_type or kind, **headers}, text

    def document(self, found: object) -> Answer:
        return self.text(json.dumps(found), JSON)

    def break_with(self, fault: Callable[[Handler], None]) -> None:
        self.healed.clear()
        self.fault = fault

    def heal(self) -> None:
        self.fault = None
        self.healed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.healed.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class AwsServer(MetadataServer):
    """IMDS with version 2 required: tokens or 401. `action` and `rebalance` are 404 until they are set."""

    def __init__(self, port: int = 0) -> None:
        self.tokens: dict[str, float] = {}  # and when each ends
        self.clock: Callable[[], float] = time.monotonic
        self.action: dict[str, str] | None = None
        self.rebalance: dict[str, str] | None = None
        super().__init__(port)

    def answer(self, seen: Seen) -> Answer:
        if seen.path == "/latest/api/token":
            return self._give_token(seen)
        ends = self.tokens.get(seen.headers.get("X-aws-ec2-metadata-token", ""))
        if ends is None or self.clock() >= ends:
            return self.text("Unauthorized", status=401)
        if seen.path == "/latest/meta-data/instance-id":
            return self.text("i-0123456789abcdef0")
        found = {
            "/latest/meta-data/spot/instance-action": self.action,
            "/latest/meta-data/events/recommendations/rebalance": self.rebalance,
        }.get(seen.path)
        return self.text("<h1>Not Found</h1>", HTML, 404) if found is None else self.document(found)

    def preempt(self) -> None:
        self.action = {"action": "terminate", "time": "2099-01-01T00:00:00Z"}

    def calm(self) -> None:
        self.action = None

    def _give_token(self, seen: Seen) -> Answer:
        if seen.method != "PUT":
            return self.text("Method Not Allowed", status=405)
        if "X-Forwarded-For" in seen.headers:
            return self.text("Forbidden", status=403)
        seconds = seen.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not seconds.isdecimal() or not 1 <= int(seconds) <= 21_600:
            return self.text("Bad Request", status=400)
        token = f"{uuid.uuid4().hex}=="
        self.tokens[token] = self.clock() + int(seconds)
        return self.text(token, **{"X-aws-ec2-metadata-token-ttl-seconds": seconds})


class GoogleServer(MetadataServer):
    """The key `instance/preempted`, with its wait for a change."""

    def __init__(self, port: int = 0) -> None:
        self._change = threading.Condition()
        self._etag, self._value, self._closing = 1, "FALSE", False
        super().__init__(port)

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in seen.headers:
            return self.text("Missing Metadata-Flavor:Google header.", HTML, 403)
        flavor = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
        if seen.path != "/computeMetadata/v1/instance/preempted":
            return self.text("Not Found", HTML, 404, **flavor)
        with self._change:
            if seen.query.get("wait_for_change") == "true":
                last = seen.query.get("last_etag", f"{self._etag:016x}")
                self._change.wait_for(
                    lambda: self._closing or f"{self._etag:016x}" != last, float(seen.query["timeout_sec"])
                )
            return self.text(self._value, "application/text", ETag=f"{self._etag:016x}", **flavor)

    def preempt(self) -> None:
        self._set("TRUE")

    def calm(self) -> None:
        self._set("FALSE")

    def _set(self, value: str) -> None:
        with self._change:
            self._value, self._etag = value, self._etag + 1
            self._change.notify_all()

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        super().__exit__()


class AzureServer(MetadataServer):
    """Instance metadata and Scheduled Events of the machine `vmss_7`."""

    def __init__(self, port: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        super().__init__(port)

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("Metadata") != "true" or "X-Forwarded-For" in seen.headers:
            return self.text('{"error":"Bad request. Required metadata header not specified"}', JSON, 400)
        if "api-version" not in seen.query:
            return self.text('{"error":"Bad request. api-version was not specified"}', JSON, 400)
        if seen.path == "/metadata/instance/compute":
            return self.document({"name": "vmss_7", "vmId": str(uuid.uuid4()), "location": "westeurope"})
        if seen.path != "/metadata/scheduledevents":
            return self.text('{"error":"Not found"}', JSON, 404)
        if seen.method == "POST":
            return self._start(json.loads(seen.body)["StartRequests"])
        return self.document({"DocumentIncarnation": 1, "Events": self.events})

    def add(
        self, name: str, kind: str, *machines: str, not_before: str = "Thu, 01 Jan 2099 00:00:00 GMT"
    ) -> None:
        event = {
            "EventId": name,
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": list(machines),
            "EventStatus": "Scheduled",
            "NotBefore": not_before,
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }
        self.events = [*self.events, event]

    def preempt(self) -> None:
        self.add("C7061BAC-AFDC-4513-B24B-AA5F13A16123", "Preempt", "VMSS_7")

    def calm(self) -> None:
        self.events = []

    def _start(self, requests: list[dict[str, str]]) -> Answer:
        known = {event["EventId"]: event for event in self.events}
        if any(request["EventId"] not in known for request in requests):
            return self.text('{"error":"unknown event"}', JSON, 400)
        for request in requests:
            known[request["EventId"]] |= {"EventStatus": "Started", "NotBefore": ""}
        return self.text("", JSON)


def hangs(handler: Handler) -> None:
    """Says nothing."""
    handler.server.healed.wait()


def dribbles(handler: Handler) -> None:
    """A byte now and then, for ever, and never enough of them."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.healed.wait(0.01):
        handler.wfile.write(b"z")


def resets(handler: Handler) -> None:
    """Drops the connection with a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hangs_up(handler: Handler) -> None:
    """Closes without an answer."""


def half(handler: Handler) -> None:
    """An answer that ends in the middle; what there is of it looks whole."""
    body = b'{"action": "terminate", "time": "2099-01-01T00:00:00Z", "Events": [], "name": "vmss_7"}'
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: 999\r\n\r\n" + body)


def garbage(handler: Handler) -> None:
    """Neither JSON nor anything else."""
    handler.say(200, {"Content-Type": JSON, "Metadata-Flavor": "Google"}, '{"action": \ufffd\x00 TRUEish')


def wrong_json(handler: Handler) -> None:
    """JSON, of another form than it should have."""
    handler.say(200, {"Content-Type": JSON, "Metadata-Flavor": "Google"}, '[{"action": ["x"], "Events": 7}]')


def nested(handler: Handler) -> None:
    """JSON that is too deep to read."""
    handler.say(200, {"Content-Type": JSON, "Metadata-Flavor": "Google"}, "[" * 50_000)


def portal(handler: Handler) -> None:
    """The page of a captive portal, whatever one asks for."""
    handler.say(200, {"Content-Type": HTML}, "<html><body>Please log in, TRUE</body></html>")


def redirects(handler: Handler) -> None:
    """Elsewhere."""
    handler.say(302, {"Location": f"{handler.server.url}/elsewhere"}, "")


def endless(handler: Handler) -> None:
    """More and more."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\n\r\n")
    while not handler.server.healed.is_set():
        handler.wfile.write(b"x" * 10_000)


def not_http(handler: Handler) -> None:
    """Another protocol altogether."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff\x00\xff")


def bad_chunks(handler: Handler) -> None:
    """A chunked answer whose chunks are none."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n")


def status(code: int) -> Callable[[Handler], None]:
    """Nothing but a status."""

    def answer(handler: Handler) -> None:
        handler.say(code, {"Content-Type": TEXT}, "no")

    answer.__name__ = str(code)
    return answer


FAULTS = [
    *(hangs, dribbles, resets, hangs_up, half, garbage, wrong_json, nested),
    *(portal, redirects, endless, not_http, bad_chunks),
    *map(status, (400, 401, 403, 404, 410, 429, 500, 503)),
]


class Trap:
    """A proxy that nobody should use: it counts who comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def visitors(self) -> int:
        """How many have come so far."""
        self._socket.setblocking(False)
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                count += 1
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
