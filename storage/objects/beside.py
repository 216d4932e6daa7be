"""A store to read from and one to write to, as one: what is made for the moment does not go into the store of record."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from storage import errors
from storage.objects.store import EachByItself, Entry, Store, Together


class BesideStore:
    """Writes go to `near`; what is not there is read from `far`, of which nothing is ever changed.

    Only what is near counts as being there already: an object that is far, but frozen, is written once more.
    """

    def __init__(self, near: Store, far: Store) -> None:
        self._near, self._far = near, far

    @property
    def url(self) -> str:
        """Where it reads from."""
        return self._far.url

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """Store bytes near. False if the key was there."""
        return self._near.put(key, data, content_type=content_type)

    def together(self) -> Together:
        """For many puts in a row."""
        return EachByItself(self)

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> bool:
        """Store a file near. False if the key was there."""
        return self._near.upload(key, path, content_type=content_type)

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises ObjectMissingError."""
        try:
            return self._near.get(key)
        except errors.ObjectMissingError:
            return self._far.get(key)

    def open(self, key: str) -> BinaryIO:
        """The object as a readable stream; close it. Raises ObjectMissingError."""
        try:
            return self._near.open(key)
        except errors.ObjectMissingError:
            return self._far.open(key)

    def download(self, key: str, path: Path) -> None:
        """Write the object to a file. Raises ObjectMissingError."""
        try:
            self._near.download(key, path)
        except errors.ObjectMissingError:
            self._far.download(key, path)

    def size(self, key: str) -> int | None:
        """The object's size in bytes, near or far."""
        size = self._near.size(key)
        return self._far.size(key) if size is None else size

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects that are near."""
        self._near.delete(keys)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """What is near."""
        return self._near.list(prefix)

    def check(self) -> None:
        """See whether the near one can be written to."""
        self._near.check()
