"""Which keys a store takes: the same for every store, so that what goes into one goes into any other."""

from storage import errors

MAX_KEY = 1024  # bytes of UTF-8, with a bucket's prefix: what S3 takes
MAX_PART = 255  # bytes of UTF-8 between two slashes: what Linux file systems take
TEMPORARY = ".tmp"  # the folder store's own, at its root


class BadKeyError(errors.StoreError):
    """The object store {url} cannot hold the key {key!r}: {reason}."""


def check(key: str, url: str) -> str:
    """The key itself, if every store can hold it. Raises BadKeyError."""
    if reason := fault(key):
        raise BadKeyError(url=url, key=key[:200], reason=reason)
    return key


def check_prefix(prefix: str, url: str) -> str:
    """The prefix itself, if it can begin a key: empty, `takes/`, `takes/ab`. Raises BadKeyError."""
    folder, _, _ = prefix.rpartition("/")
    if folder and (reason := fault(folder)):
        raise BadKeyError(url=url, key=prefix[:200], reason=reason)
    return prefix


def fault(key: str) -> str | None:
    """What is wrong with a key, in words; None if every store can hold it."""
    try:
        parts = [part.encode() for part in key.split("/")]
    except UnicodeEncodeError:
        return "it is not text that UTF-8 can write"
    if b"" in parts:
        return "it is empty, begins or ends with a slash, or has two in a row"
    if b"." in parts or b".." in parts:
        return "`.` and `..` are not names"
    if any(character < " " or character == "\x7f" for character in key):
        return "it has a control character in it"
    if parts[0] == TEMPORARY.encode():
        return f"{TEMPORARY} is the store's own"
    if sum(map(len, parts)) + len(parts) - 1 > MAX_KEY or max(map(len, parts)) > MAX_PART:
        return f"it is longer than {MAX_KEY} bytes, or {MAX_PART} between two slashes"
    return None
