"""Events from the outbox to the endpoints: signed, verified, tried again."""

import threading

import pytest
from standardwebhooks import Webhook

from storage import deliveries, endpoints
from tests import events, receivers
from workers.webhooks import deliver


def test_every_delivery_is_verified_by_the_public_library(database, receiver):
    events.add(database, receiver)
    ids = events.happen(database, 50)
    assert deliver.due(database, events.settings()) == deliver.Tally(delivered=50)
    assert sorted(receiver.ids) == sorted(ids)
    assert receiver.problems == []
    for row in events.rows(database):
        assert (row.state, row.attempts, row.status, row.error) == ("delivered", 1, 204, None)
        assert row.finished_at >= row.attempted_at
    assert deliver.due(database, events.settings()) == deliver.Tally()


def test_a_limit_is_kept(sqlite, receiver):
    events.add(sqlite, receiver)
    events.happen(sqlite, 10)
    assert deliver.due(sqlite, events.settings(), limit=3).delivered == 3
    stop = threading.Event()
    stop.set()
    assert deliver.due(sqlite, events.settings(), stop=stop).delivered == 0
    assert len(receiver.requests) == 3


def test_while_a_secret_is_rotated_both_verify_and_then_only_the_new_one(database, receiver):
    endpoint_id = events.add(database, receiver)
    old = Webhook(receiver.secret)
    fresh = database.run(
        lambda connection: endpoints.rotate(connection, endpoint_id, events.HOUR)
    ).get_secret_value()
    events.happen(database)
    deliver.due(database, events.settings())
    events.advance(database, events.HOUR + 1)
    events.happen(database)
    deliver.due(database, events.settings())
    during, after = receiver.requests
    assert receiver.problems[0].startswith(str(after.headers))  # by the old secret, and only after the hour
    assert len(receiver.problems) == 1
    old.verify(during.body, during.headers)
    for request in receiver.requests:
        Webhook(fresh).verify(request.body, request.headers)


@pytest.mark.parametrize(
    "behaviour",
    [
        receivers.answers(500),
        receivers.answers(302, {"Location": "http://127.0.0.1:9/"}),
        receivers.hangs,
        receivers.hangs_up,
        receivers.dribbles(b"HTTP/1.1 200 OK\r\nX: "),
        receivers.says(b"lies"),
        receivers.answers_too_late,
    ],
)
def test_what_failed_is_sent_again_under_the_same_id_until_it_is_taken(sqlite, receiver, behaviour):
    events.add(sqlite, receiver)
    receiver.behaviour = behaviour
    (message_id,) = events.happen(sqlite)
    hasty = events.settings(webhook_total_seconds=0.3)
    assert deliver.due(sqlite, hasty) == deliver.Tally(failed=1)
    assert deliver.due(sqlite, hasty) == deliver.Tally()  # not before it is due
    (row,) = events.rows(sqlite)
    assert (row.state, row.attempts) == ("pending", 1)
    assert row.error
    receiver.behaviour = receivers.answers(200)
    events.advance(sqlite, 6)
    assert deliver.due(sqlite, events.settings()) == deliver.Tally(delivered=1)
    assert receiver.ids == [message_id] * 2
    assert receiver.requests[0].body == receiver.requests[1].body
    assert receiver.problems == []
    assert events.endpoint(sqlite).failures == 0


def test_after_the_last_attempt_it_has_failed_and_can_be_delivered_by_hand(sqlite, receiver):
    events.add(sqlite, receiver)
    receiver.behaviour = receivers.answers(500, body=b"out of order")
    (message_id,) = events.happen(sqlite)
    hours = 0
    while events.rows(sqlite)[0].state == "pending" and hours < 200:
        deliver.due(sqlite, events.settings(webhook_disable_days=30))
        events.advance(sqlite, 4 * events.HOUR)
        hours += 4
    (row,) = events.rows(sqlite)
    assert (row.state, row.attempts, row.status, row.answer) == ("failed", 10, 500, "out of order")
    assert row.error == "it answered 500"
    assert 75 <= hours <= 130
    receiver.behaviour = receivers.answers(200)
    sqlite.run(lambda connection: deliveries.redeliver(connection, row.id))
    assert deliver.due(sqlite, events.settings()) == deliver.Tally(delivered=1)
    assert receiver.ids == [message_id] * 11


def test_what_is_being_sent_is_not_sent_again_by_hand_and_does_not_count(database, receiver):
    events.add(database, receiver)
    events.happen(database, 2)
    with database.write() as connection:
        (claimed,) = deliveries.claim(connection, 1, 60.0)
        assert not deliveries.redeliver(connection, claimed.id)
        assert deliveries.redeliver(connection, claimed.id + 1)
    assert [row.state for row in events.rows(database)] == ["sending", "pending"]


def test_410_disables_the_endpoint_and_what_was_missed_can_be_sent_later(database, receiver):
    endpoint_id = events.add(database, receiver)
    receiver.behaviour = receivers.answers(410)
    ids = events.happen(database, 9)
    deliver.due(database, events.settings())
    assert len(receiver.requests) <= deliveries.AT_ONCE
    assert events.endpoint(database).disabled_reason == "it answered 410 Gone"
    assert {row.state for row in events.rows(database)} == {"failed"}
    assert events.happen(database) == [None]
    with pytest.raises(endpoints.EndpointDisabledError, match="410 Gone"), database.write() as connection:
        deliveries.redeliver_failed(connection, endpoint_id)
    receiver.behaviour = receivers.answers(200)
    receiver.requests.clear()
    with database.write() as connection:
        endpoints.enable(connection, endpoint_id)
        assert deliveries.redeliver_failed(connection, endpoint_id) == 9
    assert deliver.due(database, events.settings()) == deliver.Tally(delivered=9)
    assert sorted(receiver.ids) == sorted(ids)
