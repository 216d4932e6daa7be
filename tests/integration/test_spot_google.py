"""Google's notice, from a server that holds its answer back until there is a change."""

import pytest

from tests.metadata_servers import GoogleServer, Heard
from workers import spot
from workers.spot.google import Google


@pytest.fixture
def server():
    with GoogleServer() as server:
        yield server


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def watch(server, heard):
    watchers = []

    def start(wait):
        source = Google(server.url, every=0.01, wait=wait, timeout=5.0)
        watchers.append(spot.Watcher([source], heard, pace=spot.Pace(backoff=0.01)))
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.close()


def test_a_change_is_told_while_the_server_is_waited_for(server, heard, watch):
    watch(wait=60)
    first, second = server.requests.wait(2)
    assert first.headers["Metadata-Flavor"] == "Google"
    assert first.query["last_etag"] == "0"  # answered at once: it may be TRUE already
    assert second.query == {"wait_for_change": "true", "timeout_sec": "60", "last_etag": f"{1:016x}"}
    server.preempt()
    (notice,) = heard.wait()
    assert (notice.provider, notice.kind, notice.deadline, notice.urgent) == ("google", "preempt", 30.0, True)


def test_a_preemption_before_the_first_request_is_not_missed(server, heard, watch):
    server.preempt()
    watch(wait=60)
    assert heard.wait()[0].kind == spot.Kind.PREEMPT


def test_it_is_told_once_however_often_it_is_read(server, heard, watch):
    server.preempt()
    watch(wait=0)
    server.requests.wait(10)
    assert len(heard.said) == 1


def test_a_wait_without_a_change_is_no_fault(server, heard, watch, caplog):
    watch(wait=0)
    server.requests.wait(10)
    assert not heard.said
    assert "cannot ask" not in caplog.text


def test_a_server_that_does_not_sign_itself_as_googles_is_not_believed(server, heard, watch, caplog):
    honest = server.answer
    server.answer = lambda seen: (200, {}, "TRUE")
    watch(wait=0)
    server.requests.wait(3)
    assert not heard.said
    assert "Metadata-Flavor" in caplog.text
    server.answer = honest
    server.preempt()
    heard.wait()


def test_without_etags_it_is_asked_at_its_pace(server, heard, watch):
    flavor = {"Metadata-Flavor": "Google"}
    server.answer = lambda seen: (200, flavor, "FALSE\n")
    watch(wait=60)
    assert {seen.query["last_etag"] for seen in server.requests.wait(5)} == {"0"}
    server.answer = lambda seen: (200, flavor, "TRUE\n")
    heard.wait()


def test_closing_does_not_wait_for_the_server(server, heard, watch):
    watcher = watch(wait=3600)
    server.requests.wait(2)
    watcher.close()
    assert not watcher._thread.is_alive()
