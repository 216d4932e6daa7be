"""`voicemill db`: the tables."""

import click

from cli import show
from cli.place import Place, pass_place
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
@pass_place
def upgrade(place: Place) -> None:
    """Make or upgrade the tables. Safe to run again, and from several machines at once.

    \b
    Example:
      voicemill db upgrade
    """
    database = Database(place.storage.database())
    before = migrate.current(database)
    migrate.upgrade(database)
    after = migrate.newest()
    show.out.print(f"{database.url}: {'already' if before == after else 'now'} at revision {after}")
    database.close()
