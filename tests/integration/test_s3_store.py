"""What is S3's alone: its answers, lost connections, credentials, what an object is told of itself."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import boto3
import pytest

from storage import errors, objects
from storage.objects import s3
from tests import servers

Answer = tuple[int, str]  # a status, and either an error's code or a body


class Script:
    """An S3 that gives the answers it was told to, in order, and remembers the questions."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers, self.asked = answers, list[str]()

    def next(self, question: str) -> Answer:
        self.asked.append(question)
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")


@contextmanager
def scripted(*answers: Answer, retries: int = 1) -> Iterator[tuple[objects.Store, Script]]:
    """A store over a scripted server."""
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = script.next(f"{self.command} {self.path}")
            self.close_connection = text.startswith("BROKEN")
            body = text if status < 300 else f"<Error><Code>{text}</Code><Message>Told so</Message></Error>"
            broken = body.removeprefix("BROKEN ")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"etag"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(broken.encode())

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield open_bucket(url, retries=str(retries)), script


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    with server:
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def open_bucket(endpoint: str, **options: str) -> objects.Store:
    return objects.open_store(
        "s3://bucket/pre/fix", {"endpoint_url": endpoint, "region": "eu-central-1", **options}
    )


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        ((403, "AccessDenied"), errors.StoreForbiddenError, "refused writing key: AccessDenied: Told so"),
        ((400, "ExpiredToken"), errors.StoreForbiddenError, "ExpiredToken"),
        ((401, "Unauthorized"), errors.StoreForbiddenError, "Unauthorized"),
        ((507, "InsufficientStorage"), errors.StoreFullError, "is full: InsufficientStorage"),
        ((403, "QuotaExceeded"), errors.StoreFullError, "is full: QuotaExceeded"),
        ((503, "SlowDown"), errors.StoreUnreachableError, "SlowDown"),
        ((500, "InternalError"), errors.StoreUnreachableError, "InternalError"),
        ((404, "NoSuchBucket"), errors.StoreError, "there is no such bucket"),
        ((400, "InvalidStorageClass"), errors.StoreError, "InvalidStorageClass: Told so"),
    ],
)
def test_what_the_server_says_is_said_in_our_words(
    answer: Answer, expected: type[errors.StoreError], words: str
) -> None:
    with scripted(answer) as (store, _), pytest.raises(expected, match=words) as caught:
        store.put("key", b"data")
    assert type(caught.value) is expected
    assert str(caught.value).startswith("The object store s3://bucket/pre/fix ")


def test_an_archived_object_says_so() -> None:
    with scripted((403, "InvalidObjectState")) as (store, _), pytest.raises(errors.ObjectArchivedError):
        store.get("key")


def test_a_busy_server_is_asked_again() -> None:
    with scripted((503, "SlowDown"), (503, "SlowDown"), (200, ""), retries=3) as (store, script):
        assert store.put("key", b"data")
    assert script.asked == ["PUT /bucket/pre/fix/key"] * 3


def test_a_conflict_with_another_writer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "CONFLICT_PAUSE", 0)
    conflict = (409, "ConditionalRequestConflict")
    with scripted(conflict, (200, "")) as (store, _):
        assert store.put("key", b"data")
    with scripted(conflict, (412, "PreconditionFailed")) as (store, _):
        assert not store.put("key", b"data")
    with (
        scripted(*[conflict] * s3.ATTEMPTS) as (store, _),
        pytest.raises(errors.StoreUnreachableError, match="other writers of key"),
    ):
        store.put("key", b"data")


def test_a_body_that_breaks_off_is_read_again() -> None:
    with scripted((200, "BROKEN data"), (200, "whole")) as (store, _):
        assert store.get("key") == b"whole"
    with (
        scripted(*[(200, "BROKEN data")] * s3.ATTEMPTS) as (store, _),
        pytest.raises(errors.StoreUnreachableError),
    ):
        store.get("key")


def test_a_stream_that_breaks_off_says_so() -> None:
    with (
        scripted((200, "BROKEN data")) as (store, _),
        store.open("key") as stream,
        pytest.raises(errors.StoreUnreachableError),
    ):
        stream.read()


