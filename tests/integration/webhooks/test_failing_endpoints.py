"""Endpoints that are down, dead, overwhelmed or hostile: what it costs them, and nobody else."""

import threading
import time

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from storage import deliveries, endpoints
from storage.database import now
from storage.models import Endpoint
from tests import events, receivers
from workers.webhooks import deliver


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_with_too_much_to_do_gets_nothing_for_as_long_as_it_asks(sqlite, status):
    with receivers.Receiver() as busy, receivers.Receiver() as other:
        events.add(sqlite, busy)
        busy.behaviour = receivers.answers(status, {"Retry-After": "7200"})
        events.happen(sqlite, 1)
        deliver.due(sqlite, events.settings())
        events.add(sqlite, other)
        events.happen(sqlite, 10)
        events.advance(sqlite, 7100)
        assert deliver.due(sqlite, events.settings()) == deliver.Tally(delivered=10)
        assert (len(busy.requests), len(other.requests)) == (1, 10)
        busy.behaviour = receivers.answers(200)
        events.advance(sqlite, 101)
        assert deliver.due(sqlite, events.settings()) == deliver.Tally(delivered=11)


def test_a_dead_endpoint_delays_no_other(database):
    with receivers.Receiver(behaviour=receivers.hangs) as dead, receivers.Receiver() as alive:
        events.add(database, dead)
        events.happen(database, 40)
        events.add(database, alive)
        events.happen(database, 40)
        stop = threading.Event()
        work = threading.Thread(target=deliver.due, args=(database, events.settings()), kwargs={"stop": stop})
        work.start()
        alive.wait_for(40)
        assert work.is_alive()  # the dead one is being waited for all the while
        assert len(dead.requests) == deliveries.AT_ONCE
        stop.set()
        dead._released.set()
        work.join()
        assert alive.problems == dead.problems == []


def test_a_hostile_endpoint_stops_no_other(database):
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello"
    with receivers.Receiver(behaviour=receivers.says(said)) as hostile, receivers.Receiver() as good:
        events.add(database, hostile)
        events.add(database, good)
        ids = events.happen(database, 30)
        assert deliver.due(database, events.settings()) == deliver.Tally(delivered=60)
        assert sorted(good.ids) == sorted(hostile.ids) == sorted(ids)
        assert good.problems == []


def test_a_delivery_that_breaks_is_a_failed_attempt_of_its_own_and_stops_no_other(database, caplog):
    with receivers.Receiver() as never, receivers.Receiver() as good:
        broken = events.add(database, never)
        events.add(database, good)
        with database.write() as connection:  # nobody can sign with it
            no_secret = sa.update(Endpoint).where(Endpoint.c.id == broken)
            connection.execute(no_secret.values(secret=SecretStr("whsec_x")))
        ids = events.happen(database, 30)
        tally = deliver.due(database, events.settings())
        assert sorted(good.ids) == sorted(ids)
        assert never.requests == []
    assert (tally.delivered, 0 < tally.failed < 30) == (30, True)
    tried = [row for row in events.rows(database) if row.endpoint_id == broken and row.attempts]
    assert {(row.state, row.attempts, row.error) for row in tried} == {("pending", 1, "unexpected Error")}
    assert len(tried) == tally.failed == events.endpoint(database, broken).failures
    assert caplog.text.count("broke\nTraceback") == tally.failed


def test_an_attempt_that_cannot_be_recorded_stops_no_other_and_is_made_again(database, caplog):
    with receivers.Receiver() as lost, receivers.Receiver() as good:
        broken = events.add(database, lost)
        events.add(database, good)

        class Forgetful(deliver.Post):
            def _record(self, connection, claimed, answer):
                if claimed.endpoint_id == broken:
                    raise LookupError
                return super()._record(connection, claimed, answer)

        (message_id,) = events.happen(database)
        ids = [message_id, *events.happen(database, 20)]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(deliver, "Post", Forgetful)
            assert deliver.due(database, events.settings()) == deliver.Tally(
                delivered=21, failed=deliveries.AT_ONCE
            )
        assert sorted(good.ids) == sorted(ids)
        assert "could not be recorded" in caplog.text
        lost.requests.clear()
        events.advance(database, events.settings().lease_seconds)
        assert deliver.due(database, events.settings()) == deliver.Tally(delivered=21)
        assert sorted(lost.ids) == sorted(ids)


