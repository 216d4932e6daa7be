"""Azure's Scheduled Events: whose they are, what is left of their time, and their acknowledgement."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.metadata_servers import AzureServer, Heard
from workers import spot
from workers.spot.azure import Azure

EVENTS = "/metadata/scheduledevents"


@pytest.fixture
def server():
    with AzureServer() as server:
        yield server


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def watcher(server, heard):
    watcher = spot.Watcher([Azure(server.url, every=0.01)], heard, pace=spot.Pace(backoff=0.01))
    yield watcher
    watcher.close()


def in_seconds(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def posts(server):
    return [json.loads(seen.body) for seen in list(server.requests.said) if seen.method == "POST"]


def polls(server):
    return [seen for seen in list(server.requests.said) if (seen.method, seen.path) == ("GET", EVENTS)]


@pytest.mark.parametrize("kind", ["Preempt", "Terminate"])
def test_an_event_for_this_machine_is_one_urgent_notice(server, heard, watcher, kind):
    server.add("A", kind, "vmss_7", not_before=in_seconds(30))
    (notice,) = heard.wait()
    assert (notice.provider, notice.kind, notice.urgent) == ("azure", kind.lower(), True)
    assert 15 < notice.deadline <= 30
    server.requests.wait(len(server.requests.said) + 10)
    assert len(heard.said) == 1
    assert polls(server)[0].query == {"api-version": "2020-07-01"}


def test_other_machines_and_harmless_events_are_none_of_our_business(server, heard, watcher):
    server.add("A", "Preempt", "vmss_70")
    server.add("B", "Preempt", "vmss_6", "vmss_8")
    server.add("C", "Freeze", "vmss_7")
    server.add("D", "Reboot", "vmss_7")
    server.requests.wait(len(server.requests.said) + 10)
    assert not heard.said
    server.add("E", "Preempt", "VMSS_7")  # names know no case
    assert "E" in heard.wait()[0].identity


def test_each_event_is_a_notice(server, heard, watcher):
    server.add("A", "Preempt", "vmss_7")
    heard.wait(1)
    server.add("B", "Terminate", "vmss_7")
    assert [notice.kind for notice in heard.wait(2)] == [spot.Kind.PREEMPT, spot.Kind.TERMINATE]


def test_an_event_that_has_started_leaves_no_time(server, heard, watcher):
    server.events = [
        {
            "EventId": "A",
            "EventType": "Preempt",
            "Resources": ["vmss_7"],
            "EventStatus": "Started",
            "NotBefore": "",
        }
    ]
    assert heard.wait()[0].deadline == 0.0


@pytest.mark.parametrize("when", ["2099-01-01T00:00:00Z", "Thu, 01 Jan 2099 00:00:00 -0000"])
def test_times_come_in_several_forms(server, heard, watcher, when):
    server.add("A", "Preempt", "vmss_7", not_before=when)
    assert heard.wait()[0].deadline > 1e6


def test_events_without_what_an_event_must_have_are_passed_over(server, heard, watcher):
    server.events = ["A", {}, {"EventId": "A", "Resources": "vmss_7"}, {"Resources": ["vmss_7"]}]
    server.add("B", "Preempt", "vmss_7")
    assert "B" in heard.wait()[0].identity
    server.requests.wait(len(server.requests.said) + 10)
    assert len(heard.said) == 1


def test_acknowledging_lets_the_event_start(server, heard, watcher):
    server.add("A", "Preempt", "vmss_7")
    heard.wait()
    assert watcher.acknowledge()
    assert posts(server) == [{"StartRequests": [{"EventId": "A"}]}]
    assert server.events[0]["EventStatus"] == "Started"
    server.requests.wait(len(server.requests.said) + 10)
    assert len(heard.said) == 1


def test_an_event_that_takes_others_too_is_theirs_to_acknowledge(server, heard, watcher):
    server.add("A", "Preempt", "vmss_7", "vmss_8")
    heard.wait()
    assert watcher.acknowledge()
    assert not posts(server)


def test_without_a_notice_there_is_nothing_to_acknowledge(server, watcher):
    server.requests.wait(5)
    assert watcher.acknowledge()
    assert not posts(server)


def test_an_acknowledgement_that_is_refused_is_said_so(server, heard, watcher, caplog):
    server.add("A", "Preempt", "vmss_7")
    heard.wait()
    server._start = lambda requests: (500, {}, "")
    assert not watcher.acknowledge()
    assert "could not acknowledge the notice" in caplog.text
    assert "answered 500" in caplog.text


def test_a_machine_whose_name_is_not_known_yet_is_asked_for_it_again(server, heard, watcher):
    found = server.document
    server.document = lambda document: found({} if "vmId" in document else document)
    server.requests.wait(3)
    server.document = found
    server.add("A", "Preempt", "vmss_7")
    heard.wait()
