"""What every object store must do, run over each of them."""

import io
import random
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage import errors, objects
from storage.objects import key_rules

BIG = 20 * 1024 * 1024  # bytes: more than one part of a multipart upload
TOO_MUCH = 16 * 1024 * 1024  # bytes of memory, for a file of BIG


def test_it_gives_back_what_it_was_given(store: objects.Store) -> None:
    data = random.Random(1).randbytes(100_000)
    assert store.put("takes/ab/cd.wav", data, content_type="audio/wav")
    assert store.get("takes/ab/cd.wav") == data
    assert store.size("takes/ab/cd.wav") == 100_000
    with store.open("takes/ab/cd.wav") as stream:
        assert stream.read(10) == data[:10]
        assert stream.read() == data[10:]


@pytest.mark.parametrize(
    "key", ["one", "Ünï cödé/日本/🎧.wav", "a b+c&d=e?f#g%20/'\"<>\\*", "x/" * 20 + "y", "é" * 127]
)
def test_it_takes_any_sensible_key(store: objects.Store, key: str) -> None:
    assert store.put(key, b"here")
    assert store.get(key) == b"here"
    assert [entry.key for entry in store.list()] == [key]
    store.delete([key])
    assert store.size(key) is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "..",
        ".tmp/a",
        "a\nb",
        "a\0b",
        "é" * 128,
        "a/" * 600 + "b",
        "\ud800",
    ],
)
def test_it_refuses_keys_that_some_store_cannot_hold(store: objects.Store, tmp_path: Path, key: str) -> None:
    for act in (
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.size(key),
        lambda: store.delete([key]),
        lambda: store.download(key, tmp_path / "out"),
    ):
        with pytest.raises(key_rules.BadKeyError):
            act()


def test_an_empty_object_is_an_object(store: objects.Store) -> None:
    assert store.put("empty", b"")
    assert not store.put("empty", b"more")
    assert store.get("empty") == b""
    assert store.size("empty") == 0


def test_the_first_writer_wins(store: objects.Store, tmp_path: Path) -> None:
    assert store.put("key", b"first")
    assert not store.put("key", b"second")
    (tmp_path / "third").write_bytes(b"third")
    assert not store.upload("key", tmp_path / "third")
    (tmp_path / "big").write_bytes(bytes(BIG))
    assert not store.upload("key", tmp_path / "big")
    assert store.get("key") == b"first"


@pytest.mark.parametrize("size", [1000, 9 * 1024 * 1024], ids=["small", "big"])
def test_of_sixteen_writers_one_wins_and_readers_see_all_or_nothing(
    store: objects.Store, tmp_path: Path, size: int
) -> None:
    writers = 16
    everyone = threading.Barrier(writers)

    def write(number: int) -> bool:
        source = tmp_path / str(number)
        source.write_bytes(bytes([number]) * size)
        everyone.wait()
        written = store.upload("raced", source)
        seen = store.get("raced")
        assert len(seen) == size
        assert len(set(seen)) == 1
        return written

    with ThreadPoolExecutor(writers) as pool:
        won = list(pool.map(write, range(writers)))
    assert won.count(True) == 1
    assert store.get("raced")[0] == won.index(True)
    assert [entry.key for entry in store.list()] == ["raced"]


def test_big_files_go_through_in_constant_memory(store: objects.Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(random.Random(2).randbytes(BIG))
    with less_memory_than(TOO_MUCH):
        assert store.upload("book.mp3", source, content_type="audio/mpeg")
        store.download("book.mp3", target)
        with store.open("book.mp3") as stream:
            assert sum(len(piece) for piece in iter(lambda: stream.read(65536), b"")) == BIG
    assert store.size("book.mp3") == BIG
    assert target.read_bytes() == source.read_bytes()


def test_a_listing_is_in_order_and_complete(store: objects.Store) -> None:
    keys = [f"many/{number % 7}/{number:05}" for number in range(1100)]
    keys += ["many-more", "many/1", "many/1.txt", "many/1-", "many0", "mañana", "z"]
    keys.remove("many/1")  # a folder cannot be a file, too
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda key: store.put(key, key.encode()), keys))
    begun = datetime.now(UTC)
    entries = list(store.list())
    assert [entry.key for entry in entries] == sorted(keys)
    assert [entry.size for entry in entries] == [len(key.encode()) for key in sorted(keys)]
    assert all(abs(entry.modified - begun) < timedelta(minutes=5) for entry in entries)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["a/b/1", "a/b/2", "a/bc", "ab"]),
        ("a", ["a/b/1", "a/b/2", "a/bc", "ab"]),
        ("a/", ["a/b/1", "a/b/2", "a/bc"]),
        ("a/b", ["a/b/1", "a/b/2", "a/bc"]),
        ("a/b/", ["a/b/1", "a/b/2"]),
        ("a/b/2", ["a/b/2"]),
        ("a/b/2/", []),
        ("x", []),
        ("x/y", []),
    ],
)
def test_a_listing_goes_by_prefix(store: objects.Store, prefix: str, expected: list[str]) -> None:
    for key in ("ab", "a/bc", "a/b/2", "a/b/1"):
        store.put(key, b"")
    assert [entry.key for entry in store.list(prefix)] == expected


def test_a_new_store_is_empty(store: objects.Store) -> None:
    assert list(store.list()) == []
    assert list(store.list("takes/")) == []


def test_delete_passes_over_what_is_not_there(store: objects.Store) -> None:
    keys = [f"a/{number}" for number in range(1005)]
    store.put("a/3", b"")
    store.put("a/1004", b"")
    store.put("b", b"")
    store.delete(iter(keys))
    store.delete([])
    assert [entry.key for entry in store.list()] == ["b"]
    assert store.put("a/3", b"again")
    assert store.get("a/3") == b"again"


def test_what_is_missing_is_said_to_be(store: objects.Store, tmp_path: Path) -> None:
    for act in (
        lambda: store.get("takes/none"),
        lambda: store.open("takes/none"),
        lambda: store.download("takes/none", tmp_path / "out"),
    ):
        with pytest.raises(errors.ObjectMissingError, match="takes/none"):
            act()
    assert store.size("takes/none") is None
    assert not list(tmp_path.glob("*out*"))


def test_a_download_replaces_the_file_whole_or_leaves_it(store: objects.Store, tmp_path: Path) -> None:
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(errors.ObjectMissingError):
        store.download("none", target)
    assert target.read_bytes() == b"old"
    store.put("key", b"new")
    store.download("key", target)
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_a_download_to_nowhere_is_the_files_fault(store: objects.Store, tmp_path: Path) -> None:
    store.put("key", b"new")
    with pytest.raises(FileNotFoundError):
        store.download("key", tmp_path / "none" / "file")


def test_the_check_leaves_nothing(store: objects.Store) -> None:
    store.check()
    assert list(store.list()) == []


def test_another_process_sees_the_same(store: objects.Store, store_url: str) -> None:
    store.put("key", b"data")
    assert objects.open_store(store_url).get("key") == b"data"


def test_its_url_is_fit_to_be_shown(store: objects.Store, store_url: str) -> None:
    assert store.url == store_url.partition("?")[0]


@contextmanager
def less_memory_than(limit: int) -> Iterator[None]:
    """Fails if the block holds more bytes at its peak than it did before, plus the limit."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < limit


def test_the_measure_of_memory_measures() -> None:
    with pytest.raises(AssertionError), less_memory_than(TOO_MUCH):
        io.BytesIO(bytes(BIG)).read()
