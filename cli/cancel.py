"""`voicemill cancel`: work that is not wanted any more."""

import click
import sqlalchemy as sa

from cli import show
from cli.place import Place, pass_place
from storage import corpora, jobs


@click.command("cancel")
@click.argument("corpus")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@pass_place
def command(place: Place, corpus: str, as_json: bool) -> None:
    """Stop CORPUS: what waits is not begun, what runs stops within seconds, what is done is kept.

    `voicemill retry` takes it up again.

    \b
    Example:
      voicemill cancel sherlock
    """
    database = place.database()

    def step(connection: sa.Connection) -> tuple[str, int | None]:
        row = corpora.find(connection, corpus)
        return row.name, jobs.cancel(connection, row.id)

    name, count = database.run(step)
    if as_json:
        show.print_json({"corpus": name, "cancelled": count is not None, "jobs": count or 0})
    elif count is not None:
        show.say(f"{name}: cancelled, {count} jobs will not be made; what is done is kept")
    else:
        show.say(f"{name}: has ended already")