def test_an_endpoint_that_is_down_does_not_burn_the_attempts_of_every_event(database, receiver):
    events.add(database, receiver)
    receiver.behaviour = receivers.answers(500)
    ids = events.happen(database, 60)
    for _ in range(24):
        deliver.due(database, events.settings())
        events.advance(database, events.HOUR)
    assert len(receiver.requests) < 5 + deliveries.AT_ONCE + 24
    assert {row.state for row in events.rows(database)} == {"pending"}
    receiver.behaviour = receivers.answers(200)
    receiver.requests.clear()
    events.advance(database, 24 * events.HOUR)
    assert deliver.due(database, events.settings()) == deliver.Tally(delivered=60)
    assert sorted(receiver.ids) == sorted(ids)


def test_a_circuit_that_may_close_is_probed_once_at_a_time(database, receiver):
    events.add(database, receiver)
    events.happen(database, 20)
    with database.write() as connection:
        connection.execute(sa.update(Endpoint).values(failures=7, failing_since=now(), blocked_until=now() - 1))
        (claimed,) = deliveries.claim(connection, 16, 60.0)
        assert deliveries.claim(connection, 16, 60.0) == []
        assert not deliveries.is_due(connection)
        assert deliveries.succeed(connection, claimed, deliveries.Attempt(200, None, None))
        endpoints.succeeded(connection, 1)
        assert len(deliveries.claim(connection, 16, 60.0)) == deliveries.AT_ONCE


def test_an_endpoint_that_does_nothing_but_fail_for_days_is_disabled(sqlite, receiver):
    events.add(sqlite, receiver)
    receiver.behaviour = receivers.answers(404)
    for day in range(7):
        assert (events.endpoint(sqlite).disabled_at is None) == (day < 6)
        events.happen(sqlite)
        deliver.due(sqlite, events.settings())
        events.advance(sqlite, 24 * events.HOUR)
    assert events.endpoint(sqlite).disabled_reason == "it did nothing but fail for 5 days"
    assert {row.state for row in events.rows(sqlite)} == {"failed"}


def test_one_success_forgives_all_failures(sqlite, receiver):
    events.add(sqlite, receiver)
    receiver.behaviour = receivers.answers(404)
    events.happen(sqlite)
    deliver.due(sqlite, events.settings())
    events.advance(sqlite, 4 * 24 * events.HOUR)
    receiver.behaviour = receivers.answers(200)
    deliver.due(sqlite, events.settings())
    receiver.behaviour = receivers.answers(404)
    events.happen(sqlite)
    deliver.due(sqlite, events.settings())
    events.advance(sqlite, 4 * 24 * events.HOUR)
    deliver.due(sqlite, events.settings())
    assert events.endpoint(sqlite).disabled_at is None
    assert events.endpoint(sqlite).failures == 2


def test_an_endpoint_that_is_down_for_a_day_of_a_faster_clock_gets_everything(database, receiver):
    events.add(database, receiver)
    receiver.behaviour = receivers.answers(503)
    day = 2.0  # seconds
    fast = events.settings(webhook_clock_speed=24 * events.HOUR / day)
    started, waiting = time.monotonic(), threading.Event()
    ids = events.happen(database, 10)
    while time.monotonic() - started < day:
        deliver.due(database, fast)
        if len(ids) < 20 and time.monotonic() - started > day / 2:
            ids += events.happen(database, 10)
    assert len(receiver.requests) > 3
    assert {row.state for row in events.rows(database)} == {"pending"}
    receiver.behaviour = receivers.answers(200)
    receiver.requests.clear()
    while {row.state for row in events.rows(database)} != {"delivered"} and time.monotonic() - started < 60:
        deliver.due(database, fast)
        waiting.wait(0.05)
    assert sorted(receiver.ids) == sorted(ids)
    assert receiver.problems == []
