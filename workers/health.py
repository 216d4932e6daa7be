"""How a worker is doing, for the probes of containers: an endpoint `/healthz`, or a file that is touched while all is well.

The worker says what happens; whether that is well is worked out when somebody asks:

    health.beat()                 # the main loop is alive: every few seconds, if it is to be watched at all
    health.progress("batch 42")   # something got done for it; the first time: it has begun
    health.renewed("batch 42")    # its lease
    health.finished("batch 42")
    health.draining()             # on the way out
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from storage import errors

log = logging.getLogger(__name__)

LOOP_SECONDS = 60.0  # a main loop that beat once and then not for so long hangs


class HealthPortError(errors.InputError):
    """The health endpoint cannot listen at {host}:{port}: {reason}. Set VOICEMILL_HEALTH_PORT to a free one."""


class State(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"  # loading its engine, which may take as long as a download
    IDLE = "idle"  # nothing to do
    WORKING = "working"
    DRAINING = "draining"  # on the way out
    STUCK = "stuck"  # it should do something, and has not for too long


@dataclass(frozen=True, slots=True)
class Report:
    """How a worker is doing. Times are in seconds, None where there is nothing to measure."""

    state: State
    healthy: bool
    seconds_since_progress: float | None  # of the batch that waits longest
    batches: tuple[str, ...]  # in hand
    lease_age: float | None  # since the oldest lease in hand was renewed
    loop_age: float | None  # since the main loop was last seen alive
    up: float
    process: int


class Health:
    """What a worker has said of itself. Any thread may call anything."""

    def __init__(
        self,
        stuck_after: float,
        *,
        loop_seconds: float = LOOP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stuck_after`: seconds without progress that are too many, in each batch and in draining."""
        self._stuck_after, self._loop_seconds, self._clock = stuck_after, loop_seconds, clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._state, self._state_since = State.STARTING, self._begun
        self._progress: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._beat: float | None = None

    def beat(self) -> None:
        """The main loop is alive. Once called it must be called again, more often than every `loop_seconds`."""
        with self._lock:
            self._beat = self._clock()

    def ready(self) -> None:
        """The engine is loaded."""
        self._become(State.IDLE)

    def progress(self, what: str) -> None:
        """Something got done for a batch, or it begins."""
        with self._lock:
            self._progress[what] = self._clock()
            self._renewed.setdefault(what, self._clock())

    def renewed(self, what: str) -> None:
        """A batch's lease was renewed."""
        with self._lock:
            if what in self._renewed:
                self._renewed[what] = self._clock()

    def finished(self, what: str) -> None:
        """A batch is no longer in hand."""
        with self._lock:
            self._progress.pop(what, None)
            self._renewed.pop(what, None)

    def draining(self) -> None:
        """The worker is on its way out."""
        self._become(State.DRAINING)

    def report(self) -> Report:
        """How the worker is doing now."""
        with self._lock:
            now = self._clock()
            waited = self._waited(now)
            loop_age = None if self._beat is None else now - self._beat
            stuck = (waited or 0.0) > self._stuck_after or (loop_age or 0.0) > self._loop_seconds
            state = State.WORKING if self._state == State.IDLE and self._progress else self._state
            return Report(
                state=State.STUCK if stuck else state,
                healthy=not stuck,
                seconds_since_progress=waited,
                batches=tuple(self._progress),
                lease_age=now - min(self._renewed.values()) if self._renewed else None,
                loop_age=loop_age,
                up=now - self._begun,
                process=os.getpid(),
            )

    def _become(self, state: State) -> None:
        with self._lock:
            self._state, self._state_since = state, self._clock()

    def _waited(self, now: float) -> float | None:
        """Seconds without progress where some is due."""
        if self._progress:
            return now - max(min(self._progress.values()), self._state_since)
        return now - self._state_since if self._state == State.DRAINING else None


class Endpoint:
    """`GET /healthz`: 200 where all is well, else 503, with the report as JSON. In threads of its own, until `close`."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        """Port 0 takes a free one, see `port`. Raises HealthPortError."""
        try:
            self._server = _Server(health, host, port)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise HealthPortError(host=host, port=port, reason=reason) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    block_on_close = False  # a client that says nothing does not hold us
    allow_reuse_port = False  # two workers at one port is a mistake to be told

    def __init__(self, health: Health, host: str, port: int) -> None:
        self.health = health
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks a name server for our name, which may take long

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a probe that hangs up early is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5  # seconds, for a client to say what it wants
    server_version = "voicemill"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/healthz":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        report = self.server.health.report()
        body = json.dumps(asdict(report)).encode() + b"\n"
        self.send_response(HTTPStatus.OK if report.healthy else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Nothing: probes come every few seconds."""


class Heartbeat:
    """A file whose time of change is never old while all is well; gone after `close`. In a thread of its own.

    A probe: `test $(( $(date +%s) - $(stat -c %Y FILE) )) -lt 30`.
    """

    def __init__(self, health: Health, path: Path, *, every: float = 5.0) -> None:
        self._health, self._path, self._every = health, path, every
        self._closed = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and remove the file. Safe to call twice."""
        self._closed.set()
        self._thread.join()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            if self._health.report().healthy:
                self._touch()
            if self._closed.wait(self._every):
                return

    def _touch(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.warning("cannot touch the heartbeat file %s: %s", self._path, error)
            self._complained = True
