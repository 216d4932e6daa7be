"""`voicemill db`: the tables."""

from contextlib import suppress

import click

from cli import show
from cli.place import NoStateError, Place, pass_place
from storage import migrate
from storage.database import Database


@click.group("db")
def command() -> None:
    """Bring the database to the tables of this version.

    \b
    Example:
      VOICEMILL_DATABASE_URL=postgresql://... voicemill db upgrade
    """


@command.command("upgrade")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@pass_place
def upgrade(place: Place, as_json: bool) -> None:
    """Make or upgrade the tables. Safe to run again, and from several machines at once.

    \b
    Example:
      voicemill db upgrade
    """
    with suppress(NoStateError):
        place.existing()
    database = Database(place.storage.database())
    before = migrate.current(database)
    migrate.upgrade(database)
    after = migrate.newest()
    database.close()
    if as_json:
        show.print_json({"database": database.url, "before": before, "revision": after})
    else:
        show.say(f"{database.url}: {'already' if before == after else 'now'} at revision {after}")
