"""Growing old in S3: the bucket's lifecycle rules, archives and what is thawed from them. Imported only where boto3 is.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html and API_RestoreObject.html.
"""

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from storage.objects import s3_errors
from storage.objects.store import Lifecycle, Standing, Warmth

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}  # classes whose objects must be thawed before they can be read
UNDER_WAY = "RestoreAlreadyInProgress"
NO_RULES = "NoSuchLifecycleConfiguration"
UNTOLD = {403, 405, 501}  # HTTP statuses: not to us, or a service that knows no versions


def lifecycle(client: "S3Client", bucket: str) -> Lifecycle:
    """The bucket's rules; none where there never were any. Raises ClientError."""
    try:
        answer = client.get_bucket_lifecycle_configuration(Bucket=bucket)
    except ClientError as error:
        if s3_errors.code_of(error) == NO_RULES:
            return Lifecycle()
        raise
    minimum = answer.get("TransitionDefaultMinimumObjectSize")
    return Lifecycle([dict(rule) for rule in answer.get("Rules", [])], minimum)


def set_lifecycle(client: "S3Client", bucket: str, wanted: Lifecycle) -> None:
    """Replace the bucket's rules. Raises ClientError."""
    if not wanted.rules:
        client.delete_bucket_lifecycle(Bucket=bucket)
        return
    told: dict[str, Any] = {"LifecycleConfiguration": {"Rules": list(wanted.rules)}}
    if wanted.default_minimum is not None:
        told["TransitionDefaultMinimumObjectSize"] = wanted.default_minimum
    client.put_bucket_lifecycle_configuration(Bucket=bucket, **told)


def versions(client: "S3Client", bucket: str) -> bool | None:
    """Whether the bucket keeps versions, or did and may hold some still. None: we are not told. Raises ClientError."""
    try:
        return "Status" in client.get_bucket_versioning(Bucket=bucket)
    except ClientError as error:
        if s3_errors.status_of(error) in UNTOLD:
            return None
        raise


def standing(client: "S3Client", bucket: str, name: str) -> Standing:
    """How an object stands, by its headers. Raises ClientError."""
    head = client.head_object(Bucket=bucket, Key=name)
    storage_class = str(head.get("StorageClass", "STANDARD"))
    restore = head.get("Restore", "")
    if storage_class not in ARCHIVES:
        return Standing(head["ContentLength"], storage_class, Warmth.READY)
    if 'ongoing-request="true"' in restore:
        return Standing(head["ContentLength"], storage_class, Warmth.THAWING)
    if 'ongoing-request="false"' in restore:
        stays = re.search(r'expiry-date="([^"]+)"', restore)
        until = parsedate_to_datetime(stays.group(1)) if stays else None
        return Standing(head["ContentLength"], storage_class, Warmth.READY, until)
    return Standing(head["ContentLength"], storage_class, Warmth.FROZEN)


def restore(client: "S3Client", bucket: str, name: str, days: int, tier: str) -> None:
    """Ask for a readable copy. One that is on its way already is left to come. Raises ClientError."""
    try:
        client.restore_object(
            Bucket=bucket,
            Key=name,
            RestoreRequest={"Days": days, "GlacierJobParameters": {"Tier": tier}},  # type: ignore[typeddict-item]
        )
    except ClientError as error:
        if s3_errors.code_of(error) != UNDER_WAY:
            raise
