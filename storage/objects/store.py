"""What an object store must do: the interface behind which a folder and an S3 bucket are alike."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object, as a listing tells of it."""

    key: str
    size: int  # bytes
    modified: datetime  # with time zone
    storage_class: str = "STANDARD"  # in S3's words


class Together(Protocol):
    """Puts that wait for the disk together. Several threads may put at once, and one flush when they have. Close it."""

    @property
    def at_once(self) -> int:
        """How many threads it pays to put from: as many as can wait at the same time."""
        ...

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """As the store's own, but the object may not be there before `flush` has returned."""
        ...

    def flush(self) -> None:
        """Wait until all that was put is there and outlives a power cut. Raises a StoreError; then none of it may be."""
        ...

    def close(self) -> None:
        """Forget what was not flushed."""
        ...


class Store(Protocol):
    """Write-once objects under slash-separated keys.

    Keys follow from content (`storage.keys`), so the first writer of a key has written what every later one would:
    a put on a key that exists writes nothing and returns False. Every method is safe to call from several threads
    and raises a `storage.errors.StoreError`.
    """

    @property
    def url(self) -> str:
        """Where it is, without secrets: `file:///srv/voicemill` or `s3://bucket/prefix`."""
        ...

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """Store bytes under a key, whole or not at all. False if the key was there."""
        ...

    def together(self) -> Together:
        """For many puts in a row: waiting for the disk once for all of them is much quicker than once for each."""
        ...

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> bool:
        """Store a file of any size in constant memory, whole or not at all. False if the key was there."""
        ...

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises ObjectMissingError."""
        ...

    def open(self, key: str) -> BinaryIO:
        """The object as a readable stream; close it. Raises ObjectMissingError."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Write the object to a file, whole or not at all. Raises ObjectMissingError."""
        ...

    def size(self, key: str) -> int | None:
        """The object's size in bytes, None where there is no such object."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key starts with the prefix, ordered by key, in constant memory."""
        ...

    def check(self) -> None:
        """Write, read and delete one small object, to find a fault before any work is done."""
        ...


class Warmth(StrEnum):
    """Whether an object can be read."""

    READY = "ready"  # at once; a thawed copy counts
    FROZEN = "frozen"  # in an archive, and nobody has asked for it
    THAWING = "thawing"  # in an archive, asked for


@dataclass(frozen=True, slots=True)
class Standing:
    """How an object stands in a store that has archives."""

    size: int  # bytes
    storage_class: str  # in S3's words
    warmth: Warmth
    until: datetime | None = None  # the thawed copy stays until then; None where there is no such copy


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A bucket's rules, as S3 says them, whoever made them."""

    rules: Sequence[Mapping[str, Any]] = ()
    default_minimum: str | None = None  # which objects are too small to be moved, where a rule says nothing


@runtime_checkable
class AgingStore(Protocol):
    """What a store can do besides whose objects grow old: rules that move and remove them, archives to thaw from.

    The rules are the whole bucket's. Every method raises a `storage.errors.StoreError`.
    """

    @property
    def bucket_prefix(self) -> str:
        """What all keys begin with in the bucket: empty, or `books/`."""
        ...

    @property
    def tags(self) -> Mapping[str, str]:
        """What every object written here is tagged with."""
        ...

    @property
    def storage_class(self) -> str:
        """In what every object is put here, in S3's words."""
        ...

    def versions(self) -> bool | None:
        """Whether what is deleted may stay in the bucket as a version; None: the server does not tell us."""
        ...

    def lifecycle(self) -> Lifecycle:
        """The bucket's rules."""
        ...

    def set_lifecycle(self, lifecycle: Lifecycle) -> None:
        """Replace the bucket's rules, all of them; S3 knows no other way."""
        ...

    def standing(self, key: str) -> Standing | None:
        """How an object stands, None where there is none."""
        ...

    def restore(self, key: str, *, days: int, tier: str) -> None:
        """Ask for a readable copy for so many days; asking while it is on its way changes nothing.

        Tiers: `Expedited`, `Standard`, `Bulk`.
        """
        ...


@dataclass(frozen=True, slots=True)
class EachByItself:
    """`together` of a store that has nothing to gain from it."""

    store: Store
    at_once: int = 8  # waiting for a disk or for S3 is shared

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """The store's own put, which lasts as soon as it returns."""
        return self.store.put(key, data, content_type=content_type)

    def flush(self) -> None:
        """Nothing is left to wait for."""

    def close(self) -> None:
        """Nothing is held."""


StoreOptions = Mapping[str, str]
