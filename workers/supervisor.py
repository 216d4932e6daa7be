"""One process per GPU, watched: started again when it fails, told to leave when we are, never left behind.

    supervised = supervisor.Supervisor(supervisor.for_gpus(["voicemill", "worker"], gpus.chosen("all"), life))
    watcher = leave.watch(life, supervised.stop)
    code = supervised.run()

A child that leaves with 0 unasked is started again, too: whoever told it so, through Flower say, has not told us. One whose
device fails again and again is given up (`Trust`), and with it all the others.

The first SIGTERM or SIGINT is passed on to every child, which drains; a second one kills them at once. Should the
supervisor itself be killed, Linux kills the children (`workers/leash.py`): what they had stored is stored, the rest is
rendered again by others.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workers import exit_codes, leash

if TYPE_CHECKING:
    from workers.spot.settings import LifeSettings

log = logging.getLogger(__name__)

LEAVE = (signal.SIGTERM, signal.SIGINT)
STOP = 0  # no signal has this number


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep alive. `environment` is added to ours."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Backoff:
    """How long to wait before a start: doubled each time, from anew after a run that was long enough. Seconds."""

    first: float = 1.0
    limit: float = 60.0
    healthy: float = 60.0  # a run of so long shows that the last fault is over
    _failures: int = 0

    def after(self, ran: float) -> float:
        """The wait after a run of `ran` seconds."""
        if ran >= self.healthy:
            self._failures = 0
        wait = min(self.limit, self.first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return wait


@dataclass(slots=True)
class Trust:
    """Whether a device may be tried once more: not after so many of its faults in a row.

    There may be a dozen and more where nothing is wrong with the device: an item that breaks the engine is found by
    halving its batch, at a fault each time, and then has its attempts.
    """

    allowed: int = 20
    healthy: float = 300.0  # seconds: a run of so long, its engine's loading and all, had a device that works
    faults: int = 0

    def is_lost(self, code: int, ran: float) -> bool:
        """Whether it is over, after a run of `ran` seconds with this exit code."""
        if ran >= self.healthy:
            self.faults = 0
        self.faults += code == exit_codes.WorkerExit.DEVICE_FAULT
        return self.faults >= self.allowed


def for_gpus(command: Sequence[str], gpus: Sequence[str], life: "LifeSettings") -> list[Child]:
    """The same command once per GPU, or once without any, each with its own health port and heartbeat file.

    The supervisor watches for spot notices itself, since all its children lose the machine together and the cloud may
    only be told to go ahead when the last one has drained. So theirs are off.
    """
    children = []
    for index, gpu in enumerate(gpus or [""]):
        environment = {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "VOICEMILL_SPOT": "off"}
        if life.health_port:
            environment["VOICEMILL_HEALTH_PORT"] = str(life.health_port + index)
        if life.heartbeat_file is not None and len(gpus) > 1:
            environment["VOICEMILL_HEARTBEAT_FILE"] = f"{life.heartbeat_file}.{index}"
        children.append(Child(f"gpu {gpu}" if gpu else "cpu", command, environment))
    return children


class Supervisor:
    """Keeps children alive until each has left for good.

    All that happens comes as bytes through one pair of sockets: signals by their number (Python writes it there in the
    C handler, whichever thread the kernel chose for the signal, and so it always wakes us), and 0 for `stop()`.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        backoff: Callable[[], Backoff] = Backoff,
        trust: Callable[[], Trust] = Trust,
        kill_after: float | None = None,
        files: Sequence[int] = (),
    ) -> None:
        """`kill_after` is how many seconds the children have to leave once they are told to; None: as long as it takes.

        `files` are open ones that the children inherit.
        """
        self._wards = [_Ward(child, backoff(), trust(), files) for child in children]
        self._kill_after = kill_after
        self._news, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._stopping = False
        self._signals_seen = 0
        self._kill_at: float | None = None  # on the monotonic clock

    def run(self) -> int:
        """Run until the last child has left. Returns the highest of their exit codes, 128 + n for signal n.

        To be called once, in the main thread, whose handlers of signals it borrows, and to which the lives of the
        children are tied.
        """
        with self._news, self._bell, self._handlers():
            while not all(ward.code is not None for ward in self._wards):
                self._do_what_is_due()
                for number in self._wait():
                    self._take(number)
                for ward in self._wards:
                    ward.look()
                if not self._stopping and any(ward.code for ward in self._wards):
                    self.stop()  # one has failed for good: better all end, and loudly, than some work on in silence
        return max((exit_codes.of_signal(ward.code or 0) for ward in self._wards), default=0)

    def stop(self) -> None:
        """Tell every child to leave (SIGTERM), as on a spot notice. From any thread.

        The signal that often follows a notice counts as the first one, and is not passed on any more.
        """
        with suppress(OSError):  # it has ended already
            self._bell.send(bytes([STOP]))

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        woken_before = signal.set_wakeup_fd(self._bell.fileno())
        before = {number: signal.signal(number, lambda *_: None) for number in (*LEAVE, signal.SIGCHLD)}
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self) -> bytes:
        """What has happened, when something has, or nothing when something is due."""
        times = [ward.start_at for ward in self._wards if ward.start_at is not None]
        if self._kill_at is not None:
            times.append(self._kill_at)
        left = max(0.0, min(times) - time.monotonic()) if times else None
        readable, _, _ = select.select([self._news], [], [], left)
        return self._news.recv(4096) if readable else b""

    def _take(self, number: int) -> None:
        if number == STOP:
            self._stop(signal.SIGTERM)
        elif number in LEAVE:
            self._signals_seen += 1
            if self._signals_seen == 1:
                self._stop(signal.Signals(number))
            else:
                log.warning("%s again: killing every worker", signal.Signals(number).name)
                self._kill()

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping:
            return
        self._stopping = True
        log.info("telling every worker to leave (%s)", number.name)
        if self._kill_after is not None:
            self._kill_at = time.monotonic() + self._kill_after
        for ward in self._wards:
            ward.stop(number)

    def _kill(self) -> None:
        self._kill_at = None
        for ward in self._wards:
            ward.kill()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for ward in self._wards:
            if ward.start_at is not None and ward.start_at <= now:
                ward.start()
        if self._kill_at is not None and self._kill_at <= now:
            log.warning("workers did not leave within %g s: killing them", self._kill_after)
            self._kill()


