"""`voicemill watch`: a corpus on the workers, live."""

import sys
import time

import click
import sqlalchemy as sa

from cli import progress, show
from cli.exit_codes import ExitCode
from cli.place import Place, pass_place
from scheduler.settings import SchedulerSettings
from storage import corpora, errors, results, settings, states
from storage.database import Database
from workers.engines import registry

LOOK = 0.5  # seconds between looks


@click.command("watch")
@click.argument("corpus", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the end as JSON.")
@pass_place
def command(place: Place, corpus: str | None, as_json: bool) -> None:
    """Show CORPUS live until it has ended: segments, audio, speed, workers, time left; the newest where none is named.

    With a price (VOICEMILL_PRICE_PER_HOUR) it shows the cost, too.

    Ctrl-C stops watching, not the work. Returns 1 where some jobs failed.

    \b
    Example:
      voicemill watch sherlock
    """
    database = place.database()
    with database.read() as connection:
        row = results.find(connection, corpus)
    until_ended(database, row, quiet=False, as_json=as_json)


def until_ended(database: Database, corpus: sa.Row, *, quiet: bool, as_json: bool) -> None:  # type: ignore[type-arg]
    """Wait for a corpus' end, through losses of the database; then say what came of it and set the exit code."""
    spec = registry.spec(corpus.engine)
    price = settings.load(SchedulerSettings).price_per_hour
    away = False
    with progress.shown(database, corpus, spec, quiet=quiet, workers=True, price=price):
        while True:
            try:
                with database.read() as connection:
                    row = connection.execute(corpora.by_id(corpus.id)).one()
                if away:
                    show.note("The database is back.")
                away = False
                if row.state != states.Corpus.RUNNING:
                    break
            except errors.DatabaseUnreachableError as error:
                if not away:
                    show.note(f"{error} Still watching.")
                away = True
            time.sleep(LOOK)
    with database.read() as connection:
        summary = results.corpus_summary(connection, row)
    cost = progress.cost(row, price)
    if as_json:
        show.print_json({**summary, "worker_seconds": round(row.worker_seconds, 3), "cost": cost})
    else:
        show.say(show.state_line(summary) + ("" if cost is None else f", cost {cost:.2f}"))
    if row.state != states.Corpus.COMPLETED:
        sys.exit(ExitCode.SOME_FAILED)
