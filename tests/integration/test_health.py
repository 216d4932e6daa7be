"""Health: the report, the endpoint that containers probe, and the heartbeat file."""

import json
import socket
import threading
import urllib.error
import urllib.request

import pytest

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
    return health.Health(stuck_after=300, loop_seconds=60, clock=clock)


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


def test_the_life_of_a_worker(worker, clock):
    assert worker.report().state == "starting"
    worker.ready()
    assert worker.report().state == "idle"
    worker.progress("batch 42")
    clock.now += 10
    found = worker.report()
    assert (found.state, found.batches, found.seconds_since_progress) == ("working", ("batch 42",), 10)
    worker.finished("batch 42")
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


def test_a_batch_without_progress_is_stuck_though_another_goes_on(worker, clock):
    worker.ready()
    worker.progress("batch 1")
    worker.progress("batch 2")
    clock.now += 200
    worker.progress("batch 2")
    assert worker.report().healthy
    clock.now += 101
    assert (worker.report().state, worker.report().healthy) == ("stuck", False)
    worker.progress("batch 1")
    assert worker.report().healthy


def test_a_drain_that_gets_nowhere_is_stuck(worker, clock):
    worker.ready()
    worker.progress("batch 1")
    clock.now += 299
    worker.draining()
    clock.now += 299
    assert worker.report().state == "draining"
    clock.now += 2
    assert worker.report().state == "stuck"
    worker.finished("batch 1")
    assert worker.report().state == "stuck"


def test_a_main_loop_that_beat_once_must_go_on(worker, clock):
    clock.now += 1000
    assert worker.report().loop_age is None
    worker.beat()
    clock.now += 60
    assert worker.report().healthy
    clock.now += 1
    assert not worker.report().healthy
    worker.beat()
    assert worker.report().healthy


def test_the_oldest_lease_counts(worker, clock):
    worker.renewed("batch 7")  # not in hand any more
    assert worker.report().lease_age is None
    worker.progress("batch 1")
    clock.now += 5
    worker.progress("batch 2")
    clock.now += 5
    assert worker.report().lease_age == 10
    worker.renewed("batch 1")
    assert worker.report().lease_age == 5
    worker.progress("batch 2")  # progress renews no lease
    assert worker.report().lease_age == 5


def test_the_endpoint_tells(worker, clock, endpoint):
    worker.ready()
    worker.progress("batch 42")
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
        for _ in range(count):
            assert self.asked.acquire(timeout=PATIENCE)


def test_the_heartbeat_file_is_touched_only_while_all_is_well(tmp_path, clock):
    worker = Watched(clock)
    worker.ready()
    path = tmp_path / "run" / "alive"
    heartbeat = health.Heartbeat(worker, path, every=0.01)
    worker.wait(2)  # the first touch is done when it asks for the second
    assert path.exists()
    worker.progress("batch 1")
    clock.now += 301
    worker.wait(20)  # more than were asked before
    path.unlink()
    worker.wait(3)
    assert not path.exists()
    worker.progress("batch 1")
    worker.wait(20)
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
