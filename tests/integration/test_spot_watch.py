"""`spot.watch`: which cloud is this?"""

import logging
import socket
import time

import pytest

from storage import settings
from tests import metadata_servers
from tests.metadata_servers import PATIENCE, AwsServer, AzureServer, GoogleServer, Heard
from workers import spot
from workers.spot import link
from workers.spot.settings import LifeSettings

SERVERS = {"aws": AwsServer, "google": GoogleServer, "azure": AzureServer}
LIMIT = 15.0  # seconds that finding out may take, where it would never end by itself
PATIENT = spot.Pace(probe=PATIENCE)  # for a server that does answer, however busy the machine is


def everywhere(url):
    return dict.fromkeys(SERVERS, url)


@pytest.mark.parametrize("name", SERVERS)
def test_auto_finds_the_cloud_and_says_so(name, caplog):
    caplog.set_level(logging.INFO)
    heard = Heard()
    with SERVERS[name]() as server:
        watcher = spot.watch("auto", heard, endpoints=everywhere(server.url), pace=PATIENT)
        assert watcher.provider(2 * PATIENCE) == name
        assert f"this is {name}" in caplog.text
        server.preempt()
        assert heard.wait()[0].provider == name
        watcher.close()


@pytest.mark.parametrize("name", SERVERS)
def test_a_named_cloud_is_watched_unprobed(name):
    heard = Heard()
    with SERVERS[name]() as server:
        server.preempt()
        watcher = spot.watch(name, heard, endpoints={name: server.url})
        assert watcher.provider(PATIENCE) == name
        heard.wait()
        watcher.close()


def test_nobody_home_is_no_cloud(caplog):
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    watcher = spot.watch("auto", Heard(), endpoints=everywhere(f"http://127.0.0.1:{port}"))
    assert watcher.provider(PATIENCE) is None
    assert "SIGTERM" in caplog.text
    assert watcher.acknowledge()
    watcher.close()


@pytest.mark.parametrize("fault", metadata_servers.FAULTS, ids=lambda fault: fault.__name__)
def test_no_other_server_is_taken_for_a_cloud_and_finding_out_is_quick(fault):
    with AwsServer() as server:
        server.break_with(fault)
        begun = time.monotonic()
        watcher = spot.watch("auto", Heard(), endpoints=everywhere(server.url))
        assert watcher.provider(PATIENCE) is None
        assert time.monotonic() - begun < LIMIT
        watcher.close()


def test_an_address_where_nobody_answers_at_all_costs_no_more():
    with socket.socket() as full:  # accepts nothing: its queue is full, further connections hang
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        begun = time.monotonic()
        watcher = spot.watch("auto", Heard(), endpoints=everywhere(f"http://127.0.0.1:{full.getsockname()[1]}"))
        assert watcher.provider(PATIENCE) is None
        assert 0.5 < time.monotonic() - begun < LIMIT
        watcher.close()
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("fault", [metadata_servers.hangs, metadata_servers.status(503)])
def test_a_metadata_server_that_is_slow_when_its_machine_starts_is_found_later(fault, caplog):
    """Else there would be no notices for as long as the worker lives."""
    caplog.set_level(logging.INFO)
    heard = Heard()
    with AzureServer() as server:
        server.break_with(fault)
        pace = spot.Pace(probe=0.1, probe_limit=PATIENCE, probe_every=0.01)
        watcher = spot.watch("auto", heard, endpoints=everywhere(server.url), pace=pace)
        assert watcher.provider(PATIENCE) is None
        server.heal()
        server.preempt()
        assert heard.wait()[0].provider == "azure"
        assert watcher.provider() == "azure"
        watcher.close()
    assert caplog.text.count("no cloud's metadata server answers here") == 1


def test_where_there_is_no_cloud_it_is_asked_for_no_longer_after_a_while():
    with AwsServer() as server:
        server.break_with(metadata_servers.status(404))
        pace = spot.Pace(probe_every=0.01, probe_until=0.05)
        watcher = spot.watch("auto", Heard(), endpoints=everywhere(server.url), pace=pace)
        watcher._thread.join(PATIENCE)
        assert not watcher._thread.is_alive()
        assert watcher.provider() is None
        watcher.close()


def test_off_does_nothing():
    watcher = spot.watch("off", Heard())
    assert watcher.provider(PATIENCE) is None
    assert watcher.acknowledge()
    watcher.close()


@pytest.mark.parametrize(
    "endpoint",
    ["169.254.169.254", "https://169.254.169.254", "http://", "http://host:port", "http://[::1", "http://a?b"],
)
def test_an_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(link.EndpointError, match="must look like"):
        spot.watch("aws", Heard(), endpoints={"aws": endpoint})


def test_settings_have_defaults_and_are_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("VOICEMILL_SPOT")
    life = settings.load(LifeSettings)
    assert (life.spot, life.drain_seconds, life.max_idle) == ("auto", 25.0, None)
    monkeypatch.setenv("VOICEMILL_SPOT", "google")
    monkeypatch.setenv("VOICEMILL_MAX_IDLE", "10m")
    life = settings.load(LifeSettings)
    assert (life.spot, life.max_idle) == ("google", 600.0)
    monkeypatch.setenv("VOICEMILL_MAX_IDLE", "soon")
    with pytest.raises(settings.SettingsError, match="10m"):
        settings.load(LifeSettings)
