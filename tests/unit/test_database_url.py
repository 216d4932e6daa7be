"""What is said of a database's URL: never a part of a password."""

import traceback

import pytest

from cli import config
from storage.database import BadDatabaseUrlError, Database


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@host/name",
        "postgresql://u:hunter/2#hunter?hunter2@host/name",
        "postgresql://u@host/name?password=hunter2&sslmode=require",
    ],
)
def test_a_database_tells_where_it_is_without_its_password(url: str) -> None:
    database = Database(url)
    assert "hunter" not in database.url
    assert "u" in database.url and "@host/name" in database.url
    assert "hunter2" in database.full_url
    database.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hunter2", "it is no URL"),
        ("postgresql://u:a@b:hunter2@host:5432/name", "it is no URL"),  # the password's end for a port
        ("postgresql://u:hunter2@host:port/name", "it is no URL"),
        ("postgresql://u:a@hunter2@host/name", "its host has an @ in it; in a password @ is written %40"),
        ("mysql://u:hunter2@host/name", "mysql is not supported"),
        ("postgresql://u:hunter2@host/name?sslmood=require", "libpq knows no option 'sslmood'"),
    ],
)
def test_one_that_cannot_be_used_is_refused_without_it(url: str, reason: str) -> None:
    with pytest.raises(BadDatabaseUrlError, match=reason) as caught:
        Database(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_password_in_the_url_of_a_store_is_not_shown() -> None:
    assert config.masked("s3://me:hunter2@bucket") == "s3://me:***@bucket"
    assert config.masked("s3://b?endpoint_url=http://me:hunter2@host") == "s3://b?endpoint_url=http:***@host"
    for plain in ("s3://bucket/prefix?endpoint_url=http://host:9000&region=x", "/a/folder", "file:///a"):
        assert config.masked(plain) == plain
