"""Events from the outbox to the endpoints, whatever the endpoints and the deliverers do."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from standardwebhooks import Webhook

from scheduler import accept
from storage import deliveries, endpoints, outbox, signing, states
from storage.database import Database, now
from storage.models import Corpus, Delivery, Endpoint, Event, Job
from storage.outbox import EventType
from tests import corpus_maker, receivers
from workers.webhooks import deliver
from workers.webhooks.settings import WebhookSettings

HOUR = 3600.0


def settings(**given):
    patient = {"webhook_connect_seconds": 10, "webhook_total_seconds": 30}
    return WebhookSettings(**{"webhook_allow_private": True, **patient, **given})


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def sqlite(sqlite_url):
    """Where the database's kind makes no difference."""
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture
def receiver():
    with receivers.Receiver() as receiver:
        yield receiver


def add(database, receiver, *events):
    """Register a receiver that verifies with its endpoint's secret from now on: the endpoint's number."""
    made = database.run(lambda connection: endpoints.add(connection, receiver.url, events))
    receiver.secret = made.secret.get_secret_value()
    return made.id


def happen(database, count=1, event_type=EventType.JOB_COMPLETED, corpus_id=1):
    """Write events into the outbox: their ids."""
    with database.write() as connection:
        return [
            outbox.write(connection, event_type, {"id": f"job-{number}"}, corpus_id=corpus_id)
            for number in range(count)
        ]


def advance(database, seconds):
    """Let the database's clock be so much later, as far as endpoints and deliveries can tell."""
    earlier = {name: getattr(Endpoint, name) - seconds for name in ("failing_since", "blocked_until")}
    with database.write() as connection:
        connection.execute(
            sa.update(Endpoint).values(old_secret_until=Endpoint.old_secret_until - seconds, **earlier)
        )
        connection.execute(sa.update(Delivery).values(due_at=Delivery.due_at - seconds))


def rows(database):
    with database.read() as connection:
        return deliveries.latest(connection, limit=10_000)[::-1]


def endpoint(database, endpoint_id=1):
    with database.read() as connection:
        return endpoints.find(connection, endpoint_id)


# What is written


