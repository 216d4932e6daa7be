"""The connection to the database: SQLite (WAL) or Postgres behind the same few calls."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from storage import errors

BUSY_TIMEOUT = 60.0  # seconds that a writer waits for SQLite's one write lock
CONNECT_TIMEOUT = 5  # seconds
SERIALIZATION_CODES = {"40001", "40P01"}  # Postgres: serialization failure, deadlock: run it again
RETRIES = 5
_KEEPALIVE = {  # a server that is gone without a word is noticed within so many seconds, well within a lease
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,  # milliseconds
}

Result = TypeVar("Result")


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's own clock: the one clock that leases go by."""

    type = sa.Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql_now(element: Any, compiler: Any, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


class Database:
    """One database and its pool of connections. Safe to share between threads, not between processes."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self._url = _parse(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self._url) if self.is_sqlite else _postgres(self._url, pool_size)

    @property
    def url(self) -> str:
        """Where it is, the password masked."""
        return self._url.difference_update_query(["password"]).render_as_string(hide_password=True)

    @property
    def full_url(self) -> str:
        """Where it is, secrets and all: for Alembic, never for people."""
        return self._url.render_as_string(hide_password=False)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading, in one snapshot. Raises DatabaseUnreachableError."""
        with self._translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes: committed at the end, rolled back on any exception."""
        with self._translated(), self.engine.connect() as plain:
            connection = plain.execution_options(voicemill_write=True)
            with connection.begin():
                yield connection

    def run(self, step: Callable[[sa.Connection], Result]) -> Result:
        """A writing transaction that is run again where the database asks for it (deadlock, serialization)."""
        for attempt in range(RETRIES):
            try:
                with self.write() as connection:
                    return step(connection)
            except sa.exc.OperationalError as error:
                code = getattr(error.orig, "sqlstate", None)
                if code not in SERIALIZATION_CODES or attempt == RETRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def check(self) -> None:
        """Read a SQLite file through, which finds damage that no query has come upon. Raises DatabaseDamagedError."""
        if self.is_sqlite:
            with self.read() as connection:
                found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
            if found != "ok":
                raise DatabaseDamagedError(url=self.url, reason=" ".join(found.split()))

    def ahead(self) -> float:
        """Seconds that the database's clock is ahead of this machine's, as far as the way to it and back lets see."""
        with self.read() as connection:
            connection.execute(sa.select(now()))  # the first one takes longer
            before = time.time()
            told = float(connection.execute(sa.select(now())).scalar_one())
            after = time.time()
        return max(told - after, 0.0) or min(told - before, 0.0)

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in SERIALIZATION_CODES:
                raise
            if _is_full(error.orig):
                raise DatabaseFullError(url=self.url, reason=_reason(error)) from error
            if _is_damaged(error.orig):
                raise DatabaseDamagedError(url=self.url, reason=_reason(error)) from error
            if _is_missing_table(error.orig):
                raise NotMigratedError(url=self.url) from error
            if error.connection_invalidated or isinstance(
                error, sa.exc.OperationalError | sa.exc.InterfaceError
            ):
                raise errors.DatabaseUnreachableError(url=self.url, reason=_reason(error)) from error
            raise
        except sa.exc.TimeoutError as error:
            raise errors.DatabaseUnreachableError(url=self.url, reason=error) from error


class BadDatabaseUrlError(errors.InputError):
    """The database URL cannot be used: {reason}. It reads postgresql://user:password@host/name or sqlite:///path."""


class DatabaseFullError(errors.VoicemillError):
    """The database {url} cannot grow: {reason}. Free some space and run the same command again."""


class DatabaseDamagedError(errors.VoicemillError):
    """The database {url} is damaged, or is none: {reason}. Put a copy of it back, or move it away and begin anew."""


class NotMigratedError(errors.InputError):
    """The database {url} has no tables of this version yet. Run `voicemill db upgrade`."""


def _parse(url: str) -> sa.URL:
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # whose words may be half of a password
        raise BadDatabaseUrlError(reason="it is no URL") from None
    if "@" in (parsed.host or ""):
        raise BadDatabaseUrlError(reason="its host has an @ in it; in a password @ is written %40")
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise BadDatabaseUrlError(reason="SQLite in memory would lose everything; give a path")
        return parsed.set(drivername="sqlite+pysqlite")
    raise BadDatabaseUrlError(reason=f"{backend} is not supported")


def _sqlite(url: sa.URL) -> sa.Engine:
    try:
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.DatabaseUnreachableError(url=url.render_as_string(), reason=error.strerror) from error
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "cache_size = -32000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that will write takes the write lock at once: upgraded later, it could only fail.
        writes = connection.get_execution_options().get("voicemill_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: sa.URL, pool_size: int) -> sa.Engine:
    try:
        from psycopg import pq
    except ImportError as error:
        raise BadDatabaseUrlError(reason="Postgres needs `pip install 'voicemill[postgres]'`") from error
    unknown = url.query.keys() - {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    if unknown:
        raise BadDatabaseUrlError(reason=f"libpq knows no option {min(unknown)!r}")
    return sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=2 * pool_size,
        pool_pre_ping=True,
        pool_timeout=30,
        connect_args={"connect_timeout": CONNECT_TIMEOUT, "application_name": "voicemill", **_KEEPALIVE},
    )


def _reason(error: sa.exc.DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:300]


def _is_full(original: BaseException | None) -> bool:
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_WRITE")
    return getattr(original, "sqlstate", None) in ("53100", "53200")


def _is_damaged(original: BaseException | None) -> bool:
    """Whether SQLite found something else than a whole database; its extended codes tell where."""
    return getattr(original, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT"))


def _is_missing_table(original: BaseException | None) -> bool:
    if isinstance(original, sqlite3.Error):
        return "no such table" in str(original) or "no such column" in str(original)
    return getattr(original, "sqlstate", None) in ("42P01", "42703")
