"""Where state and bytes are: opened once per command, from `--home` and the settings."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from storage import errors, migrate, settings
from storage.database import Database
from storage.objects import open_store
from storage.objects.store import Store

DEFAULT_OUT = Path("voicemill-out")
HIDDEN = ".voicemill"


class NoStateError(errors.InputError):
    """There is no Voicemill state in {folder}. Run `voicemill render` first, or say where it is with --home FOLDER."""


class OldDatabaseError(errors.InputError):
    """The database {url} is at revision {current}, this version needs {newest}. Run `voicemill db upgrade`."""


class NoServerError(errors.InputError):
    """`voicemill {command}` needs a database that workers share: set VOICEMILL_DATABASE_URL (docs/deploy.md). To render
    here and now, use `voicemill render`."""


@dataclass
class Place:
    """A database and a store, embedded in a folder or on servers."""

    given_home: Path | None = None

    def __post_init__(self) -> None:
        named = self.given_home is not None or "VOICEMILL_HOME" in os.environ
        self.storage = settings.load(
            settings.StorageSettings, **({"home": self.given_home} if self.given_home else {})
        )
        self.is_embedded = self.storage.database_url is None
        self._named = named or settings.origin("home") != "default"

    def beside(self, out: Path) -> None:
        """Keep embedded state in the output folder, where no other place was named."""
        if self.is_embedded and not self._named:
            self._move_home(out / HIDDEN)

    def need_server(self, command: str) -> None:
        """Refuse a command that makes sense only with a database server. Raises NoServerError."""
        if self.is_embedded:
            raise NoServerError(command=command)

    def existing(self) -> None:
        """Find the embedded state that an earlier command left. Raises NoStateError."""
        if not self.is_embedded:
            return
        home = self.storage.home
        for candidate in (home, home / HIDDEN, DEFAULT_OUT / HIDDEN if not self._named else home):
            if (candidate / "voicemill.db").is_file():
                self._move_home(candidate)
                return
        raise NoStateError(folder=home.absolute() if self._named else Path.cwd())

    def database(self, *, create: bool = False) -> Database:
        """The database, its tables up to date; embedded ones are made and migrated where `create` is set."""
        if not create:
            self.existing()
        database = Database(self.storage.database(), pool_size=self.storage.database_pool_size)
        if create and self.is_embedded:
            migrate.upgrade(database)
            return database
        current, newest = migrate.current(database), migrate.newest()
        if current != newest:
            raise OldDatabaseError(url=database.url, current=current or "none", newest=newest)
        return database

    def store(self) -> Store:
        """The object store."""
        if self.is_embedded and self.storage.store_url is None:
            # Waiting for the disk at each take would cost five sixths of the speed. A kill loses nothing; after a power
            # cut `scheduler.heal` has made again what is missing.
            return open_store(self.storage.store(), {"durable": "false"})
        return open_store(self.storage.store())

    def scratch(self) -> Path | None:
        """The folder for work in hand: in the embedded home, else the system's."""
        return self.storage.home.absolute() / "scratch" if self.is_embedded else None

    def _move_home(self, home: Path) -> None:
        self.storage = self.storage.model_copy(update={"home": home})


pass_place = click.make_pass_decorator(Place)
