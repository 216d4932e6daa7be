"""How a store is named, and what is wrong with a name."""

import os
import sys
from pathlib import Path

import pytest

from storage import objects
from storage.objects import folder


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/srv/voicemill", "file:///srv/voicemill"),
        ("file:///srv/voicemill", "file:///srv/voicemill"),
        ("file://localhost/srv/voicemill", "file:///srv/voicemill"),
        ("file:/srv/voicemill", "file:///srv/voicemill"),
        ("file:///srv/my%20books?durable=no", "file:///srv/my%20books"),
        ("/srv/what?#100%", "file:///srv/what%3F%23100%25"),
    ],
)
def test_a_folder_by_url_or_path(url: str, shown: str) -> None:
    assert objects.open_store(url).url == shown


def test_a_relative_path_is_made_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = objects.open_store("store")
    os.chdir("/")
    assert store.url == (tmp_path / "store").as_uri()
    assert objects.open_store("~/store").url == (Path.home() / "store").as_uri()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://my-bucket", "s3://my-bucket"),
        ("s3://my-bucket/", "s3://my-bucket"),
        ("S3://my-bucket/voice/mill/", "s3://my-bucket/voice/mill"),
        ("s3://my-bucket/a%20b?region=eu-west-1&sse=AES256&pool=4", "s3://my-bucket/a b"),
        ("s3://my.bucket.of.old?endpoint_url=https%3A%2F%2Fminio.example%3A9000", "s3://my.bucket.of.old"),
    ],
)
def test_a_bucket(url: str, shown: str) -> None:
    assert objects.open_store(url).url == shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "it names no folder"),
        ("file://", "it names no folder"),
        ("file://srv/voicemill", "file:///srv"),
        ("files:///srv", "there is no scheme 'files' (did you mean 'file'?)"),
        ("s4://bucket", "there is no scheme 's4' (known are file, s3)"),
        ("https://bucket.s3.amazonaws.com/", "there is no scheme 'https' (known are file, s3)"),
        ("s3:bucket", "'' is no bucket name"),
        ("s3://b", "'b' is no bucket name"),
        ("s3://bucket/a//b", "two in a row"),
        ("s3://bucket/a#b", "write # as %23"),
        ("s3://bucket?regoin=x", "there is no option 'regoin' (did you mean 'region'?)"),
        ("s3://bucket?region=a&region=b", "it gives an option twice"),
        ("s3://bucket?sse=rot13", "sse: Input should be 'AES256', 'aws:kms' or 'aws:kms:dsse', not 'rot13'"),
        ("s3://bucket?retries=0", "retries: Input should be greater than or equal to 1, not '0'"),
        ("s3://bucket?endpoint_url=minio:9000", "endpoint_url: "),
        ("file:///srv?durable=perhaps", "durable: "),
        ("file:///srv?region=x", "there is no option 'region'"),
        ("s3://[", "Invalid IPv6 URL"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(url: str, words: str) -> None:
    with pytest.raises(objects.StoreUrlError) as caught:
        objects.open_store(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:hunter2@bucket/prefix",
        "s3://bucket?aws_secret_access_key=hunter2",
        "s3://bucket?session_token=hunter2",
        "s3://bucket?endpoint_url=https%3A%2F%2Fme%3Ahunter2%40minio.example",
        "file://me:hunter2@host/srv",
        "sftp://me:hunter2@host/srv?password=hunter2",
    ],
)
def test_secrets_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(objects.StoreUrlError) as caught:
        objects.open_store(url)
    assert "hunter2" not in str(caught.value)


def test_options_may_come_from_elsewhere_and_the_url_wins() -> None:
    with pytest.raises(objects.StoreUrlError, match="retries"):
        objects.open_store("s3://bucket", {"retries": "0"})
    objects.open_store("s3://bucket?retries=3", {"retries": "0"})
    with pytest.raises(objects.StoreUrlError, match="durable"):
        objects.open_store("/srv", {"durable": "perhaps"})


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "storage.objects.s3", raising=False)
    monkeypatch.delattr(objects, "s3", raising=False)
    with pytest.raises(objects.ExtraMissingError, match=r"pip install 'voicemill\[s3\]'"):
        objects.open_store("s3://bucket")


def test_a_folder_is_durable_unless_told() -> None:
    assert folder.Options().durable
