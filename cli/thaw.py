"""`voicemill thaw`: finished audio comes out of an archive."""

from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Any

import click
import sqlalchemy as sa

from cli import show
from cli.place import Place, pass_place
from scheduler import thawing
from scheduler.settings import SchedulerSettings
from storage import corpora, errors, jobs, prices, settings, states, thaws
from storage.database import Database
from storage.lifecycle import LifecycleSettings
from storage.objects.store import Warmth
from workers.webhooks import deliver
from workers.webhooks.settings import WebhookSettings

WORDS = {Warmth.READY: "ready", Warmth.FROZEN: "frozen", Warmth.THAWING: "thawing"}
LINES = 50  # of the table


class UnknownNameError(errors.InputError):
    """There is neither a corpus nor a job named {name!r} here. `voicemill list` shows what there is."""


class AmbiguousJobError(errors.InputError):
    """Jobs named {name!r} are in {corpora}. Say in which with --corpus."""


class NoAudioError(errors.InputError):
    """{name!r} has no finished audio that could be thawed."""


@click.command("thaw")
@click.argument("name", metavar="[JOB|CORPUS]", required=False)
@click.option("--corpus", help="The job's corpus.")
@click.option(
    "--tier",
    type=click.Choice(thawing.TIERS),
    default="standard",
    show_default=True,
    help="How fast, and how dear: minutes, hours, or half a day to two days.",
)
@click.option(
    "--days", type=click.IntRange(1, 365), default=7, show_default=True, help="The readable copy stays so long."
)
@click.option("--status", is_flag=True, help="Only tell how it stands; ask for nothing.")
@click.option("--wait", is_flag=True, help="Return when all of it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_place
def command(
    place: Place,
    name: str | None,
    corpus: str | None,
    tier: str,
    days: int,
    status: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Ask for the audio of a JOB, or of all jobs of a CORPUS, from the archive, and tell how far it is.

    Run it again to see how it stands; what is on its way is not asked for, or paid for, twice. When a job is there, the
    event job.thawed is sent to the webhooks. Without a name it lists what was asked for.

    \b
    Example:
      voicemill thaw sherlock --tier bulk --days 14
    """
    database, store = place.database(), place.store()
    if name is None:
        _list(database, as_json)
        return
    with database.read() as connection:
        rows = _rows(connection, name, corpus)
    found = thawing.look(store, rows)
    asked = thawing.Asked()
    price_list = prices.load(settings.load(LifecycleSettings).prices_file)
    if not status:
        asked = thawing.ask(database, store, found, tier, days, price_list)
        found = thawing.look(store, rows) if asked.jobs else found
    while wait and any(job.warmth != Warmth.READY for job in found):
        Event().wait(settings.load(SchedulerSettings).thaw_poll_seconds)
        thawing.settle(database, store, 0.0)
        found = thawing.look(store, rows)
    if place.is_embedded:  # there is no worker that would do it
        deliver.due(database, settings.load(WebhookSettings))
    if as_json:
        show.print_json({"asked_for": _told(asked, price_list), "jobs": [_json(job) for job in found]})
    else:
        _show(found, asked, price_list, name, days)


def _rows(connection: sa.Connection, name: str, corpus: str | None) -> list[sa.Row[Any]]:
    """The finished jobs that a name stands for."""
    if corpus is not None:
        row = corpora.find(connection, corpus)
        job = jobs.by_custom_id(connection, row.id, name)
        if job is None:
            raise jobs.UnknownJobError(custom_id=name, corpus=row.name)
        found = [job]
    elif (exact := corpora.by_name(connection, name)) is not None:
        found = list(jobs.each(connection, exact.id, states.AUDIBLE_JOBS))
    else:
        found = _jobs_named(connection, name)
    found = [job for job in found if job.state in states.AUDIBLE_JOBS]
    if not found:
        raise NoAudioError(name=name)
    return found


def _jobs_named(connection: sa.Connection, name: str) -> list[sa.Row[Any]]:
    homes = jobs.corpora_with(connection, name)
    if len(homes) > 1:
        raise AmbiguousJobError(name=name, corpora=", ".join(home.name for home in homes[:5]))
    if homes:
        job = jobs.by_custom_id(connection, homes[0].id, name)
        return [job] if job is not None else []
    try:
        row = corpora.find(connection, name)
    except corpora.UnknownCorpusError as error:
        raise UnknownNameError(name=name[:80]) from error
    return list(jobs.each(connection, row.id, states.AUDIBLE_JOBS))


def _show(
    found: Sequence[thawing.Job], asked: thawing.Asked, price_list: prices.Prices, name: str, days: int
) -> None:
    cold = [job for job in found if job.warmth != Warmth.READY or job.until is not None]
    rows = [
        (
            job.row.custom_id,
            WORDS[job.warmth],
            show.size(sum(standing.size for standing in job.objects.values() if standing is not None)),
            _moment(job.until) if job.until is not None else "",
        )
        for job in cold[:LINES]
    ]
    if rows:
        show.table(("JOB", "STATE", "SIZE", "UNTIL"), rows, right=(2,))
    if len(cold) > LINES:
        show.say(f"and {len(cold) - LINES:,} more")
    if asked.jobs:
        cost = ""
        if asked.cost is not None:
            cost = (
                f", about {asked.cost:.2f} {price_list.currency} with {days} days of readable copies, at the prices of "
                f"{price_list.date}"
            )
        show.say(
            f"Asked for {asked.jobs:,} jobs: {asked.objects:,} objects, {show.size(asked.bytes)}{cost}; there in "
            f"about {asked.takes_about}."
        )
    counts = {warmth: sum(1 for job in found if job.warmth == warmth) for warmth in Warmth}
    told = [f"{count:,} {WORDS[warmth]}" for warmth, count in counts.items() if count]
    show.say(f"{name}: {', '.join(told)}")
    if counts[Warmth.READY] == len(found):
        show.say("All of it can be fetched.")


def _list(database: Database, as_json: bool) -> None:
    with database.read() as connection:
        rows = thaws.each(connection, 1000)
    if as_json:
        names = ("custom_id", "corpus", "state", "tier", "days", "asked_at", "ready_at", "until")
        show.print_json([{name: getattr(row, name) for name in names} for row in rows])
    elif not rows:
        show.say("Nothing was asked for. `voicemill thaw CORPUS` asks.")
    else:
        lines = [
            (row.custom_id, row.corpus, row.state, row.tier, _moment(row.asked_at), _moment(row.until))
            for row in rows
        ]
        show.table(("JOB", "CORPUS", "STATE", "TIER", "ASKED FOR", "UNTIL"), lines)


def _told(asked: thawing.Asked, price_list: prices.Prices) -> dict[str, Any]:
    return {
        "jobs": asked.jobs,
        "objects": asked.objects,
        "bytes": asked.bytes,
        "cost": asked.cost,
        "currency": price_list.currency,
        "prices_of": price_list.date,
        "takes_about": asked.takes_about,
    }


def _json(job: thawing.Job) -> dict[str, Any]:
    return {
        "id": job.row.custom_id,
        "state": job.warmth.value,
        "until": job.until,
        "objects": {
            key: standing
            and {"bytes": standing.size, "class": standing.storage_class, "state": standing.warmth}
            for key, standing in job.objects.items()
        },
    }


def _moment(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
