"""A bucket of Amazon S3, or of anything that speaks its protocol, as an object store.

Write-once is the server's doing: every put and every end of a multipart upload says `If-None-Match: *`, to
which S3 answers 412 where the key is there and 409 where two such requests met
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). A put whose answer got lost and
that boto3 sent again finds its own object and says False, which is as good.

Credentials come the way every AWS tool finds them (environment, profile, role), never from the URL.
"""

import io
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from urllib.parse import parse_qsl, urlencode

import boto3
import botocore.config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage import errors
from storage.objects import key_rules, probe, s3_aging, s3_errors, whole_file
from storage.objects.store import EachByItself, Entry, Lifecycle, Standing, Together

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART = 8 * 1024 * 1024  # bytes; larger files go up in parts, one at a time
MAX_PARTS = 10_000  # S3's limit: beyond 78 GiB the parts grow
MAX_TAGS = 10  # of one object, S3's limit
DELETE_AT_ONCE = 1000  # keys, S3's limit
ATTEMPTS = 5  # at a conflict with another writer, or at a body that broke off
EXISTS, CONFLICT = 412, 409  # HTTP statuses
CONFLICT_PAUSE = 0.1  # seconds, doubled at each attempt


class Options(BaseModel):
    """What an S3 store can be told, in its URL's query or by the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str | None = Field(
        default=None, pattern=r"^https?://[^@\s]+$"
    )  # of another service than Amazon's
    region: str | None = None  # None: what AWS_REGION or the profile says
    addressing: Literal["auto", "path", "virtual"] = "auto"
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = (
        None  # encryption at rest; None: the bucket's default
    )
    sse_kms_key_id: str | None = None
    storage_class: str | None = None  # of everything put; None: the bucket's default
    tags: str | None = None  # of everything put, `project=books&owner=me`; lifecycle rules then go by them, too
    retries: int = Field(default=5, ge=1, le=20)  # attempts at each request, the first included
    retry_mode: Literal["standard", "adaptive"] = "standard"  # adaptive also slows down when S3 asks for it
    timeout: float = Field(default=60, gt=0, le=3600)  # seconds without a byte
    connect_timeout: float = Field(default=10, gt=0, le=300)  # seconds
    pool: int = Field(default=32, ge=1, le=1000)  # connections kept open, shared by all threads

    @field_validator("tags")
    @classmethod
    def _tags_are_tags(cls, value: str | None) -> str | None:
        pairs = parse_qsl(value or "", keep_blank_values=True, strict_parsing=bool(value))
        if len(pairs) > MAX_TAGS or len(dict(pairs)) < len(pairs):
            raise ValueError(f"at most {MAX_TAGS} tags, each once, as name=value&name=value")
        return value


class S3Store:
    """The store over one bucket, below a prefix. The bucket must be there."""

    def __init__(self, bucket: str, prefix: str = "", options: Options | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options or Options()
        with s3_errors.told(self.url, "opening", bucket):
            self._client = _client(self._options)

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """Store bytes under a key, whole or not at all. False if the key was there."""
        name = self._name(key)
        return self._once(
            key,
            lambda: self._client.put_object(
                Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*", **self._kept_as(content_type)
            ),
        )

    def together(self) -> Together:
        """For many puts in a row; here each lasts by itself."""
        return EachByItself(self)

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> bool:
        """Store a file of any size in one part's memory, whole or not at all. False if the key was there."""
        with path.open("rb") as source:
            if (size := os.fstat(source.fileno()).st_size) <= PART:
                return self.put(key, source.read(), content_type=content_type)
            new = self.size(key) is None
            if new:
                new = self._once(key, lambda: self._put_parts(key, source, size, content_type))
            self._abort_uploads(self._name(key))
            return new

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises ObjectMissingError, ObjectArchivedError."""
        name = self._name(key)
        with s3_errors.told(self.url, "reading", key):
            for _ in range(ATTEMPTS - 1):
                body = self._client.get_object(Bucket=self._bucket, Key=name)["Body"]
                with suppress(*s3_errors.BROKE_OFF):  # in the body boto3 does not try again
                    return body.read()
            return self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()

    def open(self, key: str) -> BinaryIO:
        """The object as a readable stream; close it. Raises ObjectMissingError, ObjectArchivedError."""
        name = self._name(key)
        with s3_errors.told(self.url, "reading", key):
            body = self._client.get_object(Bucket=self._bucket, Key=name)["Body"]
        return io.BufferedReader(_Body(body, self.url, key), 256 * 1024)

    def download(self, key: str, path: Path) -> None:
        """Write the object to a file, whole or not at all. Raises ObjectMissingError; an OSError is the file's."""
        name = self._name(key)
        with whole_file.replacing(path) as target, s3_errors.told(self.url, "reading", key):
            self._client.download_fileobj(self._bucket, name, target)

    def size(self, key: str) -> int | None:
        """The object's size in bytes, None where there is no such object."""
        name = self._name(key)
        try:
            with s3_errors.told(self.url, "reading", key):
                return self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"]
        except errors.ObjectMissingError:
            return None

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        names = map(self._name, keys)
        while some := list(itertools.islice(names, DELETE_AT_ONCE)):
            with s3_errors.told(self.url, "deleting", some[0]):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": name} for name in some], "Quiet": True}
                )
                for failed in answer.get("Errors", []):
                    raise ClientError({"Error": {"Code": failed.get("Code", "")}}, "DeleteObjects")

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key starts with the prefix, ordered by key. Holds 1,000 at a time."""
        start = self._prefix + key_rules.check_prefix(prefix, self.url)
        with s3_errors.told(self.url, "listing", prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start
            ):
                for found in page.get("Contents", []):
                    yield Entry(
                        found["Key"].removeprefix(self._prefix),
                        found["Size"],
                        found["LastModified"],
                        found.get("StorageClass", "STANDARD"),
                    )

    def check(self) -> None:
        """Write, read and delete one small object, to find a fault before any work is done."""
        probe.round_trip(self)

    @property
    def bucket_prefix(self) -> str:
        """What all keys begin with in the bucket: empty, or `books/`."""
        return self._prefix

    @property
    def tags(self) -> Mapping[str, str]:
        """What every object written here is tagged with."""
        return dict(parse_qsl(self._options.tags or "", keep_blank_values=True))

    @property
    def storage_class(self) -> str:
        """In what every object is put here, in S3's words."""
        return self._options.storage_class or "STANDARD"

    def versions(self) -> bool | None:
        """Whether what is deleted may stay in the bucket as a version; None: the server does not tell us."""
        with s3_errors.told(self.url, "reading", "the versioning"):
            return s3_aging.versions(self._client, self._bucket)

    def lifecycle(self) -> Lifecycle:
        """The bucket's rules, whoever made them."""
        with s3_errors.told(self.url, "reading", "the lifecycle rules"):
            return s3_aging.lifecycle(self._client, self._bucket)

    def set_lifecycle(self, lifecycle: Lifecycle) -> None:
        """Replace the bucket's rules, all of them; S3 knows no other way."""
        with s3_errors.told(self.url, "writing", "the lifecycle rules"):
            s3_aging.set_lifecycle(self._client, self._bucket, lifecycle)

    def standing(self, key: str) -> Standing | None:
        """How an object stands, None where there is none."""
        name = self._name(key)
        try:
            with s3_errors.told(self.url, "reading", key):
                return s3_aging.standing(self._client, self._bucket, name)
        except errors.ObjectMissingError:
            return None

    def restore(self, key: str, *, days: int, tier: str) -> None:
        """Ask for a readable copy for so many days; asking while it is on its way changes nothing."""
        name = self._name(key)
        with s3_errors.told(self.url, "thawing", key):
            s3_aging.restore(self._client, self._bucket, name, days, tier)

    def _name(self, key: str) -> str:
        return key_rules.check(self._prefix + key, self.url)

    def _kept_as(self, content_type: str) -> dict[str, Any]:
        """What a new object is told of itself."""
        said = {
            "ContentType": content_type,
            "ServerSideEncryption": self._options.sse,
            "SSEKMSKeyId": self._options.sse_kms_key_id,
            "StorageClass": self._options.storage_class,
            "Tagging": urlencode(self.tags) or None,
        }
        return {name: value for name, value in said.items() if value is not None}

    def _once(self, key: str, send: Callable[[], object]) -> bool:
        for attempt in range(ATTEMPTS):
            with s3_errors.told(self.url, "writing", key):
                try:
                    send()
                    return True
                except ClientError as error:
                    if s3_errors.status_of(error) == EXISTS:
                        return False
                    if s3_errors.status_of(error) != CONFLICT:
                        raise
            time.sleep(CONFLICT_PAUSE * 2**attempt * random.uniform(0.5, 1))
        raise errors.StoreUnreachableError(url=self.url, reason=f"other writers of {key} are in the way")

    def _put_parts(self, key: str, source: BinaryIO, size: int, content_type: str) -> None:
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": self._name(key)}
        upload = self._client.create_multipart_upload(**target, **self._kept_as(content_type))["UploadId"]
        try:
            source.seek(0)
            part = max(PART, -(-size // MAX_PARTS))
            parts: list[CompletedPartTypeDef] = []
            for number in range(1, -(-size // part) + 1):
                answer = self._client.upload_part(
                    **target, UploadId=upload, PartNumber=number, Body=source.read(part)
                )
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            self._client.complete_multipart_upload(
                **target, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            with suppress(
                ClientError, BotoCoreError
            ):  # what is left of it, the bucket's lifecycle rules remove
                self._client.abort_multipart_upload(**target, UploadId=upload)
            raise

    def _abort_uploads(self, name: str) -> None:
        """End what other attempts at an object that is there have left of themselves, killed in the middle.

        Should one of them be under way still, it ends with an error, and finds the object when it tries again.
        """
        with suppress(
            ClientError, BotoCoreError
        ):  # may we not list them, the bucket's lifecycle rules remove them
            found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=name)
            for upload in found.get("Uploads", []):
                if upload["Key"] == name:
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=name, UploadId=upload["UploadId"]
                    )


class _Body(io.RawIOBase):
    """The body of an answer as a raw stream that fails in Voicemill's conditions."""

    def __init__(self, body: Any, url: str, key: str) -> None:
        self._body, self._url, self._key = body, url, key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with s3_errors.told(self._url, "reading", self._key):
            data = self._body.read(memoryview(buffer).nbytes)
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()


def _client(options: Options) -> "S3Client":
    other_service = options.endpoint_url is not None
    return boto3.session.Session().client(
        "s3",
        region_name=options.region,
        endpoint_url=options.endpoint_url,
        config=botocore.config.Config(
            connect_timeout=options.connect_timeout,
            read_timeout=options.timeout,
            retries={"mode": options.retry_mode, "total_max_attempts": options.retries},
            max_pool_connections=options.pool,
            tcp_keepalive=True,
            s3={"addressing_style": options.addressing},
            # Amazon checks a CRC of every request; not every other service knows that header
            request_checksum_calculation="when_required" if other_service else "when_supported",
            response_checksum_validation="when_required" if other_service else "when_supported",
        ),
    )
