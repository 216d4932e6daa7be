"""A child process as its parent sees it: orders go in, PCM comes out, within a time."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.engines.espeak import child, wheel

GREETING_SECONDS = 60.0  # a child greets within 50 ms, on a machine that is not overwhelmed


class CrashedError(Exception):
    """The child broke, or was too slow, and is gone. The message says how, in words for the user."""


class Process:
    """A running child. One thread at a time; `close` it, or let this process end: it then ends by itself."""

    def __init__(self, found: wheel.Wheel) -> None:
        """Start it. Raises CrashedError if it does not come up."""
        program = Path(child.__file__)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", program, found.shared_object, found.data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C at the terminal is for the parent
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._orders, False)
        self._deadline = time.monotonic() + GREETING_SECONDS
        greeting = json.loads(self._guarded(self._piece))
        self.version: str = greeting["version"]
        self.sample_rate: int = greeting["sample_rate"]

    @property
    def pid(self) -> int:
        """The process id, for tests and logs."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def speak(self, order: dict[str, Any], seconds: float) -> bytes:
        """The PCM of one order, within so many seconds. Raises CrashedError, and the child is gone."""
        self._deadline = time.monotonic() + seconds
        data = json.dumps(order | {"seconds": int(seconds) + 1}).encode()
        return self._guarded(self._answer, child.LENGTH.pack(len(data)) + data)

    def close(self) -> None:
        """End it, and whatever it forked."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _guarded(self, action: Any, *given: Any) -> bytes:
        try:
            answer: bytes = action(*given)
            return answer
        except TimeoutError as error:
            self.close()
            raise CrashedError("it did not answer in time") from error
        except OSError as error:
            status = self._status()
            self.close()
            raise CrashedError(f"it ended {status}") from error
        except BaseException:
            self.close()
            raise

    def _status(self) -> str:
        """How the child ended: a signal stops it at once, or its own fork, whose end it reports as 128 + signal."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1.0)
            number = -code if code < 0 else code - 128
            return f"by signal {number}" if number > 0 else f"with exit status {code}"
        return "without a word"

    def _answer(self, order: bytes) -> bytes:
        rest = memoryview(order)
        while rest:
            self._wait(self._orders, select.POLLOUT)
            rest = rest[os.write(self._orders, rest) :]
        return b"".join(iter(self._piece, b""))

    def _piece(self) -> bytes:
        return self._read(*child.LENGTH.unpack(self._read(child.LENGTH.size)))

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            self._wait(self._answers, select.POLLIN)
            part = os.read(self._answers, count)
            if not part:
                raise BrokenPipeError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _wait(self, pipe: int, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise TimeoutError
