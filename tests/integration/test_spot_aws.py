"""Amazon's notices, from a server that speaks IMDSv2."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.metadata_servers import AwsServer, Heard
from workers import spot
from workers.spot.aws import Aws

ACTION = "/latest/meta-data/spot/instance-action"
TOKEN = "/latest/api/token"


@pytest.fixture
def server():
    with AwsServer() as server:
        yield server


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def watch(server, heard):
    watchers = []

    def start(**options):
        source = Aws(server.url, every=0.01, timeout=5.0, **options)
        watchers.append(spot.Watcher([source], heard, pace=spot.Pace(backoff=0.01)))
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.close()


def polls(server, path=ACTION):
    return [seen for seen in list(server.requests.said) if seen.path == path]


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_an_instance_action_is_one_urgent_notice(server, heard, watch, action):
    moment = datetime.now(UTC) + timedelta(seconds=120)
    server.action = {"action": action, "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
    watch()
    (notice,) = heard.wait()
    assert (notice.provider, notice.kind, notice.urgent) == ("aws", action, True)
    assert 60 < notice.deadline <= 120
    server.requests.wait(len(server.requests.said) + 10)
    assert len(heard.said) == 1


def test_an_action_already_due_has_no_time_left(server, heard, watch):
    server.action = {"action": "stop", "time": "2017-09-18T08:22:00Z"}
    watch()
    assert heard.wait()[0].deadline == 0.0


@pytest.mark.parametrize("time", ["soon", None, 17, "2017-99-99T00:00:00Z"])
def test_a_time_that_is_none_does_not_hide_the_notice(server, heard, watch, time):
    server.action = {"action": "terminate", "time": time}
    watch()
    assert heard.wait()[0].deadline is None


def test_a_rebalance_recommendation_is_not_urgent_and_the_termination_after_it_is(server, heard, watch):
    server.rebalance = {"noticeTime": "2026-10-27T08:22:00Z"}
    watch()
    (first,) = heard.wait()
    assert (first.kind, first.urgent, first.deadline) == (spot.Kind.REBALANCE, False, None)
    server.preempt()
    second = heard.wait(2)[1]
    assert (second.kind, second.urgent) == (spot.Kind.TERMINATE, True)
    server.requests.wait(len(server.requests.said) + 10)
    assert len(heard.said) == 2


def test_another_time_is_another_notice(server, heard, watch):
    server.action = {"action": "hibernate", "time": "2026-01-01T00:00:00Z"}
    watch()
    heard.wait(1)
    server.action = {"action": "hibernate", "time": "2026-02-02T00:00:00Z"}
    assert [notice.kind for notice in heard.wait(2)] == [spot.Kind.HIBERNATE] * 2


def test_an_unknown_content_type_is_no_reason_to_miss_a_notice(server, heard, watch):
    server.content_type = "application/octet-stream"
    server.preempt()
    watch()
    heard.wait()


def test_one_token_serves_until_the_server_forgets_it(server, heard, watch):
    watch()
    server.requests.wait(20)
    assert len(polls(server, TOKEN)) == 1
    assert polls(server, TOKEN)[0].headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
    server.tokens.clear()
    server.preempt()
    heard.wait()
    assert len(polls(server, TOKEN)) == 2


def test_a_token_is_renewed_before_it_ends(server, heard, watch):
    now = 1000.0
    server.clock = lambda: now
    watch(token_seconds=100, clock=lambda: now)
    for _ in range(125):
        server.requests.wait(len(server.requests.said) + 2)
        now += 2
    used = {seen.headers["X-aws-ec2-metadata-token"] for seen in polls(server)}
    assert len(used) == len(polls(server, TOKEN)) == 3
    assert 401 not in {seen.status for seen in list(server.requests.said)}


def test_a_server_that_takes_no_token_is_asked_again_and_again(server, heard, watch, caplog):
    class Forgetful(dict):
        def get(self, token):
            return None

    server.tokens = Forgetful()
    watch()
    server.requests.wait(12)
    server.tokens = {}
    server.preempt()
    heard.wait()
    assert "answered 401" in caplog.text
    assert len([record for record in caplog.records if "cannot ask" in record.message]) == 1


def test_a_broken_rebalance_endpoint_does_not_hide_the_termination(server, heard, watch):
    server.action = {"action": "terminate", "time": "2099-01-01T00:00:00Z"}
    server.rebalance = ["not an object"]
    watch()
    assert heard.wait()[0].kind == spot.Kind.TERMINATE


def test_where_containers_are_cut_off_the_log_says_what_to_set(server, watch, caplog):
    server.tokens = None  # breaks the server where it gives a token: the connection ends
    watch()
    server.requests.wait(2)
    assert "hop limit must be 2" in caplog.text
