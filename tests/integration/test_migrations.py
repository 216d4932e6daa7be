import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage import migrate
from storage.database import Database
from storage.models import METADATA


def empty_url(request, kind, tmp_path):
    return (
        request.getfixturevalue("empty_postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/new.db"
    )


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", ["sqlite", "postgres"])


def tables(database):
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names()) - {"alembic_version"}


def test_models_and_migrations_agree(request, kind, tmp_path):
    database = Database(empty_url(request, kind, tmp_path))
    migrate.upgrade(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert migrate.current(database) == context.get_current_revision() == migrate.newest()
    database.close()


def test_up_down_and_up_again(request, kind, tmp_path):
    database = Database(empty_url(request, kind, tmp_path))
    migrate.upgrade(database)
    migrate.upgrade(database)  # twice is once
    assert tables(database) == set(METADATA.tables)
    migrate.downgrade(database, "base")
    assert tables(database) == set()
    migrate.upgrade(database)
    assert tables(database) == set(METADATA.tables)
    database.close()
