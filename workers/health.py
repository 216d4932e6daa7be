"""How a worker is doing, for the probes of containers: an endpoint `/healthz`, or a file that is touched while all is well.

The worker says what happens; whether that is well is worked out when somebody asks:

    with health.at_work("batch 42"):
        health.progress()     # something got done for it, or it waits for what is away
    health.draining()         # on the way out

And a worker that is stuck ends itself (`Watchdog`): nobody else can tell, since it goes on renewing its leases.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from storage import errors

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # how often a worker looks whether it is stuck


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
    seconds_since_progress: float | None  # of the work that waits longest
    batches: tuple[str, ...]  # and whatever else is in hand
    up: float
    process: int


@dataclass(slots=True)
class _Work:
    """What one thread has in hand."""

    what: str
    patience: float  # seconds without progress that are not too many
    since: float  # its last progress


class Health:
    """What a worker has said of itself. Any thread may call anything.

    What is in hand is known by its thread: the same batch may come in two messages, and every thread that assembles does
    the same to look at. Who is done with its own must not hide the other.
    """

    def __init__(self, stuck_after: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`stuck_after`: seconds without progress that are too many, in each work in hand and in draining."""
        self._stuck_after, self._clock = stuck_after, clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._state, self._state_since = State.STARTING, self._begun
        self._in_hand: dict[int, _Work] = {}  # by thread

    def ready(self) -> None:
        """The engine is loaded."""
        self._become(State.IDLE)

    @contextmanager
    def at_work(self, what: str, patience: float = 1.0) -> Iterator[None]:
        """This thread has something in hand, which may go without progress for `patience` times as long as usual."""
        thread = threading.get_ident()
        with self._lock:
            self._in_hand[thread] = _Work(what, patience * self._stuck_after, self._clock())
        try:
            yield
        finally:
            with self._lock:
                del self._in_hand[thread]

    def progress(self) -> None:
        """Something got done for what this thread has in hand; where that is nothing, for whatever is in hand."""
        with self._lock:
            mine = self._in_hand.get(threading.get_ident())
            for work in self._in_hand.values() if mine is None else [mine]:
                work.since = self._clock()

    def draining(self) -> None:
        """The worker is on its way out."""
        self._become(State.DRAINING)

    def report(self) -> Report:
        """How the worker is doing now."""
        with self._lock:
            now, in_hand = self._clock(), self._in_hand.values()
            waits = [(now - max(work.since, self._state_since), work.patience) for work in in_hand]
            if not waits and self._state == State.DRAINING:
                waits = [(now - self._state_since, self._stuck_after)]
            stuck = any(waited > patience for waited, patience in waits)
            state = State.WORKING if self._state == State.IDLE and in_hand else self._state
            return Report(
                state=State.STUCK if stuck else state,
                healthy=not stuck,
                seconds_since_progress=max((waited for waited, _ in waits), default=None),
                batches=tuple(work.what for work in in_hand),
                up=now - self._begun,
                process=os.getpid(),
            )

    def _become(self, state: State) -> None:
        with self._lock:
            self._state, self._state_since = state, self._clock()


class Watchdog:
    """Calls `bite` once, in a thread of its own, should the worker be stuck before `stop` is set.

    After that a drain has a time of its own. It looks twice: a process that somebody had stopped has to wake up first.
    """

    def __init__(
        self,
        health: Health,
        stop: threading.Event,
        bite: Callable[[Report], None],
        *,
        every: float = LOOK_SECONDS,
    ) -> None:
        self._health, self._stop, self._bite, self._every = health, stop, bite, every
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        was_stuck = False
        while not self._stop.wait(self._every):
            report = self._health.report()
            is_stuck = report.state == State.STUCK
            if is_stuck and was_stuck and not self._stop.is_set():
                self._bite(report)
                return
            was_stuck = is_stuck


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