def test_an_event_is_there_if_and_only_if_its_state_is(database, receiver):
    add(database, receiver)

    def unlucky(connection):
        assert outbox.write(connection, EventType.JOB_COMPLETED, {}, corpus_id=1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.run(unlucky)
    assert rows(database) == []
    deliver.due(database, settings())
    assert receiver.requests == []


def test_what_nobody_listens_for_is_not_written(sqlite, receiver):
    assert happen(sqlite) == [None]
    add(sqlite, receiver, "job.failed")
    assert happen(sqlite) == [None]
    assert happen(sqlite, event_type=EventType.JOB_FAILED) != [None]


def test_events_go_to_endpoints_of_all_corpora_and_to_those_that_the_corpus_named(database):
    mine, other = (corpus_maker.accepted(database, ["A text."], name=name).id for name in ("mine", "other"))
    with receivers.Receiver() as everything, receivers.Receiver() as named:
        add(database, everything)
        with database.write() as connection:
            first = endpoints.follow(connection, mine, named.url)
            assert endpoints.follow(connection, mine, named.url) == endpoints.Registered(first.id, None)
            endpoints.follow(connection, mine, everything.url)  # hears of it once all the same
        named.secret = first.secret.get_secret_value()
        (about_mine,) = happen(database, corpus_id=mine)
        (about_other,) = happen(database, corpus_id=other)
        assert deliver.due(database, settings()) == deliver.Tally(delivered=3)
        assert sorted(everything.ids) == sorted([about_mine, about_other])
        assert named.ids == [about_mine]
        assert everything.problems == named.problems == []


def test_a_webhook_that_is_named_when_a_corpus_is_submitted_again_hears_of_it_too(database, receiver):
    def submit(webhook=None, text="A text."):
        return corpus_maker.accepted(database, [text], name="mine", webhook=webhook)

    first = submit()
    assert first.created
    again = submit(receiver.url)
    assert (again.id, again.created) == (first.id, False)
    receiver.secret = again.secret.get_secret_value()
    assert submit(receiver.url).secret is None
    with pytest.raises(accept.NameTakenError):
        submit(receiver.url + "&other", "Another text.")
    with database.read() as connection:
        assert [row.url for row in endpoints.each(connection)] == [receiver.url]
    ids = happen(database, corpus_id=first.id)
    assert deliver.due(database, settings()) == deliver.Tally(delivered=1)
    assert (receiver.ids, receiver.problems) == (ids, [])


def test_what_is_told_of_a_job(database, receiver):
    add(database, receiver)
    corpus_maker.accepted(database, {"kapitel-ä": "A text."}, name="buch")
    audio = {"samples": 48_000, "sample_rate": 24_000, "audio_bytes": 9, "audio_sha256": "ff"}
    values = audio | {"audio_key": "audio/aa/a.mp3", "reason": "loop", "detail": "d" * 5000}
    told = {}
    for state in ("completed", "needs_review", "failed"):
        with database.write() as connection:
            connection.execute(sa.update(Job).values(state=state, **values))
            assert outbox.job_ended(connection, 1)
        deliver.due(database, settings())
        told[f"job.{state}"] = {
            "id": "kapitel-ä",
            "corpus": "buch",
            "state": state,
            "segments": {"total": 1, "failed": 0},
        }
    told["job.completed"] |= {"seconds": 2.0, "bytes": 9, "key": "audio/aa/a.mp3", "sha256": "ff"}
    told["job.failed"] |= {"reason": "loop", "detail": "d" * 1000}
    told["job.needs_review"] = told["job.completed"] | told["job.failed"] | {"state": "needs_review"}
    events = [json.loads(request.body) for request in receiver.requests]
    assert {event["type"]: event["data"] for event in events} == told


def test_what_is_told_of_a_corpus(database, receiver):
    add(database, receiver)
    corpus_maker.accepted(database, ["One text.", "Another text.", "A third text."], name="buch")
    told = {"jobs": {"total": 3, "completed": 2, "failed": 1}, "seconds": 4.0, "bytes": 18, "corpus": "buch"}
    with database.write() as connection:
        good = {"state": "completed", "samples": 48_000, "sample_rate": 24_000, "audio_bytes": 9}
        connection.execute(sa.update(Job).where(Job.id > 1).values(**good))
        connection.execute(sa.update(Job).where(Job.id == 1).values(state="failed"))
        for state in ("completed", "completed_with_errors", "cancelled"):
            connection.execute(sa.update(Corpus).values(state=state))
            assert outbox.corpus_ended(connection, 1)
    deliver.due(database, settings())
    for event in (json.loads(request.body) for request in receiver.requests):
        assert event["data"] == told | {"state": event["type"].removeprefix("corpus.")}
    assert len(receiver.requests) == 3


def test_every_end_has_its_event_and_no_other_state_has(database, receiver):
    add(database, receiver)
    corpus_maker.accepted(database, ["A text."])
    ended = []
    with database.write() as connection:
        for state in states.Job:
            audio = {"samples": 1, "sample_rate": 1} if state in states.AUDIBLE_JOBS else {}
            connection.execute(sa.update(Job).values(state=state, **audio))
            ended += [state] if outbox.job_ended(connection, 1) else []
        for corpus_state in states.Corpus:
            connection.execute(sa.update(Corpus).values(state=corpus_state))
            ended += [corpus_state] if outbox.corpus_ended(connection, 1) else []
    assert ended == ["completed", "needs_review", "failed", "completed", "completed_with_errors", "cancelled"]
    with database.read() as connection:
        of_states = set(EventType) - {EventType.JOB_THAWED}  # of its files
        assert set(connection.scalars(sa.select(Event.type))) == of_states


def test_an_event_that_tells_too_much_is_a_defect(sqlite, receiver):
    add(sqlite, receiver)
    with pytest.raises(ValueError, match="more than 20000 bytes"), sqlite.write() as connection:
        outbox.write(connection, EventType.JOB_FAILED, {"detail": "ü" * 10_000}, corpus_id=1)


def test_old_events_are_forgotten_once_nothing_is_left_to_do_for_them(database, receiver):
    add(database, receiver)
    happen(database, 3)
    deliver.due(database, settings())
    happen(database)
    with database.write() as connection:
        assert outbox.prune(connection, 60.0) == 0
        assert outbox.prune(connection, -1.0) == 3
    assert [row.state for row in rows(database)] == ["pending"]


def test_a_corpus_that_goes_takes_its_subscription_along(database, receiver):
    corpus_id = corpus_maker.accepted(database, ["A text."]).id
    with database.write() as connection:
        endpoints.follow(connection, corpus_id, receiver.url)
        connection.execute(sa.delete(Corpus))
    assert happen(database, corpus_id=corpus_id) == [None]


# What is sent


def test_every_delivery_is_verified_by_the_public_library(database, receiver):
    add(database, receiver)
    ids = happen(database, 50)
    assert deliver.due(database, settings()) == deliver.Tally(delivered=50)
    assert sorted(receiver.ids) == sorted(ids)
    assert receiver.problems == []
    for row in rows(database):
        assert (row.state, row.attempts, row.status, row.error) == ("delivered", 1, 204, None)
        assert row.finished_at >= row.attempted_at
    assert deliver.due(database, settings()) == deliver.Tally()


def test_a_limit_is_kept(sqlite, receiver):
    add(sqlite, receiver)
    happen(sqlite, 10)
    assert deliver.due(sqlite, settings(), limit=3).delivered == 3
    stop = threading.Event()
    stop.set()
    assert deliver.due(sqlite, settings(), stop=stop).delivered == 0
    assert len(receiver.requests) == 3


def test_while_a_secret_is_rotated_both_verify_and_then_only_the_new_one(database, receiver):
    endpoint_id = add(database, receiver)
    old = Webhook(receiver.secret)
    fresh = database.run(lambda connection: endpoints.rotate(connection, endpoint_id, HOUR)).get_secret_value()
    happen(database)
    deliver.due(database, settings())
    advance(database, HOUR + 1)
    happen(database)
    deliver.due(database, settings())
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
    add(sqlite, receiver)
    receiver.behaviour = behaviour
    (message_id,) = happen(sqlite)
    hasty = settings(webhook_total_seconds=0.3)
    assert deliver.due(sqlite, hasty) == deliver.Tally(failed=1)
    assert deliver.due(sqlite, hasty) == deliver.Tally()  # not before it is due
    (row,) = rows(sqlite)
    assert (row.state, row.attempts) == ("pending", 1)
    assert row.error
    receiver.behaviour = receivers.answers(200)
    advance(sqlite, 6)
    assert deliver.due(sqlite, settings()) == deliver.Tally(delivered=1)
    assert receiver.ids == [message_id] * 2
    assert receiver.requests[0].body == receiver.requests[1].body
    assert receiver.problems == []
    assert endpoint(sqlite).failures == 0


def test_after_the_last_attempt_it_has_failed_and_can_be_delivered_by_hand(sqlite, receiver):
    add(sqlite, receiver)
    receiver.behaviour = receivers.answers(500, body=b"out of order")
    (message_id,) = happen(sqlite)
    hours = 0
    while rows(sqlite)[0].state == "pending" and hours < 200:
        deliver.due(sqlite, settings(webhook_disable_days=30))
        advance(sqlite, 4 * HOUR)
        hours += 4
    (row,) = rows(sqlite)
    assert (row.state, row.attempts, row.status, row.answer) == ("failed", 10, 500, "out of order")
    assert row.error == "it answered 500"
    assert 75 <= hours <= 130
    receiver.behaviour = receivers.answers(200)
    sqlite.run(lambda connection: deliveries.redeliver(connection, row.id))
    assert deliver.due(sqlite, settings()) == deliver.Tally(delivered=1)
    assert receiver.ids == [message_id] * 11


def test_what_is_being_sent_is_not_sent_again_by_hand_and_does_not_count(database, receiver):
    add(database, receiver)
    happen(database, 2)
    with database.write() as connection:
        (claimed,) = deliveries.claim(connection, 1, 60.0)
        assert not deliveries.redeliver(connection, claimed.id)
        assert deliveries.redeliver(connection, claimed.id + 1)
    assert [row.state for row in rows(database)] == ["sending", "pending"]


def test_410_disables_the_endpoint_and_what_was_missed_can_be_sent_later(database, receiver):
    endpoint_id = add(database, receiver)
    receiver.behaviour = receivers.answers(410)
    ids = happen(database, 9)
    deliver.due(database, settings())
    assert len(receiver.requests) <= deliveries.AT_ONCE
    assert endpoint(database).disabled_reason == "it answered 410 Gone"
    assert {row.state for row in rows(database)} == {"failed"}
    assert happen(database) == [None]
    with pytest.raises(endpoints.EndpointDisabledError, match="410 Gone"), database.write() as connection:
        deliveries.redeliver_failed(connection, endpoint_id)
    receiver.behaviour = receivers.answers(200)
    receiver.requests.clear()
    with database.write() as connection:
        endpoints.enable(connection, endpoint_id)
        assert deliveries.redeliver_failed(connection, endpoint_id) == 9
    assert deliver.due(database, settings()) == deliver.Tally(delivered=9)
    assert sorted(receiver.ids) == sorted(ids)


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_with_too_much_to_do_gets_nothing_for_as_long_as_it_asks(sqlite, status):
    with receivers.Receiver() as busy, receivers.Receiver() as other:
        add(sqlite, busy)
        busy.behaviour = receivers.answers(status, {"Retry-After": "7200"})
        happen(sqlite, 1)
        deliver.due(sqlite, settings())
        add(sqlite, other)
        happen(sqlite, 10)
        advance(sqlite, 7100)
        assert deliver.due(sqlite, settings()) == deliver.Tally(delivered=10)
        assert (len(busy.requests), len(other.requests)) == (1, 10)
        busy.behaviour = receivers.answers(200)
        advance(sqlite, 101)
        assert deliver.due(sqlite, settings()) == deliver.Tally(delivered=11)


def test_a_dead_endpoint_delays_no_other(database):
    with receivers.Receiver(behaviour=receivers.hangs) as dead, receivers.Receiver() as alive:
        add(database, dead)
        happen(database, 40)
        add(database, alive)
        happen(database, 40)
        stop = threading.Event()
        work = threading.Thread(target=deliver.due, args=(database, settings()), kwargs={"stop": stop})
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
        add(database, hostile)
        add(database, good)
        ids = happen(database, 30)
        assert deliver.due(database, settings()) == deliver.Tally(delivered=60)
        assert sorted(good.ids) == sorted(hostile.ids) == sorted(ids)
        assert good.problems == []


def test_a_delivery_that_breaks_is_a_failed_attempt_of_its_own_and_stops_no_other(database, caplog):
    with receivers.Receiver() as never, receivers.Receiver() as good:
        broken = add(database, never)
        add(database, good)
        with database.write() as connection:  # nobody can sign with it
            no_secret = sa.update(Endpoint).where(Endpoint.id == broken)
            connection.execute(no_secret.values(secret=SecretStr("whsec_x")))
        ids = happen(database, 30)
        tally = deliver.due(database, settings())
        assert sorted(good.ids) == sorted(ids)
        assert never.requests == []
    assert (tally.delivered, 0 < tally.failed < 30) == (30, True)
    tried = [row for row in rows(database) if row.endpoint_id == broken and row.attempts]
    assert {(row.state, row.attempts, row.error) for row in tried} == {("pending", 1, "unexpected Error")}
    assert len(tried) == tally.failed == endpoint(database, broken).failures
    assert caplog.text.count("broke\nTraceback") == tally.failed


def test_an_attempt_that_cannot_be_recorded_stops_no_other_and_is_made_again(database, caplog):
    with receivers.Receiver() as lost, receivers.Receiver() as good:
        broken = add(database, lost)
        add(database, good)

        class Forgetful(deliver.Post):
            def _record(self, connection, claimed, answer):
                if claimed.endpoint_id == broken:
                    raise LookupError
                return super()._record(connection, claimed, answer)

        (message_id,) = happen(database)
        ids = [message_id, *happen(database, 20)]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(deliver, "Post", Forgetful)
            assert deliver.due(database, settings()) == deliver.Tally(delivered=21, failed=deliveries.AT_ONCE)
        assert sorted(good.ids) == sorted(ids)
        assert "could not be recorded" in caplog.text
        lost.requests.clear()
        advance(database, settings().lease_seconds)
        assert deliver.due(database, settings()) == deliver.Tally(delivered=21)
        assert sorted(lost.ids) == sorted(ids)


def test_an_endpoint_that_is_down_does_not_burn_the_attempts_of_every_event(database, receiver):
    add(database, receiver)
    receiver.behaviour = receivers.answers(500)
    ids = happen(database, 60)
    for _ in range(24):
        deliver.due(database, settings())
        advance(database, HOUR)
    assert len(receiver.requests) < 5 + deliveries.AT_ONCE + 24
    assert {row.state for row in rows(database)} == {"pending"}
    receiver.behaviour = receivers.answers(200)
    receiver.requests.clear()
    advance(database, 24 * HOUR)
    assert deliver.due(database, settings()) == deliver.Tally(delivered=60)
    assert sorted(receiver.ids) == sorted(ids)


def test_a_circuit_that_may_close_is_probed_once_at_a_time(database, receiver):
    add(database, receiver)
    happen(database, 20)
    with database.write() as connection:
        connection.execute(sa.update(Endpoint).values(failures=7, failing_since=now(), blocked_until=now() - 1))
        (claimed,) = deliveries.claim(connection, 16, 60.0)
        assert deliveries.claim(connection, 16, 60.0) == []
        assert not deliveries.is_due(connection)
        assert deliveries.succeed(connection, claimed, deliveries.Attempt(200, None, None))
        endpoints.succeeded(connection, 1)
        assert len(deliveries.claim(connection, 16, 60.0)) == deliveries.AT_ONCE


def test_an_endpoint_that_does_nothing_but_fail_for_days_is_disabled(sqlite, receiver):
    add(sqlite, receiver)
    receiver.behaviour = receivers.answers(404)
    for day in range(7):
        assert (endpoint(sqlite).disabled_at is None) == (day < 6)
        happen(sqlite)
        deliver.due(sqlite, settings())
        advance(sqlite, 24 * HOUR)
    assert endpoint(sqlite).disabled_reason == "it did nothing but fail for 5 days"
    assert {row.state for row in rows(sqlite)} == {"failed"}


def test_one_success_forgives_all_failures(sqlite, receiver):
    add(sqlite, receiver)
    receiver.behaviour = receivers.answers(404)
    happen(sqlite)
    deliver.due(sqlite, settings())
    advance(sqlite, 4 * 24 * HOUR)
    receiver.behaviour = receivers.answers(200)
    deliver.due(sqlite, settings())
    receiver.behaviour = receivers.answers(404)
    happen(sqlite)
    deliver.due(sqlite, settings())
    advance(sqlite, 4 * 24 * HOUR)
    deliver.due(sqlite, settings())
    assert endpoint(sqlite).disabled_at is None
    assert endpoint(sqlite).failures == 2


def test_an_endpoint_that_is_down_for_a_day_of_a_faster_clock_gets_everything(database, receiver):
    add(database, receiver)
    receiver.behaviour = receivers.answers(503)
    day = 2.0  # seconds
    fast = settings(webhook_clock_speed=24 * HOUR / day)
    started, waiting = time.monotonic(), threading.Event()
    ids = happen(database, 10)
    while time.monotonic() - started < day:
        deliver.due(database, fast)
        if len(ids) < 20 and time.monotonic() - started > day / 2:
            ids += happen(database, 10)
    assert len(receiver.requests) > 3
    assert {row.state for row in rows(database)} == {"pending"}
    receiver.behaviour = receivers.answers(200)
    receiver.requests.clear()
    while {row.state for row in rows(database)} != {"delivered"} and time.monotonic() - started < 60:
        deliver.due(database, fast)
        waiting.wait(0.05)
    assert sorted(receiver.ids) == sorted(ids)
    assert receiver.problems == []


# What deliverers do


def test_several_deliverers_send_no_attempt_twice(database_url, receiver):
    databases = [Database(database_url) for _ in range(4)]
    add(databases[0], receiver)
    ids = happen(databases[0], 80)
    together = threading.Barrier(len(databases))
    tallies = []

    def work(database):
        together.wait()
        tallies.append(deliver.due(database, settings()))

    threads = [threading.Thread(target=work, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deliver.due(databases[0], settings())
    assert sorted(receiver.ids) == sorted(ids)
    for database in databases:
        database.close()


DELIVERER = """
import sys
from storage.database import Database
from workers.webhooks import deliver
from workers.webhooks.settings import WebhookSettings
deliver.due(Database(sys.argv[1]), WebhookSettings(webhook_allow_private=True))
"""


def test_a_deliverer_that_is_killed_before_it_recorded_anything_loses_nothing(database, database_url, receiver):
    add(database, receiver)
    (message_id,) = happen(database)
    receiver.behaviour = receivers.hangs
    with subprocess.Popen([sys.executable, "-c", DELIVERER, database_url]) as process:
        receiver.wait_for(1)  # it was sent, and has not been recorded
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    receiver.behaviour = receivers.answers(200)
    (row,) = rows(database)
    assert (row.state, row.attempts) == ("sending", 0)
    assert deliver.due(database, settings()) == deliver.Tally()  # its lease holds
    advance(database, settings().lease_seconds)
    assert deliver.due(database, settings()) == deliver.Tally(delivered=1)
    assert receiver.ids == [message_id] * 2
    assert receiver.problems == []


def test_a_deliverer_that_lost_its_lease_records_nothing_and_one_that_slept_sends_nothing(database, receiver):
    add(database, receiver)
    happen(database)
    post = deliver.Post(database, settings())
    (slow,) = post.claim(1)
    advance(database, settings().lease_seconds + 1)
    assert deliver.due(database, settings()) == deliver.Tally(delivered=1)
    assert post.attempt(slow) is None  # it sends, since by its own clock it may, but does not record
    asleep = deliver.Round(slow.claimed, time.monotonic() - 1)
    assert post.attempt(asleep) is None
    assert len(receiver.requests) == 2
    assert rows(database)[0].attempts == 1


def test_an_endpoint_that_is_removed_while_it_is_sent_to(database, receiver):
    endpoint_id = add(database, receiver)
    happen(database, 2)
    post = deliver.Post(database, settings())
    (claimed, _) = post.claim(2)
    database.run(lambda connection: endpoints.remove(connection, endpoint_id))
    assert post.attempt(claimed) is None
    assert rows(database) == []
    with pytest.raises(endpoints.UnknownEndpointError), database.read() as connection:
        endpoints.find(connection, endpoint_id)


def test_an_endpoint_is_registered_once(database, receiver):
    add(database, receiver)
    with pytest.raises(endpoints.EndpointExistsError, match="endpoint 1 already"):
        add(database, receiver)


def test_secrets_are_in_no_log_and_no_traceback(database, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.DEBUG)
    try:
        endpoint_id = add(database, receiver)
        fresh = database.run(lambda connection: endpoints.rotate(connection, endpoint_id, HOUR))
        receiver.behaviour = receivers.answers(410)
        happen(database)
        deliver.due(database, settings())
        with pytest.raises(sa.exc.IntegrityError) as raised, database.write() as connection:
            values = {"url": receiver.url, "scope": "all", "events": [], "secret": fresh, "created_at": 0.0}
            connection.execute(sa.insert(Endpoint).values(**values))
    finally:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.NOTSET)
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "endpoint 1 (127.0.0.1" in caplog.text
    assert "INSERT INTO endpoints" in caplog.text + shown
    for secret in (receiver.secret, fresh.get_secret_value()):
        key = secret.removeprefix(signing.PREFIX)
        assert key not in caplog.text
        # The receiver is ours and knows its secret; a failed test may show it.
        assert key not in shown.replace(repr(receiver), "")
