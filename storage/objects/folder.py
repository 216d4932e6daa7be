"""A folder of files as an object store: one disk, or a network mount that several machines share.

An object is written to `.tmp/` at the root, then given its name by a hard link, which the file system makes
for one of any number of writers and refuses the others. So no name ever stands for half an object, whatever is
killed when.

What a killed process had put is kept in any case. After a power cut the last half minute may be missing or, worse,
there but empty; against that, each put waits for the disk twice, for the file and for its folder; puts `together`
wait once for all of them, where Linux can (syncfs). On an idle
virtual disk one thread then puts 900 objects of 100 kB a second instead of 3,500, on one that others keep busy 100
instead of 500; threads share the waiting. `?durable=false` does without, for what can be made again.
"""

import ctypes
import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from storage import errors, owners
from storage.objects import key_rules, probe, whole_file
from storage.objects.store import EachByItself, Entry, Together

ABANDONED = 24 * 3600  # seconds after which a temporary file belongs to nobody who lives
ATTEMPTS = 100  # at a name whose folder others are removing at the same time

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
UNREACHABLE = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV}
_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Python's os has none
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_numbers = itertools.count()  # of this process' temporary files
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}  # how FAT and some network mounts say so


class Options(BaseModel):
    """What a folder store can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    durable: bool = True  # whether what is put outlives a power cut


class FolderStore:
    """The store over one folder, which is made at the first put. Content types are not kept."""

    def __init__(self, root: Path, options: Options | None = None) -> None:
        self._root = root.absolute()
        self._temporary = self._root / key_rules.TEMPORARY
        self._durable = (options or Options()).durable
        self._remove_abandoned()

    @property
    def url(self) -> str:
        """`file:///srv/voicemill`."""
        return self._root.as_uri()

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """Store bytes under a key, whole or not at all. False if the key was there."""
        return self._write_once(key, lambda descriptor: _write_all(descriptor, data))

    def together(self) -> Together:
        """For many puts in a row: one wait for the disk, at `flush`."""
        if self._durable and _SYNCFS is not None:
            with self._told("writing", ""):
                self._make(self._root, wait=True)
                return _Together(self)
        return EachByItself(self, at_once=8 if self._durable else 2)  # see `_Together`

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> bool:
        """Store a file of any size in constant memory, whole or not at all. False if the key was there."""

        def copy(descriptor: int) -> None:
            with path.open("rb") as source, os.fdopen(descriptor, "wb", closefd=False) as target:
                shutil.copyfileobj(source, target, 1024 * 1024)

        return self._write_once(key, copy)

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises ObjectMissingError."""
        with self.open(key) as stream:
            return stream.read()

    def open(self, key: str) -> BinaryIO:
        """The object as a readable stream; close it. Raises ObjectMissingError."""
        with self._told("reading", key):
            return self._path(key).open("rb")

    def download(self, key: str, path: Path) -> None:
        """Write the object to a file, whole or not at all. Raises ObjectMissingError; an OSError is the file's."""
        with self.open(key) as stream, whole_file.replacing(path) as target:
            shutil.copyfileobj(stream, target, 1024 * 1024)

    def size(self, key: str) -> int | None:
        """The object's size in bytes, None where there is no such object."""
        path = self._path(key)
        try:
            with self._told("reading", key):
                return path.stat().st_size if not path.is_dir() else None
        except errors.ObjectMissingError:
            return None

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, and folders that they leave empty; objects that are not there are passed over."""
        for key in keys:
            path = self._path(key)
            with suppress(errors.ObjectMissingError), self._told("deleting", key):
                path.unlink()
            self._remove_empty(path.parent)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key starts with the prefix, ordered by key. Holds one folder's names at a time."""
        folder, _, start = key_rules.check_prefix(prefix, self.url).rpartition("/")
        with self._told("listing", prefix):
            yield from self._walk(folder, start)

    def check(self) -> None:
        """Write, read and delete one small object, to find a fault before any work is done."""
        probe.round_trip(self)

    def _path(self, key: str) -> Path:
        return self._root / key_rules.check(key, self.url)

    def _write_once(self, key: str, write: Callable[[int], None]) -> bool:
        path = self._path(key)
        with self._told("writing", key):
            if path.is_file():
                return False
            temporary = self._write(write, wait=self._durable)
            try:
                return self._publish(temporary, path, wait=self._durable)
            finally:
                with suppress(OSError):
                    temporary.unlink()

    def _write(self, write: Callable[[int], None], *, wait: bool) -> Path:
        """A new temporary file with what `write` writes to its descriptor."""
        temporary = self._temporary / f"{owners.this_process()}@{next(_numbers):x}"
        try:
            descriptor = os.open(temporary, _NEW, 0o666)
        except (FileNotFoundError, NotADirectoryError):
            self._make(self._temporary, wait=self._durable)
            descriptor = os.open(temporary, _NEW, 0o666)
        try:
            write(descriptor)
            if wait:
                os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)
        return temporary

    def _publish(self, temporary: Path, path: Path, *, wait: bool) -> bool:
        for _ in range(ATTEMPTS):
            try:
                new = _link(temporary, path)
                break
            except (FileNotFoundError, NotADirectoryError):
                with suppress(FileNotFoundError):  # deletes remove folders that are empty
                    self._make(path.parent, wait=wait)
        else:
            raise OSError(errno.ENOENT, "its folder is removed again and again")
        if new and wait:
            with suppress(FileNotFoundError):  # deleted since, folder and all
                _sync_folder(path.parent)
        return new

    def _make(self, folder: Path, *, wait: bool) -> None:
        if folder.is_dir():
            return
        if folder != self._root:
            self._make(folder.parent, wait=wait)
        try:
            folder.mkdir(parents=folder == self._root)
        except FileExistsError:  # made by another; perhaps removed by a third
            if folder.is_file():
                raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder") from None
        if wait:
            _sync_folder(folder.parent)

    def _walk(self, folder: str, start: str) -> Iterator[Entry]:
        try:
            with os.scandir(self._root / folder) as found:
                names = sorted(
                    entry.name + "/" * entry.is_dir() for entry in found if entry.name.startswith(start)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:  # a folder sorts with its slash, as its keys do: `a-b` comes before `a/b`
            key = f"{folder}/{name}" if folder else name
            if name == f"{key_rules.TEMPORARY}/" and not folder:
                continue
            if name.endswith("/"):
                yield from self._walk(key[:-1], "")
                continue
            with suppress(FileNotFoundError):  # deleted since
                found_now = (self._root / key).stat()
                yield Entry(key, found_now.st_size, datetime.fromtimestamp(found_now.st_mtime, UTC))

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):  # not empty, or another's doing
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _remove_abandoned(self) -> None:
        with suppress(OSError), os.scandir(self._temporary) as found:
            for entry in found:
                writer = entry.name.rpartition("@")[0]
                if owners.is_gone(writer) or entry.stat().st_mtime < time.time() - ABANDONED:
                    os.unlink(entry)  # noqa: PTH108 - an entry, not a path

    @contextmanager
    def _told(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in FULL:
                raise errors.StoreFullError(url=self.url, reason=reason) from error
            if error.errno in FORBIDDEN:
                raise errors.StoreForbiddenError(
                    url=self.url, action=f"{action} {key}", reason=reason
                ) from error
            if error.errno in MISSING and action != "writing":
                raise errors.ObjectMissingError(url=self.url, key=key) from error
            if error.errno in UNREACHABLE:
                raise errors.StoreUnreachableError(url=self.url, reason=reason) from error
            raise errors.StoreError(url=self.url, reason=f"{action} {key}: {reason}") from error


class _Together:
    """Files that get their names together, once the bytes of all of them are on the disk.

    Its descriptor is told of every fault of the file system since it was opened. After one nothing can be said of the files
    that waited, so none gets a name.
    """

    at_once = 2  # nothing waits here; more threads would only take turns with each other

    def __init__(self, store: FolderStore) -> None:
        self._store = store
        self._descriptor = os.open(store._root, os.O_RDONLY)
        self._waiting: list[tuple[Path, Path]] = []  # each file and what it is to be called

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> bool:
        path = self._store._path(key)
        with self._store._told("writing", key):
            if path.is_file():
                return False
            temporary = self._store._write(lambda descriptor: _write_all(descriptor, data), wait=False)
            self._waiting.append((temporary, path))
        return True

    def flush(self) -> None:
        try:
            with self._store._told("flushing", ""):
                self._wait()
                for temporary, path in self._waiting:
                    self._store._publish(temporary, path, wait=False)
                self._wait()
        finally:
            self._clear()

    def close(self) -> None:
        self._clear()
        os.close(self._descriptor)

    def _wait(self) -> None:
        assert _SYNCFS is not None
        if _SYNCFS(self._descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def _clear(self) -> None:
        for temporary, _ in self._waiting:
            with suppress(OSError):
                temporary.unlink()
        self._waiting.clear()


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # one write takes less than all of it where the disk is almost full
        left = left[os.write(descriptor, left) :]


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "other keys begin with this one and a slash") from None
        return False
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if path.exists():
            return False
        os.rename(temporary, path)  # noqa: PTH104 - two writers here both say True, and have written the same
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
