"""The espeak engine: child processes, one for each core, and a thread that talks to each."""

import os
from collections.abc import Iterable, Iterator, Mapping
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, NamedTuple

import pydantic

from workers.engines.engine import EngineUnavailableError, Failure, Partial, Reason, Request, Result, Take
from workers.engines.espeak import child, speaker, wheel
from workers.engines.espeak import text as texts
from workers.engines.espeak.options import EspeakOptions
from workers.engines.espeak.process import CrashedError, Process

PATIENCE_SECONDS = 20.0  # for any text ...
PATIENCE_SECONDS_PER_CHARACTER = 0.02  # ... and for its length: a hundred times what it takes
IN_FLIGHT_PER_CHILD = 2  # one that is spoken, and the next


class _Order(NamedTuple):
    """A request on its way to a child, and where its result is awaited."""

    request: Request
    stop: Event
    results: "SimpleQueue[Result]"


class EspeakEngine:
    """Renders on as many cores as it has children. The same request gives the same bytes, whoever renders it when.

    A child that crashes or hangs fails the one request it was at, and is replaced.
    """

    def __init__(self, processes: int | None = None, patience: float = PATIENCE_SECONDS) -> None:
        """`processes`: None for one a usable core. Raises EngineUnavailableError."""
        self._patience = patience
        try:
            self._wheel = wheel.find()
            first = Process(self._wheel)
        except (LookupError, OSError, CrashedError) as error:
            raise EngineUnavailableError(engine="espeak", reason=error) from error
        self._sample_rate = first.sample_rate
        self._identity = {
            "name": "espeak",
            "version": first.version,
            "data_version": self._wheel.data_version,
            "wheel": self._wheel.version,
            "digest": self._wheel.digest(),
            "sample_rate": first.sample_rate,
            "buffer_ms": child.BUFFER_MS,
        }
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._closing = Lock()
        self._closed = False
        count = processes or usable_cores()
        self._in_flight = IN_FLIGHT_PER_CHILD * count
        self._processes: list[Process | None] = [
            first,
            *[None] * (count - 1),
        ]  # each starts when its thread needs it
        self._threads = [
            Thread(target=self._serve, args=(number,), name=f"espeak-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def sample_rate(self) -> int:
        """22,050 Hz."""
        return self._sample_rate

    @property
    def identity(self) -> Mapping[str, Any]:
        """Library, data and how it is driven; the digest is of the files themselves."""
        return self._identity

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that run."""
        return [process.pid for process in self._processes if process is not None]

    def render(self, requests: Iterable[Request], stop: Event) -> Iterator[Result]:
        """As `Engine.render`. `requests` is read as results are: it may be lazy, and of any length."""
        results: SimpleQueue[Result] = SimpleQueue()
        in_flight = 0
        for request in requests:
            if stop.is_set():
                yield _not_begun(request)
                continue
            self._submit(_Order(request, stop, results))
            in_flight += 1
            while in_flight >= self._in_flight or not results.empty():
                yield results.get()
                in_flight -= 1
        for _ in range(in_flight):
            yield results.get()

    def close(self) -> None:
        """Finish what is in flight, end the children."""
        with self._closing:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._orders.put(None)
        for thread in self._threads:
            thread.join()

    def _submit(self, order: _Order) -> None:
        with self._closing:
            if self._closed:
                raise RuntimeError("the espeak engine is closed")
            self._orders.put(order)

    def _serve(self, number: int) -> None:
        """The life of one thread: its child speaks one order after the other."""
        while (order := self._orders.get()) is not None:
            order.results.put(self._result(number, order))
        if (process := self._processes[number]) is not None:
            process.close()

    def _result(self, number: int, order: _Order) -> Result:
        request = order.request
        if order.stop.is_set():
            return _not_begun(request)
        try:
            return self._speak(self._process(number), request)
        except ValueError as error:
            return Failure(request.key, Reason.BAD_TEXT, str(error))
        except Exception as error:  # the thread must live on, and its caller get an answer
            return Failure(request.key, Reason.CRASHED, f"espeak broke: {error}")

    def _process(self, number: int) -> Process:
        """This thread's child; a new one where it has none, or none any more."""
        process = self._processes[number]
        if process is not None and process.alive:
            return process
        if process is not None:
            process.close()
        process = self._processes[number] = Process(self._wheel)
        return process

    def _speak(self, process: Process, request: Request) -> Take:
        texts.check(request.text)
        order = {"text": request.text, "voice": speaker.named(request.voice), **_options(request)}
        patience = self._patience + PATIENCE_SECONDS_PER_CHARACTER * len(request.text)
        return Take(request.key, process.speak(order, patience), self._sample_rate, tokens=0)


def _options(request: Request) -> dict[str, Any]:
    try:
        return EspeakOptions.model_validate(request.options).model_dump()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"the option {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _not_begun(request: Request) -> Partial:
    return Partial(request.key, state=b"", tokens=0)
