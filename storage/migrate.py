"""Brings a database to the tables of this version, and back.

Every command asks whether the two agree, so that costs no more than a query: Alembic, which takes long to import, comes
in where something is to be done.
"""

from pathlib import Path

import sqlalchemy as sa

from storage.database import Database

LOCK = 0x766D696C6C  # "vmill": the Postgres advisory lock that lets one process migrate at a time


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the tables up to a revision. Safe to run twice, and at once from several places."""
    _run(database, "upgrade", revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the tables back to a revision; `base` leaves none."""
    _run(database, "downgrade", revision)


def current(database: Database) -> str | None:
    """The revision that the database is at, None where there are no tables."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def newest() -> str:
    """The revision of this version."""
    return max(path.name.partition("_")[0] for path in (_scripts() / "versions").glob("[0-9]*.py"))


def _run(database: Database, step: str, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config.attributes["connection"] = connection
        getattr(command, step)(config, revision)


def _scripts() -> Path:
    """Where versions/NNNN_what_changes.py lie, NNNN being the revision."""
    import migrations

    return Path(migrations.__file__).parent
