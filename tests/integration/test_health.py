"""Health: the report, the endpoint that containers probe, and the heartbeat file."""

import dataclasses
import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import metadata_servers
from workers import health

PATIENCE = 30.0  # seconds


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def worker(clock):
    return health.Health(stuck_after=300, clock=clock)


@pytest.fixture
def endpoint(worker):
    endpoint = health.Endpoint(worker, "127.0.0.1", 0)
    yield endpoint
    endpoint.close()
    endpoint.close()


def get(endpoint, path="/healthz", method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{endpoint.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


class Thread:
    """A thread of a worker with something in hand."""

    def __init__(self, worker, what, patience):
        self._worker, self._pool = worker, ThreadPoolExecutor(1)
        self._work = worker.at_work(what, patience)
        self._do(self._work.__enter__)

    def progress(self):
        self._do(self._worker.progress)

    def end(self):
        self._do(self._work.__exit__, None, None, None)

    def _do(self, step, *given):
        self._pool.submit(step, *given).result(PATIENCE)


@pytest.fixture
def begin(worker):
    """Begins something in a thread of its own."""
    threads = []

    def begin(what, patience=1.0):
        threads.append(Thread(worker, what, patience))
        return threads[-1]

    return begin


def test_the_life_of_a_worker(worker, clock):
    assert worker.report().state == "starting"
    worker.ready()
    assert worker.report().state == "idle"
    with worker.at_work("batch 42"):
        clock.now += 10
        found = worker.report()
        assert (found.state, found.batches, found.seconds_since_progress) == ("working", ("batch 42",), 10)
    assert (worker.report().state, worker.report().batches) == ("idle", ())
    worker.draining()
    assert worker.report().state == "draining"
    assert worker.report().healthy


def test_loading_and_idling_may_take_as_long_as_they_like(worker, clock):
    clock.now += 1e6
    assert worker.report().healthy
    worker.ready()
    clock.now += 1e6
    assert worker.report().healthy


def test_a_batch_without_progress_is_stuck_though_another_goes_on(worker, begin, clock):
    worker.ready()
    first, second = begin("batch 1"), begin("batch 2")
    clock.now += 200
    second.progress()
    assert worker.report().healthy
    clock.now += 101
    assert (worker.report().state, worker.report().healthy) == ("stuck", False)
    first.progress()
    assert worker.report().healthy


def test_progress_told_by_a_thread_without_work_is_everybodys(worker, begin, clock):
    """A checkpoint of the engine, a store that is waited for: they concern whatever is in hand."""
    worker.ready()
    begin("batch 1")
    begin("batch 2")
    clock.now += 299
    worker.progress()
    clock.now += 299
    assert worker.report().healthy
    assert worker.report().seconds_since_progress == 299


def test_a_message_that_comes_twice_does_not_hide_the_batch_that_it_names(worker, begin, clock):
    worker.ready()
    begin("batch 42")
    double = begin("batch 42")
    clock.now += 100
    double.end()
    assert (worker.report().state, worker.report().batches) == ("working", ("batch 42",))
    clock.now += 201
    assert worker.report().state == "stuck"


def test_what_may_be_silent_for_longer_is_not_stuck_before(worker, begin, clock):
    worker.ready()
    begin("assembly", 12)
    clock.now += 3600
    assert worker.report().healthy
    clock.now += 1
    assert worker.report().state == "stuck"


def test_a_drain_that_gets_nowhere_is_stuck(worker, clock):
    worker.ready()
    with worker.at_work("batch 1"):
        clock.now += 299
        worker.draining()
        clock.now += 299
        assert worker.report().state == "draining"
        clock.now += 2
        assert worker.report().state == "stuck"
    assert worker.report().state == "stuck"


def test_a_worker_that_is_stuck_is_ended(worker, clock):
    worker.ready()
    bitten = metadata_servers.Heard()
    watchdog = health.Watchdog(worker, threading.Event(), bitten, every=0.01)
    with worker.at_work("batch 1"):
        clock.now += 301
        (report,) = bitten.wait()
    assert (report.batches, report.seconds_since_progress) == (("batch 1",), 301)
    watchdog._thread.join(PATIENCE)
    assert len(bitten.said) == 1


def test_a_worker_that_was_only_stopped_for_long_may_go_on():
    """The first look after a long sleep sees no progress, and there is some before the next."""

    class Woken(health.Health):
        def report(self):
            stuck = looks.pop(0)
            return dataclasses.replace(super().report(), state="stuck" if stuck else "working")

    looks, bitten = [True, False, True, True], metadata_servers.Heard()
    watchdog = health.Watchdog(Woken(300), threading.Event(), bitten, every=0.01)
    bitten.wait()
    watchdog._thread.join(PATIENCE)
    assert looks == []


def test_a_worker_that_drains_is_left_to_the_drain(worker, clock):
    worker.ready()
    stop = threading.Event()
    watchdog = health.Watchdog(worker, stop, pytest.fail, every=0.01)
    stop.set()
    watchdog._thread.join(PATIENCE)
    assert not watchdog._thread.is_alive()


def test_the_endpoint_tells(worker, clock, endpoint):
    worker.ready()
    with worker.at_work("batch 42"):
        status, body = get(endpoint)
        found = json.loads(body)
        assert status == 200
        assert (found["state"], found["healthy"], found["batches"]) == ("working", True, ["batch 42"])
        clock.now += 301
        status, body = get(endpoint, "/healthz?verbose")
        assert status == 503
        assert json.loads(body)["state"] == "stuck"


def test_other_paths_and_methods(endpoint):
    assert get(endpoint, method="HEAD") == (200, b"")
    assert get(endpoint, "/")[0] == 404
    assert get(endpoint, method="POST")[0] == 501


def test_a_client_that_says_nothing_keeps_nobody_waiting(endpoint):
    with socket.create_connection(("127.0.0.1", endpoint.port)) as silent:
        assert get(endpoint)[0] == 200
        silent.sendall(b"GET /healthz HTTP/1.0\r\n")
        assert get(endpoint)[0] == 200


def test_a_port_that_is_taken_is_said_in_one_line(worker, endpoint):
    with pytest.raises(health.HealthPortError, match="in use"):
        health.Endpoint(worker, "127.0.0.1", endpoint.port)
    with pytest.raises(health.HealthPortError, match="VOICEMILL_HEALTH_PORT"):
        health.Endpoint(worker, "256.256.256.256", 0)


class Watched(health.Health):
    """Tells when it was asked."""

    def __init__(self, clock):
        super().__init__(300, clock=clock)
        self.asked = threading.Semaphore(0)

    def report(self):
        try:
            return super().report()
        finally:
            self.asked.release()

    def wait(self, count):
        """Until it was asked so many times from now on."""
        while self.asked.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self.asked.acquire(timeout=PATIENCE)


def test_the_heartbeat_file_is_touched_only_while_all_is_well(tmp_path, clock):
    worker = Watched(clock)
    worker.ready()
    path = tmp_path / "run" / "alive"
    heartbeat = health.Heartbeat(worker, path, every=0.01)
    worker.wait(2)  # the first touch is done when it asks for the second
    assert path.exists()
    with worker.at_work("batch 1"):
        clock.now += 301
        worker.wait(2)  # so is one that was under way
        path.unlink()
        worker.wait(3)
        assert not path.exists()
        worker.progress()
        worker.wait(3)
        assert path.exists()
    heartbeat.close()
    assert not path.exists()
    heartbeat.close()


def test_a_heartbeat_file_that_cannot_be_is_said_once(tmp_path, clock, caplog):
    (tmp_path / "file").touch()
    worker = Watched(clock)
    heartbeat = health.Heartbeat(worker, tmp_path / "file" / "alive", every=0.01)
    worker.wait(5)
    heartbeat.close()
    assert caplog.text.count("cannot touch the heartbeat file") == 1