class _Ward:
    """One child and its runs."""

    def __init__(self, child: Child, backoff: Backoff, trust: Trust, files: Sequence[int] = ()) -> None:
        self.child, self._backoff, self._trust, self._files = child, backoff, trust, files
        self.start_at: float | None = 0.0  # on the monotonic clock, while it waits for a start
        self.code: int | None = None  # its last, once it has left for good
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_with: int | None = None
        self._started = 0.0

    def start(self) -> None:
        """Start the process."""
        self.start_at, self._started = None, time.monotonic()
        tied = [sys.executable, "-I", "-S", str(Path(leash.__file__)), str(os.getpid()), *self.child.command]
        try:
            self._process = subprocess.Popen(
                tied,
                env={**os.environ, **self.child.environment},
                stdin=subprocess.DEVNULL,
                pass_fds=self._files,
                process_group=0,  # so that Ctrl-C reaches it through us alone, once
            )
        except OSError as error:  # no memory, no process left
            self._restart(f"could not be started ({error})")
            return
        log.info("%s: started, process %d", self.child.name, self._process.pid)

    def stop(self, number: int) -> None:
        """Tell it to leave; it is not started again."""
        self._stopped_with = number
        if self._process is not None:
            os.kill(self._process.pid, number)  # not Popen's, which may reap
        elif self.code is None:
            self.start_at, self.code = None, 0

    def kill(self) -> None:
        """End it and whatever it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def look(self) -> None:
        """Whether it has ended, and what follows from that."""
        if self._process is None:
            return
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        self.kill()  # what it has left behind; before it is reaped, so that the number is still its own
        code = self._process.wait()
        self._process = None
        if self._stopped_with is not None and code == -self._stopped_with:
            code = 0  # told to leave before it listened
        said = f"ended ({exit_codes.meaning(code)})"
        is_lost = self._trust.is_lost(code, time.monotonic() - self._started)
        if self._stopped_with is not None or code in exit_codes.FINAL:
            log.log(logging.ERROR if code else logging.INFO, "%s: %s", self.child.name, said)
            self.code = code
        elif is_lost:
            told = "%s: %s, %d times in a row: given up. Leave a broken device out with --gpus."
            log.error(told, self.child.name, said, self._trust.faults)
            self.code = code
        else:
            self._restart(said)

    def _restart(self, why: str) -> None:
        wait = self._backoff.after(time.monotonic() - self._started)
        log.warning("%s: %s, next start in %g s", self.child.name, why, wait)
        self.start_at = time.monotonic() + wait
