"""Deliverers that meet, vanish, sleep or lose their lease, and what they may not tell."""

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

from storage import endpoints, signing
from storage.database import Database
from storage.models import Endpoint
from tests import events, receivers
from workers.webhooks import deliver


def test_several_deliverers_send_no_attempt_twice(database_url, receiver):
    databases = [Database(database_url) for _ in range(4)]
    events.add(databases[0], receiver)
    ids = events.happen(databases[0], 80)
    together = threading.Barrier(len(databases))
    tallies = []

    def work(database):
        together.wait()
        tallies.append(deliver.due(database, events.settings()))

    threads = [threading.Thread(target=work, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deliver.due(databases[0], events.settings())
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
    events.add(database, receiver)
    (message_id,) = events.happen(database)
    receiver.behaviour = receivers.hangs
    with subprocess.Popen([sys.executable, "-c", DELIVERER, database_url]) as process:
        receiver.wait_for(1)  # it was sent, and has not been recorded
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    receiver.behaviour = receivers.answers(200)
    (row,) = events.rows(database)
    assert (row.state, row.attempts) == ("sending", 0)
    assert deliver.due(database, events.settings()) == deliver.Tally()  # its lease holds
    events.advance(database, events.settings().lease_seconds)
    assert deliver.due(database, events.settings()) == deliver.Tally(delivered=1)
    assert receiver.ids == [message_id] * 2
    assert receiver.problems == []


def test_a_deliverer_that_lost_its_lease_records_nothing_and_one_that_slept_sends_nothing(database, receiver):
    events.add(database, receiver)
    events.happen(database)
    post = deliver.Post(database, events.settings())
    (slow,) = post.claim(1)
    events.advance(database, events.settings().lease_seconds + 1)
    assert deliver.due(database, events.settings()) == deliver.Tally(delivered=1)
    assert post.attempt(slow) is None  # it sends, since by its own clock it may, but does not record
    asleep = deliver.Round(slow.claimed, time.monotonic() - 1)
    assert post.attempt(asleep) is None
    assert len(receiver.requests) == 2
    assert events.rows(database)[0].attempts == 1


def test_an_endpoint_that_is_removed_while_it_is_sent_to(database, receiver):
    endpoint_id = events.add(database, receiver)
    events.happen(database, 2)
    post = deliver.Post(database, events.settings())
    (claimed, _) = post.claim(2)
    database.run(lambda connection: endpoints.remove(connection, endpoint_id))
    assert post.attempt(claimed) is None
    assert events.rows(database) == []
    with pytest.raises(endpoints.UnknownEndpointError), database.read() as connection:
        endpoints.find(connection, endpoint_id)


def test_an_endpoint_is_registered_once(database, receiver):
    events.add(database, receiver)
    with pytest.raises(endpoints.EndpointExistsError, match="endpoint 1 already"):
        events.add(database, receiver)


def test_secrets_are_in_no_log_and_no_traceback(database, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.DEBUG)
    try:
        endpoint_id = events.add(database, receiver)
        fresh = database.run(lambda connection: endpoints.rotate(connection, endpoint_id, events.HOUR))
        receiver.behaviour = receivers.answers(410)
        events.happen(database)
        deliver.due(database, events.settings())
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
