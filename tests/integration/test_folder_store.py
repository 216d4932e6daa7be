"""What is a folder's alone: killed writers, full disks, permissions, file systems without hard links."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage import errors
from storage.objects import folder

PUT_BEYOND_LIMIT = """
import resource, sys
from pathlib import Path
from storage import errors
from storage.objects import folder
store = folder.FolderStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
assert store.put("small", bytes(100_000))
try:
    store.put("big", bytes(100_001))
except errors.StoreFullError as error:
    print(error)
"""

UPLOAD = """
import sys
from pathlib import Path
from storage.objects import folder
folder.FolderStore(Path(sys.argv[1])).upload("book", Path(sys.argv[2]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a store"


@pytest.fixture
def store(root: Path) -> folder.FolderStore:
    return folder.FolderStore(root)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_opening_writes_nothing(store: folder.FolderStore, root: Path) -> None:
    assert not root.exists()


def test_the_layout_is_the_keys(store: folder.FolderStore, root: Path) -> None:
    store.put("takes/ab/abc.wav", b"")
    assert files(root) == ["takes/ab/abc.wav"]
    assert (root / "takes/ab/abc.wav").stat().st_mode & 0o777 == 0o666 & ~current_umask()


def test_a_killed_upload_leaves_no_object_and_the_next_to_open_the_store_cleans_up(
    root: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", UPLOAD, root, pipe])
    with pipe.open("wb") as source:
        source.write(
            bytes(3 * 1024 * 1024)
        )  # far more than a pipe holds: most of it is in the temporary file now
        store = folder.FolderStore(root)
        assert len(files(root)) == 1, "a writer that lives keeps its file"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert list(store.list()) == []
    assert len(files(root)) == 1
    folder.FolderStore(root)
    assert files(root) == []


def test_of_another_machines_files_only_old_ones_are_abandoned(root: Path) -> None:
    (root / ".tmp").mkdir(parents=True)
    for name, age in (("old", folder.ABANDONED + 1), ("fresh", 0)):
        path = root / ".tmp" / f"elsewhere:1:1@{name}"
        path.touch()
        os.utime(path, times=(time.time() - age,) * 2)
    folder.FolderStore(root)
    assert files(root) == [".tmp/elsewhere:1:1@fresh"]


def test_a_full_disk_is_said_to_be_and_leaves_nothing(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUT_BEYOND_LIMIT, root], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"The object store {root.as_uri()} is full: File too large. {ADVICE}\n"
    assert files(root) == ["small"]


ADVICE = "Free some space and run the same command again."


def test_a_folder_that_is_not_ours_is_forbidden() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        store = folder.FolderStore(root)
        store.put("there", b"")
        for path in (root, root / ".tmp"):
            path.chmod(0o555)
        (root / "there").chmod(0o000)
        with unprivileged():
            with pytest.raises(errors.StoreForbiddenError, match="refused writing new"):
                store.put("new", b"")
            with pytest.raises(errors.StoreForbiddenError, match="refused reading there"):
                store.get("there")
            with pytest.raises(errors.StoreForbiddenError, match="refused deleting there"):
                store.delete(["there"])
        root.chmod(0o755)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_it_does_without_hard_links(
    store: folder.FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)  # as on FAT, which needs root to be mounted
    assert store.put("a/b", b"first")
    assert not store.put("a/b", b"second")
    assert store.get("a/b") == b"first"
    assert files(root) == ["a/b"]


def test_a_key_cannot_be_a_folder_too(store: folder.FolderStore) -> None:
    store.put("a/b", b"")
    with pytest.raises(errors.StoreError, match="other keys begin with this one"):
        store.put("a", b"")
    with pytest.raises(errors.StoreError, match="is no folder"):
        store.put("a/b/c", b"")
    with pytest.raises(errors.ObjectMissingError):
        store.get("a")
    assert store.size("a") is None
    assert store.size("a/b/c") is None
    store.delete(["a/b/c"])
    assert [entry.key for entry in store.list()] == ["a/b"]


def test_deleting_leaves_no_empty_folders(store: folder.FolderStore, root: Path) -> None:
    store.put("a/b/c/d", b"")
    store.put("a/e", b"")
    store.delete(["a/b/c/d"])
    assert not (root / "a/b").exists()
    store.delete(["a/e"])
    assert [path.name for path in root.iterdir()] == [".tmp"]


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(store: folder.FolderStore) -> None:
    def come_and_go(number: int) -> None:
        for turn in range(50):
            key = f"a/b/{number}-{turn}"
            assert store.put(key, b"")
            assert store.get(key) == b""
            store.delete([key])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    assert list(store.list()) == []


def test_what_need_not_be_durable_is_stored_all_the_same(root: Path) -> None:
    store = folder.FolderStore(root, folder.Options(durable=False))
    assert store.put("a/b", b"data")
    assert not store.put("a/b", b"data")
    assert store.get("a/b") == b"data"


def test_a_root_that_is_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.StoreError, match="is no folder"):
        folder.FolderStore(tmp_path / "file").put("key", b"")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do everything; be somebody else for a while."""
    ours = os.geteuid()
    if ours == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(ours)


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
