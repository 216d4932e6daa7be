"""What went wrong at S3, in Voicemill's conditions. Imported only where boto3 is."""

from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions as boto
from s3transfer.exceptions import RetriesExceededError

from storage import errors

MISSING = {"NoSuchKey", "NotFound", "404", "NoSuchVersion"}
FORBIDDEN = {"AccessDenied", "ExpiredToken", "InvalidToken"}
FORBIDDEN_STATUS = {401, 403}
FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"}
FULL_STATUS = {507}
UNREACHABLE = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"}
UNREACHABLE_STATUS = {429, 500, 502, 503, 504}
NO_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
BROKE_OFF = (boto.ResponseStreamingError, boto.IncompleteReadError, boto.ReadTimeoutError)
NO_ANSWER = (
    *BROKE_OFF,
    *(boto.ConnectionError, boto.HTTPClientError, RetriesExceededError),
    *(ConnectionError, TimeoutError),  # of the other OSErrors a local file may be the cause
)


@contextmanager
def told(url: str, action: str, key: str) -> Iterator[None]:
    """Turns what boto3 raises in the block into a StoreError."""
    try:
        yield
    except boto.ClientError as error:
        raise answered(url, action, key, error) from error
    except NO_CREDENTIALS as error:
        raise errors.StoreForbiddenError(url=url, action=f"{action} {key}", reason=error) from error
    except NO_ANSWER as error:
        raise errors.StoreUnreachableError(url=url, reason=error) from error
    except boto.BotoCoreError as error:
        raise errors.StoreError(url=url, reason=f"{action} {key}: {error}") from error


def answered(url: str, action: str, key: str, error: boto.ClientError) -> errors.StoreError:
    """The condition that an answer of the server tells of, by its code first and its HTTP status then."""
    code, status = code_of(error), status_of(error)
    reason = f"{code}: {error.response.get('Error', {}).get('Message', '')}".removesuffix(": ")
    if code == "NoSuchBucket":
        return errors.StoreError(url=url, reason="there is no such bucket")
    if code == "InvalidObjectState":
        return errors.ObjectArchivedError(url=url, key=key)
    if code in MISSING:
        return errors.ObjectMissingError(url=url, key=key)
    if code in FULL or status in FULL_STATUS:
        return errors.StoreFullError(url=url, reason=reason)
    if code in FORBIDDEN or status in FORBIDDEN_STATUS:
        return errors.StoreForbiddenError(url=url, action=f"{action} {key}", reason=reason)
    if code in UNREACHABLE or status in UNREACHABLE_STATUS:
        return errors.StoreUnreachableError(url=url, reason=reason)
    return errors.StoreError(url=url, reason=f"{action} {key}: {reason}")


def code_of(error: boto.ClientError) -> str:
    """The server's word for it, such as `SlowDown`; where it gave none, boto3 has put the status as text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    """The HTTP status, 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