def test_a_failed_multipart_upload_is_aborted(tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(bytes(s3.PART + 1))
    begun = "<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>"
    with (
        scripted((404, ""), (200, begun), (200, ""), (403, "AccessDenied"), (204, "")) as (store, script),
        pytest.raises(errors.StoreForbiddenError),
    ):
        store.upload("key", source)
    assert [question.partition("?")[0].partition(" ")[0] for question in script.asked] == [
        *("HEAD", "POST", "PUT", "PUT", "DELETE")
    ]


def test_an_upload_that_was_killed_in_the_middle_leaves_nothing_for_long(s3_url: str, tmp_path: Path) -> None:
    store = objects.open_store(s3_url)
    bucket, options = s3_url.removeprefix("s3://").split("?")
    path = tmp_path / "book.wav"
    path.write_bytes(bytes(s3.PART + 1))
    with closing(boto3.client("s3", endpoint_url=dict(parse_qsl(options))["endpoint_url"])) as client:
        for key in ("audio/a.wav", "audio/a.wav", "audio/a.wav2"):
            client.create_multipart_upload(Bucket=bucket, Key=key)
        assert store.upload("audio/a.wav", path)
        left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        assert [upload["Key"] for upload in left] == ["audio/a.wav2"]
        client.create_multipart_upload(Bucket=bucket, Key="audio/a.wav")
        assert not store.upload("audio/a.wav", path)  # it is there
        assert len(client.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1


def test_one_of_a_thousand_that_cannot_be_deleted_is_told_of() -> None:
    failed = "<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    with scripted((200, failed)) as (store, _), pytest.raises(errors.StoreForbiddenError, match="deleting"):
        store.delete(["a", "b"])


def test_a_server_that_is_gone_is_unreachable_and_back_when_it_is_back() -> None:
    with servers.S3() as server:
        store = open_bucket(server.url, retries="1")
        make_bucket(server.url)
        assert store.put("key", b"data")
        server.kill()
        for act in (
            lambda: store.put("key", b"data"),
            lambda: store.get("key"),
            lambda: store.size("key"),
            lambda: store.delete(["key"]),
            lambda: list(store.list()),
            store.check,
        ):
            with pytest.raises(errors.StoreUnreachableError, match=r"s3://bucket/pre/fix cannot be reached"):
                act()
        server.start()
        make_bucket(server.url)
        store.check()


def test_a_server_that_never_answers_is_not_waited_for_for_ever() -> None:
    enough = threading.Event()

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            enough.wait()

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent)) as url:
        store = open_bucket(url, retries="1", timeout="0.2")
        with pytest.raises(errors.StoreUnreachableError, match="timeout"):
            store.get("key")
        enough.set()


class GuardedS3(servers.S3):
    """Moto that knows its users, of whom there are none."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"INITIAL_NO_AUTH_ACTION_COUNT": "0"}


def test_a_stranger_is_forbidden() -> None:
    with GuardedS3() as server, pytest.raises(errors.StoreForbiddenError, match="InvalidAccessKeyId"):
        open_bucket(server.url).put("key", b"data")


def test_without_credentials_it_says_so(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(errors.StoreForbiddenError, match=r"credentials.*Check its credentials"):
        objects.open_store(s3_url).put("key", b"data")


@pytest.mark.parametrize("size", [10, s3.PART + 1], ids=["put", "multipart"])
def test_objects_are_kept_as_told(s3_url: str, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(size))
    asked = {"sse": "aws:kms", "sse_kms_key_id": "alias/books", "storage_class": "STANDARD_IA"}
    objects.open_store(s3_url, asked).upload("a.mp3", source, content_type="audio/mpeg")
    head = head_object(s3_url, "a.mp3")
    assert head["ContentType"] == "audio/mpeg"
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == "alias/books"
    assert head["StorageClass"] == "STANDARD_IA"
    assert head["ContentLength"] == size


def test_two_prefixes_of_a_bucket_are_two_stores(s3_url: str) -> None:
    one, other = (objects.open_store(s3_url.replace("?", f"/{name}?")) for name in ("one", "one-more"))
    one.put("key", b"one")
    assert other.put("key", b"other")
    assert [entry.key for entry in one.list()] == ["key"]
    assert [entry.key for entry in objects.open_store(s3_url).list()] == ["one-more/key", "one/key"]


def make_bucket(endpoint: str) -> None:
    with closing(boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")) as client:
        client.create_bucket(Bucket="bucket")


def head_object(url: str, key: str) -> Any:
    bucket, _, query = url.removeprefix("s3://").partition("?")
    options = dict(parse_qsl(query))
    with closing(
        boto3.client("s3", endpoint_url=options["endpoint_url"], region_name=options["region"])
    ) as client:
        return client.head_object(Bucket=bucket, Key=key)
