"""Object stores: `open_store` makes one from its URL, `storage.objects.store` says what it can do."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ValidationError

from storage import errors
from storage.objects import folder, key_rules
from storage.objects.store import Entry, Store, StoreOptions

__all__ = ["Entry", "ExtraMissingError", "Store", "StoreOptions", "StoreUrlError", "open_store"]

SCHEMES = ("file", "s3")
SECRET = re.compile(r"secret|password|token|credential|access_?key", re.IGNORECASE)
NO_SECRETS = "no URL is a place for secrets. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile"
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")

Options = TypeVar("Options", bound=BaseModel)


class StoreUrlError(errors.InputError):
    """The object store {url} cannot be used: {reason}."""


class ExtraMissingError(errors.InputError):
    """The object store {url} needs boto3, which is not installed here: pip install 'voicemill[s3]'."""


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """The store behind a URL: `file:///srv/voicemill`, a path, or `s3://bucket/prefix`.

    Options (`folder.Options`, `s3.Options`) come from the URL's query and from `options`; the URL wins.
    Nothing is written and no server asked yet. Raises StoreUrlError, ExtraMissingError, StoreError.
    """
    if not re.match(r"(file|s3):|[A-Za-z][A-Za-z0-9+.-]+:/", url):
        return folder.FolderStore(_path(url, url), _parse(folder.Options, {}, options, url))
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreUrlError(url="", reason=error) from error
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # without what may be secret
    if parts.scheme not in SCHEMES:
        raise StoreUrlError(url=shown, reason=_unknown("scheme", parts.scheme, SCHEMES))
    query = _query(parts, shown)
    if parts.scheme == "s3":
        return _open_s3(parts, query, options, shown)
    if parts.netloc not in ("", "localhost"):
        raise StoreUrlError(
            url=shown, reason=f"file:// takes three slashes and a path: file:///{parts.netloc}…"
        )
    return folder.FolderStore(_path(unquote(parts.path), shown), _parse(folder.Options, query, options, shown))


def _path(path: str, shown: str) -> Path:
    if not path or "\0" in path:
        raise StoreUrlError(url=repr(shown), reason="it names no folder")
    return Path(path).expanduser()


def _open_s3(parts: SplitResult, query: dict[str, str], options: StoreOptions | None, shown: str) -> Store:
    try:
        from storage.objects import s3
    except ModuleNotFoundError as error:
        raise ExtraMissingError(url=shown) from error
    if not BUCKET.fullmatch(parts.netloc):
        raise StoreUrlError(url=shown, reason=f"{parts.netloc!r} is no bucket name")
    prefix = unquote(parts.path).strip("/")
    if prefix and (reason := key_rules.fault(prefix)):
        raise StoreUrlError(url=shown, reason=f"of its prefix, {reason}")
    return s3.S3Store(parts.netloc, prefix, _parse(s3.Options, query, options, shown))


def _query(parts: SplitResult, shown: str) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    if "@" in parts.netloc or "@" in dict(pairs).get("endpoint_url", "") or any(map(SECRET.search, names)):
        raise StoreUrlError(
            url=shown,
            reason=NO_SECRETS,
        )
    if parts.fragment:
        raise StoreUrlError(url=shown, reason="write # as %23")
    if len(names) != len(set(names)):
        raise StoreUrlError(url=shown, reason="it gives an option twice")
    return dict(pairs)


def _parse(model: type[Options], query: dict[str, str], options: StoreOptions | None, shown: str) -> Options:
    given = {**(options or {}), **query}
    for name in given:
        if name not in model.model_fields:
            raise StoreUrlError(url=shown, reason=_unknown("option", name, model.model_fields))
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(map(str, fault["loc"]))
        raise StoreUrlError(url=shown, reason=f"{name}: {fault['msg']}, not {fault['input']!r}") from error


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"there is no {what} {name!r} ({hint})"
