"""Databases for tests, each with the tables of this version."""

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from storage.database import Database

TEMPLATE = "voicemill_template"
LOCK = 1  # of Postgres' advisory locks: one worker makes the template, the others wait


def migrate(url: str) -> None:
    """Bring a database to the tables of this version."""
    from storage import migrate

    with closing(Database(url)) as database:
        migrate.upgrade(database)


def template(server_url: str) -> str:
    """The name of a Postgres database to copy, made by whoever asks first."""
    with _administration(server_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # until the connection ends
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            with fresh(server_url, "template1", keep_as=TEMPLATE) as url:
                migrate(url)
    return TEMPLATE


@contextmanager
def fresh(server_url: str, template: str, *, keep_as: str | None = None) -> Iterator[str]:
    """A new Postgres database, gone after the block unless it ends well and is to be kept under a name."""
    name = f"test_{uuid.uuid4().hex}"
    with _administration(server_url) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield f"{server_url.rpartition('/')[0]}/{name}"
        if keep_as:
            with _administration(server_url) as connection:
                connection.execute(f"ALTER DATABASE {name} RENAME TO {keep_as}")
    finally:
        with _administration(server_url) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _administration(server_url: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(server_url, autocommit=True)
