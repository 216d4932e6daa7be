"""Puts that wait for the disk together: seen when they are flushed, all of them or, after a fault, none."""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from storage import errors
from storage.objects import folder
from storage.objects.store import Together


@pytest.fixture
def store(tmp_path: Path) -> folder.FolderStore:
    return folder.FolderStore(tmp_path / "store")


@pytest.fixture
def together(store: folder.FolderStore) -> Iterator[Together]:
    with closing(store.together()) as puts:
        yield puts


def test_what_was_flushed_is_there(store: folder.FolderStore, together: Together) -> None:
    keys = [f"takes/{number:02x}/{number}.wav" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda key: together.put(key, key.encode()), keys))
    together.flush()
    assert {entry.key: store.get(entry.key).decode() for entry in store.list()} == {key: key for key in keys}
    assert not together.put(keys[0], b"other")


def test_what_was_not_flushed_leaves_nothing(store: folder.FolderStore, tmp_path: Path) -> None:
    with closing(store.together()) as puts:
        puts.put("takes/ab/abc.wav", b"data")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_after_a_fault_of_the_disk_nothing_has_a_name(
    store: folder.FolderStore, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    together.put("takes/ab/abc.wav", b"lost")
    with monkeypatch.context() as broken:
        broken.setattr(folder, "_SYNCFS", lambda descriptor: -1)
        broken.setattr(folder.ctypes, "get_errno", lambda: errno.EIO)
        with pytest.raises(errors.StoreUnreachableError, match=os.strerror(errno.EIO)):
            together.flush()
    together.flush()  # says nothing of what is lost
    assert store.size("takes/ab/abc.wav") is None
    assert together.put("takes/ab/abc.wav", b"again")
    together.flush()
    assert store.get("takes/ab/abc.wav") == b"again"


def test_the_first_writer_wins(store: folder.FolderStore, together: Together) -> None:
    together.put("key", b"later")
    assert store.put("key", b"first")
    together.flush()
    assert store.get("key") == b"first"


def test_a_store_that_need_not_last_puts_at_once(tmp_path: Path) -> None:
    store = folder.FolderStore(tmp_path, folder.Options(durable=False))
    with closing(store.together()) as puts:
        assert puts.put("key", b"data")
    assert store.get("key") == b"data"
