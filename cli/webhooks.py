"""`voicemill webhooks`: who is told what happens, and what came of it."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import click
from pydantic import SecretStr

from cli import show
from cli.exit_codes import ExitCode
from cli.place import NoStateError, Place, pass_place
from storage import deliveries, endpoints, errors, outbox, settings
from storage.database import Database
from workers.webhooks import deliver, listen, targets
from workers.webhooks.settings import WebhookSettings

JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
ENDPOINT = click.argument("endpoint_id", metavar="ENDPOINT", type=int)
KNOWN = ", ".join(outbox.EventType)


class UnknownEventError(errors.InputError):
    """There is no event {name!r}. There are {known}."""


@click.group("webhooks")
def command() -> None:
    """Tell other programs what happens, as signed webhooks (https://www.standardwebhooks.com).

    \b
    Example:
      voicemill webhooks add https://example.com/hooks --events corpus.completed
    """


@command.command("add")
@click.argument("url")
@click.option("--events", multiple=True, metavar="TYPE,...", help=f"Only these of {KNOWN}.")
@JSON
@pass_place
def add(place: Place, url: str, events: tuple[str, ...], as_json: bool) -> None:
    """Send the events of all corpora to URL, and print its secret, this one time.

    \b
    Example:
      voicemill webhooks add https://example.com/hooks --events job.failed,corpus.completed
    """
    targets.parse(url)
    wanted = [name.strip() for given in events for name in given.split(",") if name.strip()]
    for name in wanted:
        if name not in set(outbox.EventType):
            raise UnknownEventError(name=name, known=KNOWN)
    made = _database(place, create=True).run(lambda connection: endpoints.add(connection, url, wanted))
    assert made.secret is not None
    _show_secret(made.id, url, made.secret, as_json)


@command.command("list")
@JSON
@pass_place
def list_(place: Place, as_json: bool) -> None:
    """List the endpoints and how they are doing.

    \b
    Example:
      voicemill webhooks list
    """
    with _database(place).read() as connection:
        rows = endpoints.each(connection)
    if as_json:
        names = ("url", "scope", "events", "waiting", "failures", "failing_since", "blocked_until")
        more = ("disabled_at", "disabled_reason", "created_at")
        show.print_json([_told(row, *names, *more, endpoint=row.id) for row in rows])
        return
    show.table(
        ("ENDPOINT", "URL", "CORPORA", "EVENTS", "WAITING", "STATE"),
        [
            (
                row.id,
                row.url,
                "all" if row.scope == endpoints.Scope.ALL else "that named it",
                ", ".join(row.events) or "all",
                row.waiting,
                _health(row),
            )
            for row in rows
        ],
        right=(4,),
    )


@command.command("test")
@ENDPOINT
@JSON
@pass_place
def test(place: Place, endpoint_id: int, as_json: bool) -> None:
    """Send ENDPOINT a `webhook.test` event now and tell what it answers. Returns 1 where it does not take it.

    \b
    Example:
      voicemill webhooks test 1
    """
    answer = deliver.trial(_database(place), settings.load(WebhookSettings), endpoint_id)
    told = f"it answered {answer.status}" if answer.status else str(answer.error).rstrip(".")
    if as_json:
        show.print_json(
            {"accepted": answer.accepted, "status": answer.status, "error": answer.error, "answer": answer.body}
        )
    elif answer.accepted:
        click.echo(f"endpoint {endpoint_id} took it: {told}")
    else:
        show.error(f"endpoint {endpoint_id} did not take it: {told}. {answer.body or ''}")
    if not answer.accepted:
        sys.exit(ExitCode.SOME_FAILED)


@command.command("rotate")
@ENDPOINT
@click.option(
    "--keep-hours",
    type=click.FloatRange(0, 24 * 30),
    default=24.0,
    show_default=True,
    help="The old secret signs beside the new one for so long.",
)
@JSON
@pass_place
def rotate(place: Place, endpoint_id: int, keep_hours: float, as_json: bool) -> None:
    """Give ENDPOINT a new secret and print it, this one time.

    \b
    Example:
      voicemill webhooks rotate 1 --keep-hours 48
    """
    database = _database(place)
    with database.read() as connection:
        url = endpoints.find(connection, endpoint_id).url
    secret = database.run(lambda connection: endpoints.rotate(connection, endpoint_id, keep_hours * 3600.0))
    _show_secret(endpoint_id, url, secret, as_json)


@command.command("deliveries")
@click.option("--failed", is_flag=True, help="Only those that failed for good.")
@click.option("--endpoint", "endpoint_id", type=int, help="Only those to this endpoint.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Lines, at most.")
@JSON
@pass_place
def list_deliveries(place: Place, failed: bool, endpoint_id: int | None, limit: int, as_json: bool) -> None:
    """List what was and is to be delivered, newest first.

    \b
    Example:
      voicemill webhooks deliveries --failed
    """
    state = deliveries.State.FAILED if failed else None
    with _database(place).read() as connection:
        rows = deliveries.latest(connection, limit=limit, state=state, endpoint_id=endpoint_id)
    if as_json:
        names = ("endpoint_id", "url", "message_id", "type", "state", "attempts", "created_at", "attempted_at")
        more = ("due_at", "finished_at", "status", "error", "answer")
        show.print_json([_told(row, *names, *more, delivery=row.id) for row in rows])
        return
    show.table(
        ("DELIVERY", "ENDPOINT", "EVENT", "STATE", "ATTEMPTS", ""),
        [(row.id, row.endpoint_id, row.type, row.state, row.attempts, row.error or "") for row in rows],
        right=(4,),
    )


@command.command("redeliver")
@click.argument("delivery_ids", metavar="[DELIVERY]...", type=int, nargs=-1)
@click.option("--failed", "endpoint_id", type=int, metavar="ENDPOINT", help="All that failed to this endpoint.")
@JSON
@pass_place
def redeliver(place: Place, delivery_ids: tuple[int, ...], endpoint_id: int | None, as_json: bool) -> None:
    """Send DELIVERY once more, with the same webhook-id, whether or not it was taken before.

    One that is being sent just now is left as it is, and does not count.

    \b
    Example:
      voicemill webhooks redeliver 17
    """
    if not delivery_ids and endpoint_id is None:
        raise click.UsageError("Say which: DELIVERY, or --failed ENDPOINT.")
    database = _database(place)
    with database.write() as connection:
        count = sum(deliveries.redeliver(connection, delivery_id) for delivery_id in sorted(set(delivery_ids)))
        if endpoint_id is not None:
            count += deliveries.redeliver_failed(connection, endpoint_id)
    if place.is_embedded:  # there is no worker that would do it
        deliver.due(database, settings.load(WebhookSettings))
    told = f"{count} to be delivered again; `voicemill webhooks deliveries` tells what comes of it"
    _say(as_json, {"deliveries": count}, told)


@command.command("enable")
@ENDPOINT
@JSON
@pass_place
def enable(place: Place, endpoint_id: int, as_json: bool) -> None:
    """Send to ENDPOINT again, after it was disabled because it failed for days or answered 410 Gone.

    \b
    Example:
      voicemill webhooks enable 1
    """
    database = _database(place)
    database.run(lambda connection: endpoints.enable(connection, endpoint_id))
    told = f"is enabled; `voicemill webhooks redeliver --failed {endpoint_id}` sends what it missed"
    _say(as_json, {"endpoint": endpoint_id, "enabled": True}, f"endpoint {endpoint_id} {told}")


@command.command("remove")
@ENDPOINT
@JSON
@pass_place
def remove(place: Place, endpoint_id: int, as_json: bool) -> None:
    """Forget ENDPOINT, and what is still to be delivered to it.

    \b
    Example:
      voicemill webhooks remove 1
    """
    _database(place).run(lambda connection: endpoints.remove(connection, endpoint_id))
    _say(as_json, {"endpoint": endpoint_id, "removed": True}, f"endpoint {endpoint_id} is removed")


@command.command("listen")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any free one."
)
@click.option("--secret", envvar="VOICEMILL_WEBHOOK_SECRET", prompt=True, hide_input=True, help="whsec_...")
@JSON
def receive(port: int, secret: str, as_json: bool) -> None:
    """Receive webhooks on this machine, verify each and print it, until Ctrl-C. For trying things out.

    Senders on this machine need VOICEMILL_WEBHOOK_ALLOW_PRIVATE=true.

    \b
    Example:
      voicemill webhooks listen --port 8080
    """
    with listen.Receiver(port, secret, lambda received: _show_received(received, as_json)) as server:
        show.note(f"listening on http://127.0.0.1:{server.server_port}/")
        server.serve_forever()


def _database(place: Place, *, create: bool = False) -> Database:
    """The database; where `create` is set and a home was named, an embedded one is made there."""
    try:
        return place.database()
    except NoStateError:
        if not create or place.given_home is None:
            raise
        return place.database(create=True)


def _say(as_json: bool, value: dict[str, Any], line: str) -> None:
    if as_json:
        show.print_json(value)
    else:
        click.echo(line)


def _show_secret(endpoint_id: int, url: str, secret: SecretStr, as_json: bool) -> None:
    if as_json:
        show.print_json({"endpoint": endpoint_id, "url": url, "secret": secret.get_secret_value()})
    else:
        click.echo(f"endpoint {endpoint_id}: {url}")
        show.note("Its secret, which is shown only now:")
        click.echo(secret.get_secret_value())


def _show_received(received: listen.Received, as_json: bool) -> None:
    if as_json:
        told = {"webhook_id": received.message_id, "event": received.event, "refused": received.refusal}
        click.echo(json.dumps({**told, "repeat": received.is_repeat}, ensure_ascii=False))
    elif received.event is None:
        show.error(f"refused {received.message_id!r}: {received.refusal}")
    else:
        again = " (again)" if received.is_repeat else ""
        click.echo(f"{received.message_id}{again} {json.dumps(received.event, ensure_ascii=False)}")


def _told(row: Any, *names: str, **renamed: Any) -> dict[str, Any]:
    return {**renamed, **{name: getattr(row, name) for name in names}}


def _health(row: Any) -> str:
    if row.disabled_at is not None:
        return f"disabled: {row.disabled_reason}"
    if not row.failures:
        return "fine"
    since = datetime.fromtimestamp(row.failing_since, UTC)
    return f"failing since {since:%Y-%m-%d %H:%M} UTC, {row.failures} in a row"
