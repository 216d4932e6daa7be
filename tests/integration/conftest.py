"""Databases that are open, for whoever asks them directly."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from storage.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """One of this version, once of each kind."""
    with closing(Database(database_url)) as database:
        yield database


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """One of this version, where its kind makes no difference."""
    with closing(Database(sqlite_url)) as database:
        yield database
