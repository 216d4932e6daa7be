import pytest

from storage.database import Database
from tests import receivers


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def sqlite(sqlite_url):
    """Where the database's kind makes no difference."""
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture
def receiver():
    with receivers.Receiver() as receiver:
        yield receiver
