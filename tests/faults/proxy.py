"""A proxy before an S3 server that fails as S3 and networks do, when told to, and counts the objects that are made.

with proxy.Proxy(s3.url) as front:
    front.fail(proxy.Fault.SLOW_DOWN, share=0.5)
    ...
    front.heal()
    front.created  # how often each key came into being
"""

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

PATIENCE = 120.0  # seconds for the server behind
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-authorization", "expect"}
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Fault(StrEnum):
    """How a request goes wrong."""

    SLOW_DOWN = "503 SlowDown"
    RESET_BEFORE = "reset before the request arrives"
    RESET_AFTER = "done, and reset before the answer arrives"
    HANG = "no answer at all"
    HALF = "half an answer"


class Proxy(ThreadingHTTPServer):
    """Passes everything on to `upstream` (http://host:port), or a share of it to its fault."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, upstream: str, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.created: Counter[str] = Counter()  # objects by key, bucket and all
        self.refused: Counter[str] = Counter()  # writes to a key that was there
        self.failed: Counter[str] = Counter()  # requests by fault
        self._completed: set[str] = set()  # multipart uploads: S3 says yes again where it is asked again
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._share = 0.0
        self.healed = threading.Event()
        self.healed.set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without asking a name server for our name

    def fail(self, fault: Fault, share: float) -> None:
        """Have a share of all requests (0 to 1) go wrong from now on."""
        with self._lock:
            self.healed.clear()
            self._fault, self._share = fault, share

    def heal(self) -> None:
        """Have everything go well again; what hangs is let go."""
        with self._lock:
            self._fault = None
            self.healed.set()

    def fate(self) -> Fault | None:
        """What happens to the next request."""
        with self._lock:
            if self._fault is None or self._random.random() >= self._share:
                return None
            self.failed[self._fault.value] += 1
            return self._fault

    def note(self, method: str, path: str, status: int) -> None:
        """Count what a request has made."""
        parts = urlsplit(path)
        query = parse_qs(parts.query, keep_blank_values=True)
        makes = (method == "PUT" and "partNumber" not in query) or (method == "POST" and "uploadId" in query)
        with self._lock:
            if upload := query.get("uploadId"):
                makes = makes and upload[0] not in self._completed
                self._completed |= {upload[0]} if makes and status == 200 else set()
            if makes and status == 200:
                self.created[unquote(parts.path.strip("/"))] += 1
            elif makes and status == 412:
                self.refused[unquote(parts.path.strip("/"))] += 1

    def shutdown_request(self, request: Any) -> None:
        """Close a connection without a goodbye, so that a reset is one."""
        self.close_request(request)

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what this is about."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.server.fate()
        if fate == Fault.SLOW_DOWN:
            self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
            return
        if fate == Fault.RESET_BEFORE:
            self._reset()
            return
        if fate == Fault.HANG:
            self.server.healed.wait(PATIENCE)
            self.close_connection = True
            return
        status, headers, answer = self._ask(body)
        if fate == Fault.RESET_AFTER:
            self._reset()
            return
        self._answer(status, headers, answer, cut=fate == Fault.HALF)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=PATIENCE)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            answer = response.read()
            self.server.note(self.command, self.path, response.status)
            return response.status, response.getheaders(), answer
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], answer: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        told = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if "content-length" not in told:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[: len(answer) // 2] if cut else answer)
        self.close_connection = self.close_connection or cut

    def _reset(self) -> None:
        """Have the connection end with a reset, not in good order."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
