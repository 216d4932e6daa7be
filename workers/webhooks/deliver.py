"""Sends what is due: claim, sign, send, record. At least once: a deliverer that vanishes leaves its leases to run out.

Any number may run at once, in threads, processes and on machines. Attempts are counted when they are recorded, so one
that was interrupted is made again, under the same `webhook-id`.
"""

import logging
import time
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass
from threading import Event

import sqlalchemy as sa

from storage import deliveries, endpoints, errors, outbox
from storage.database import Database, now
from workers.webhooks import schedule, send, sign, targets
from workers.webhooks.settings import WebhookSettings

log = logging.getLogger(__name__)

THREADS = 16  # attempts under way at once
POLL = 0.5  # seconds between looks for what has fallen due while others are under way
DAY = 86_400.0  # seconds
TEST = "webhook.test"  # the type of an event that tells of nothing


@dataclass(slots=True)
class Tally:
    """What was done."""

    delivered: int = 0
    failed: int = 0  # attempts that were, whether or not there will be another


class Post:
    """Delivers from a database, by settings."""

    def __init__(
        self, database: Database, settings: WebhookSettings, sender: send.Sender | None = None
    ) -> None:
        self._database = database
        self._settings = settings
        self._sender = sender or send.Sender(settings)

    def claim(self, limit: int) -> "list[Round]":
        """Take up to so many deliveries that are due."""
        with self._database.read() as connection:
            if not deliveries.is_due(connection):  # so that looking for work never takes SQLite's write lock
                return []
        expires = time.monotonic() + self._settings.lease_seconds
        claimed = self._database.run(
            lambda connection: deliveries.claim(connection, limit, self._settings.lease_seconds)
        )
        return [Round(item, expires - self._settings.webhook_total_seconds) for item in claimed]

    def attempt(self, round_: "Round") -> bool | None:
        """Send one claimed delivery and record what came of it: whether it was taken; None where its lease was lost."""
        claimed = round_.claimed
        if time.monotonic() > round_.send_before:
            return None  # we were stopped for so long that somebody else may send it by now
        try:
            return self._recorded(claimed, self._sent(claimed))
        except errors.VoicemillError:  # the database is away: nothing can be recorded, and the lease runs out
            raise
        except Exception as error:  # of this one alone: counted like any other failure, so that it ends
            log.exception("webhook %s to endpoint %d broke", claimed.message_id, claimed.endpoint_id)
            return self._recorded(claimed, send.Answer(error=f"unexpected {type(error).__name__}"))

    def _sent(self, claimed: deliveries.Claimed) -> send.Answer:
        headers = sign.headers(claimed.message_id, claimed.at, claimed.body, claimed.secrets)
        return self._sender.post(claimed.url, headers, claimed.body.encode())

    def _recorded(self, claimed: deliveries.Claimed, answer: send.Answer) -> bool | None:
        recorded = self._database.run(lambda connection: self._record(connection, claimed, answer))
        return answer.accepted if recorded else None

    def _record(self, connection: sa.Connection, claimed: deliveries.Claimed, answer: send.Answer) -> bool:
        health = endpoints.lock(connection, claimed.endpoint_id)
        if health is None:  # removed meanwhile, and its deliveries with it
            return False
        if answer.accepted:
            done = deliveries.succeed(connection, claimed, deliveries.Attempt(answer.status, None, answer.body))
            if done:
                endpoints.succeeded(connection, claimed.endpoint_id)
            return done
        return self._record_failure(connection, claimed, answer, health)

    def _record_failure(
        self,
        connection: sa.Connection,
        claimed: deliveries.Claimed,
        answer: send.Answer,
        health: endpoints.Health,
    ) -> bool:
        speed = self._settings.webhook_clock_speed
        verdict = self._verdict(answer, health)
        retry = schedule.retry_in(claimed.attempts + 1, answer.retry_after)
        final = retry is None or verdict is not None or health.is_disabled
        error = answer.error or f"it answered {answer.status}"
        attempt = deliveries.Attempt(answer.status, error, answer.body)
        if not deliveries.fail(connection, claimed, attempt, None if final else (retry or 0.0) / speed):
            return False
        log.warning(
            "webhook %s to endpoint %d (%s), attempt %d failed%s: %s",
            claimed.message_id,
            claimed.endpoint_id,
            host(claimed.url),
            claimed.attempts + 1,
            " for good" if final else "",
            error,
        )
        block = schedule.block_for(health.failures + 1, answer.status, answer.retry_after) / speed
        endpoints.failed(connection, claimed.endpoint_id, block)
        if verdict is not None and not health.is_disabled:
            endpoints.disable(connection, claimed.endpoint_id, verdict)
            log.error(
                "webhook endpoint %d (%s) is disabled: %s", claimed.endpoint_id, host(claimed.url), verdict
            )
        return True

    def _verdict(self, answer: send.Answer, health: endpoints.Health) -> str | None:
        """Why the endpoint is to be sent nothing more, if so."""
        if answer.status == 410:
            return "it answered 410 Gone"
        days = self._settings.webhook_disable_days
        if health.failing_seconds * self._settings.webhook_clock_speed > days * DAY:
            return f"it did nothing but fail for {days:g} days"
        return None


@dataclass(frozen=True, slots=True)
class Round:
    """A claimed delivery, and the time by our own clock after which it is no longer ours to send."""

    claimed: deliveries.Claimed
    send_before: float


def due(
    database: Database,
    settings: WebhookSettings,
    limit: int = 1000,
    *,
    stop: Event | None = None,
    sender: send.Sender | None = None,
) -> Tally:
    """Send what is due, up to so many attempts, and what falls due meanwhile. `stop` ends it after those under way."""
    post, tally, claimed = Post(database, settings, sender), Tally(), 0
    running: set[futures.Future[bool | None]] = set()
    with futures.ThreadPoolExecutor(THREADS, thread_name_prefix="webhook") as pool:
        while True:
            room = min(THREADS - len(running), limit - claimed)
            rounds = post.claim(room) if room > 0 and not (stop and stop.is_set()) else []
            claimed += len(rounds)
            running |= {pool.submit(post.attempt, round_) for round_ in rounds}
            if not running:
                return tally
            ended, running = futures.wait(running, POLL, futures.FIRST_COMPLETED)
            _count(tally, [_outcome(future) for future in ended])


def trial(database: Database, settings: WebhookSettings, endpoint_id: int) -> send.Answer:
    """Send an endpoint an event that tells of nothing, once, and leave no trace of it. Raises UnknownEndpointError."""
    with database.read() as connection:
        endpoint = endpoints.find(connection, endpoint_id)
        at = connection.execute(sa.select(now())).scalar_one()
    body = outbox.body(TEST, at, {"endpoint": endpoint_id})
    headers = sign.headers(outbox.new_message_id(), at, body, endpoints.live_secrets(endpoint, at))
    return send.Sender(settings).post(endpoint.url, headers, body.encode())


def host(url: str) -> str:
    """The host of a URL, for logs: the rest of it may be a secret."""
    try:
        return targets.parse(url).authority
    except errors.InputError:
        return "a bad URL"


def _outcome(attempt: "futures.Future[bool | None]") -> bool | None:
    """Whether it was taken. What breaks one attempt keeps no other from being made; its lease runs out."""
    try:
        return attempt.result()
    except errors.VoicemillError as error:
        log.warning("what came of a webhook could not be recorded: %s", error)
    except Exception:
        log.exception("what came of a webhook could not be recorded")
    return False


def _count(tally: Tally, results: Sequence[bool | None]) -> None:
    tally.delivered += results.count(True)
    tally.failed += results.count(False)
