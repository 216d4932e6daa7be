"""What is written into the outbox, for whom, and with which states."""

import json

import pytest
import sqlalchemy as sa

from scheduler import accept
from storage import endpoints, outbox, states
from storage.models import Corpus, Event, Job
from storage.outbox import EventType
from tests import corpus_maker, events, receivers
from workers.webhooks import deliver


def test_an_event_is_there_if_and_only_if_its_state_is(database, receiver):
    events.add(database, receiver)

    def unlucky(connection):
        assert outbox.write(connection, EventType.JOB_COMPLETED, {}, corpus_id=1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.run(unlucky)
    assert events.rows(database) == []
    deliver.due(database, events.settings())
    assert receiver.requests == []


def test_what_nobody_listens_for_is_not_written(sqlite, receiver):
    assert events.happen(sqlite) == [None]
    events.add(sqlite, receiver, "job.failed")
    assert events.happen(sqlite) == [None]
    assert events.happen(sqlite, event_type=EventType.JOB_FAILED) != [None]


def test_events_go_to_endpoints_of_all_corpora_and_to_those_that_the_corpus_named(database):
    mine, other = (corpus_maker.accepted(database, ["A text."], name=name).id for name in ("mine", "other"))
    with receivers.Receiver() as everything, receivers.Receiver() as named:
        events.add(database, everything)
        with database.write() as connection:
            first = endpoints.follow(connection, mine, named.url)
            assert endpoints.follow(connection, mine, named.url) == endpoints.Registered(first.id, None)
            endpoints.follow(connection, mine, everything.url)  # hears of it once all the same
        named.secret = first.secret.get_secret_value()
        (about_mine,) = events.happen(database, corpus_id=mine)
        (about_other,) = events.happen(database, corpus_id=other)
        assert deliver.due(database, events.settings()) == deliver.Tally(delivered=3)
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
    ids = events.happen(database, corpus_id=first.id)
    assert deliver.due(database, events.settings()) == deliver.Tally(delivered=1)
    assert (receiver.ids, receiver.problems) == (ids, [])


def test_what_is_told_of_a_job(database, receiver):
    events.add(database, receiver)
    corpus_maker.accepted(database, {"kapitel-ä": "A text."}, name="buch")
    audio = {"samples": 48_000, "sample_rate": 24_000, "audio_bytes": 9, "audio_sha256": "ff"}
    values = audio | {"audio_key": "audio/aa/a.mp3", "reason": "loop", "detail": "d" * 5000}
    told = {}
    for state in ("completed", "needs_review", "failed"):
        with database.write() as connection:
            connection.execute(sa.update(Job).values(state=state, **values))
            assert outbox.job_ended(connection, 1)
        deliver.due(database, events.settings())
        told[f"job.{state}"] = {
            "id": "kapitel-ä",
            "corpus": "buch",
            "state": state,
            "segments": {"total": 1, "failed": 0},
        }
    told["job.completed"] |= {"seconds": 2.0, "bytes": 9, "key": "audio/aa/a.mp3", "sha256": "ff"}
    told["job.failed"] |= {"reason": "loop", "detail": "d" * 1000}
    told["job.needs_review"] = told["job.completed"] | told["job.failed"] | {"state": "needs_review"}
    sent = [json.loads(request.body) for request in receiver.requests]
    assert {event["type"]: event["data"] for event in sent} == told


def test_what_is_told_of_a_corpus(database, receiver):
    events.add(database, receiver)
    corpus_maker.accepted(database, ["One text.", "Another text.", "A third text."], name="buch")
    told = {"jobs": {"total": 3, "completed": 2, "failed": 1}, "seconds": 4.0, "bytes": 18, "corpus": "buch"}
    with database.write() as connection:
        good = {"state": "completed", "samples": 48_000, "sample_rate": 24_000, "audio_bytes": 9}
        connection.execute(sa.update(Job).where(Job.c.id > 1).values(**good))
        connection.execute(sa.update(Job).where(Job.c.id == 1).values(state="failed"))
        for state in ("completed", "completed_with_errors", "cancelled"):
            connection.execute(sa.update(Corpus).values(state=state))
            assert outbox.corpus_ended(connection, 1)
    deliver.due(database, events.settings())
    for event in (json.loads(request.body) for request in receiver.requests):
        assert event["data"] == told | {"state": event["type"].removeprefix("corpus.")}
    assert len(receiver.requests) == 3


def test_every_end_has_its_event_and_no_other_state_has(database, receiver):
    events.add(database, receiver)
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
        assert set(connection.scalars(sa.select(Event.c.type))) == of_states


def test_an_event_that_tells_too_much_is_a_defect(sqlite, receiver):
    events.add(sqlite, receiver)
    with pytest.raises(ValueError, match="more than 20000 bytes"), sqlite.write() as connection:
        outbox.write(connection, EventType.JOB_FAILED, {"detail": "ü" * 10_000}, corpus_id=1)


def test_old_events_are_forgotten_once_nothing_is_left_to_do_for_them(database, receiver):
    events.add(database, receiver)
    events.happen(database, 3)
    deliver.due(database, events.settings())
    events.happen(database)
    with database.write() as connection:
        assert outbox.prune(connection, 60.0) == 0
        assert outbox.prune(connection, -1.0) == 3
    assert [row.state for row in events.rows(database)] == ["pending"]


def test_a_corpus_that_goes_takes_its_subscription_along(database, receiver):
    corpus_id = corpus_maker.accepted(database, ["A text."]).id
    with database.write() as connection:
        endpoints.follow(connection, corpus_id, receiver.url)
        connection.execute(sa.delete(Corpus))
    assert events.happen(database, corpus_id=corpus_id) == [None]
