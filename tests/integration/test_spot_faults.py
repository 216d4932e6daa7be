"""Whatever a metadata server does, the watcher goes on, says so once, and tells the notice when it can be read."""

import logging

import pytest

from tests import metadata_servers, servers
from tests.metadata_servers import AwsServer, AzureServer, GoogleServer, Heard
from workers import spot
from workers.spot.aws import Aws
from workers.spot.azure import Azure
from workers.spot.google import Google

TIMEOUT = 0.2  # seconds: for a server on a busy machine that does answer
PACE = spot.Pace(backoff=0.01, backoff_limit=0.02)

LATER = (metadata_servers.hangs, metadata_servers.half, *map(metadata_servers.status, (401, 404, 503)))

CLOUDS = {
    "aws": (AwsServer, lambda url: Aws(url, every=0.01, timeout=TIMEOUT)),
    "google": (GoogleServer, lambda url: Google(url, every=0.01, wait=0, timeout=TIMEOUT)),
    "azure": (AzureServer, lambda url: Azure(url, every=0.01, timeout=TIMEOUT)),
}


@pytest.fixture(params=CLOUDS)
def cloud(request):
    return CLOUDS[request.param]


def complaints(caplog):
    return [record for record in caplog.records if "cannot ask" in record.message]


@pytest.mark.parametrize("fault", metadata_servers.FAULTS, ids=lambda fault: fault.__name__)
def test_it_outlives_a_server_that(cloud, fault, caplog):
    server_of, source_of = cloud
    heard = Heard()
    with server_of() as server:
        server.break_with(fault)
        watcher = spot.Watcher([source_of(server.url)], heard, pace=PACE)
        try:
            server.requests.wait(4)
            assert not heard.said
            assert watcher._thread.is_alive()
            server.heal()
            server.preempt()
            (notice,) = heard.wait()
            assert notice.urgent
        finally:
            watcher.close()
        assert not watcher._thread.is_alive()
    assert len(complaints(caplog)) == 1


@pytest.mark.parametrize("fault", LATER, ids=lambda fault: fault.__name__)
def test_it_outlives_a_server_that_begins_later_on_to(cloud, fault, caplog):
    server_of, source_of = cloud
    heard = Heard()
    with server_of() as server:
        watcher = spot.Watcher([source_of(server.url)], heard, pace=PACE)
        try:
            server.requests.wait(4)
            server.break_with(fault)
            server.requests.wait(len(server.requests.said) + 4)
            server.preempt()
            server.heal()
            heard.wait()
        finally:
            watcher.close()
    assert len(heard.said) == 1
    assert len(complaints(caplog)) <= 1  # none where the fault is an answer, like Amazon's 404


def test_it_waits_for_a_server_that_is_not_there_yet(cloud, caplog):
    server_of, source_of = cloud
    heard, said, port = Heard(), Heard(), servers.free_port()
    handler = logging.Handler()
    handler.emit = said
    logging.getLogger("workers.spot").addHandler(handler)
    watcher = spot.Watcher([source_of(f"http://127.0.0.1:{port}")], heard, pace=PACE)
    try:
        assert "refused" in said.wait()[0].getMessage()
        with server_of(port) as server:
            server.requests.wait(4)
            server.preempt()
            heard.wait()
    finally:
        watcher.close()
        logging.getLogger("workers.spot").removeHandler(handler)
    assert len(complaints(caplog)) == 1


def test_closing_ends_a_request_under_way(cloud):
    server_of, source_of = cloud
    with server_of() as server:
        server.break_with(metadata_servers.hangs)
        source = source_of(server.url)
        source._timeout = 3600.0
        watcher = spot.Watcher([source], Heard(), pace=PACE)
        server.requests.wait(1)
        watcher.close()
        assert not watcher._thread.is_alive()
        watcher.close()


def test_a_proxy_of_the_environment_never_sees_a_request(cloud, monkeypatch):
    server_of, source_of = cloud
    heard = Heard()
    with server_of() as server, metadata_servers.Trap() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        server.preempt()
        watcher = spot.Watcher([source_of(server.url)], heard, pace=PACE)
        heard.wait()
        watcher.acknowledge()
        watcher.close()
        assert proxy.visitors() == 0


def test_a_callback_that_fails_is_called_for_the_next_notice_all_the_same(caplog):
    heard = Heard()

    def fail(notice):
        heard(notice)
        raise RuntimeError("no such luck")

    with AwsServer() as server:
        server.rebalance = {"noticeTime": "2026-01-01T00:00:00Z"}
        watcher = spot.Watcher([Aws(server.url, every=0.01)], fail, pace=PACE)
        heard.wait(1)
        server.preempt()
        heard.wait(2)
        watcher.close()
    assert "no such luck" in caplog.text


def test_it_can_be_closed_from_the_callback():
    heard = Heard()
    with AwsServer() as server:
        server.preempt()

        def close(notice):
            watcher.close()
            heard(notice)

        watcher = spot.Watcher([Aws(server.url, every=0.01)], close, pace=PACE)
        heard.wait()
        watcher._thread.join(metadata_servers.PATIENCE)
        assert not watcher._thread.is_alive()
