"""`voicemill fetch --from-codes`: audio that is frozen or gone is made again, the same to the byte."""

import json
from threading import Event

import pytest
import sqlalchemy as sa

from cli import main
from scheduler import fetch, planner, remake
from storage import batches, corpora, jobs, keys, objects
from storage.models import Job, Segment, Take
from tests import corpus_maker
from tests.integration.test_storage_upkeep import work
from workers import assemble, render
from workers.engines import codes
from workers.engines.maya1 import SPEC

tiny_maya1 = pytest.importorskip("tests.tiny_maya1", reason="needs voicemill[maya1]")


@pytest.fixture(scope="module")
def model():
    return tiny_maya1._made()


@pytest.fixture(scope="module")
def engine():
    engine = tiny_maya1.load()
    yield engine
    engine.close()


@pytest.fixture
def database(sqlite):
    return sqlite


@pytest.fixture
def spoken(database, engine, model, tmp_path, monkeypatch):
    """Make a corpus of maya1's in a store: two jobs, three takes with codes."""
    for name, value in {"MODEL": model / "model", "SNAC": model / "snac", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"VOICEMILL_MAYA1_{name}", str(value))

    def make(store):
        texts = {"one": ["First paragraph.", "Second paragraph, <laugh> longer."], "two": "Another text."}
        corpus_maker.accepted(database, texts, captions=("vtt", "json"), spec=SPEC)
        mill = render.Mill(database, store, SPEC, engine, "me", attempts=1)
        (tmp_path / "scratch").mkdir()
        bench = assemble.Bench(database, store, "me", tmp_path / "scratch")
        while True:
            planner.plan(database, "maya1", planner.Plan(workers=1))
            with database.read() as connection:
                batch_id = batches.next_ready(connection, "maya1")
            if batch_id is None:
                break
            render.run(mill, batch_id, Event())
        assemble.run(bench, limit=10)
        assert [row.state in ("completed", "needs_review") for row in rows(database)] == [True, True]
        assert sum(1 for _ in store.list("codes/")) == 3
        return store

    return make


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["--home", str(tmp_path), *map(str, arguments)])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def rows(database, table=Job):
    with database.read() as connection:
        return list(connection.execute(sa.select(table)))


def fetched(database, store, folder):
    with database.read() as connection:
        corpus = corpora.find(connection, "corpus")
    fetch.fetch(database, store, corpus, folder)
    return heard(folder)


def heard(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".jsonl"}


def freeze(url, store):
    """Finished audio into the archive, takes expired: as after a year under lifecycle rules."""
    old = objects.open_store(url, {"storage_class": "DEEP_ARCHIVE"})
    for entry in list(store.list("audio/")):
        data = store.get(entry.key)
        store.delete([entry.key])
        old.put(entry.key, data)
    store.delete([entry.key for entry in list(store.list("takes/"))])


def test_frozen_audio_is_made_again_from_codes_the_same_to_the_byte(
    database, spoken, s3_url, run, tmp_path, monkeypatch
):
    store = spoken(objects.open_store(s3_url))
    before = fetched(database, store, tmp_path / "before")
    freeze(s3_url, store)
    there, state = {entry.key for entry in store.list()}, (rows(database), rows(database, Segment))
    monkeypatch.setenv("VOICEMILL_STORE_URL", s3_url)
    code, _, err = run("fetch", "-o", tmp_path / "out")
    assert code == 1
    assert "2 jobs lie in an archive (one, two)" in err
    assert "`voicemill fetch --from-codes` makes it again" in err
    code, out, err = run("fetch", "-o", tmp_path / "out", "--from-codes", "--json")
    assert err == ""
    told = json.loads(out)
    assert (told["remade"], told["takes_from_codes"], told["differing"], told["frozen"]) == (2, 3, [], [])
    assert heard(tmp_path / "out") == before
    assert {
        entry.key for entry in store.list()
    } == there  # nothing was put into the store, the archive least of all
    assert (rows(database), rows(database, Segment)) == state
    code, out, _ = run("fetch", "-o", tmp_path / "out", "--from-codes", "--json")
    assert (json.loads(out)["remade"], json.loads(out)["files_written"]) == (0, 0)


def test_what_is_gone_from_a_folder_is_made_again_too(database, spoken, folder_url, tmp_path):
    store = spoken(objects.open_store(folder_url))
    before = fetched(database, store, tmp_path / "before")
    store.delete([entry.key for kind in ("audio/", "captions/", "takes/") for entry in list(store.list(kind))])
    maker = remake.Remaker(database, store, tmp_path / "scratch")
    made = [maker.remake(job, tmp_path / "out") for job in rows(database)]
    assert [(one.takes, one.differing) for one in made] == [(2, []), (1, [])]
    assert heard(tmp_path / "out") == before
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_codes_of_another_codec_are_refused(database, spoken, folder_url, tmp_path, monkeypatch):
    store = spoken(objects.open_store(folder_url))
    store.delete([entry.key for entry in list(store.list("takes/"))])
    monkeypatch.setenv("VOICEMILL_MAYA1_VOCODER_NOISE", "false")
    maker = remake.Remaker(database, store, tmp_path / "scratch")
    with pytest.raises(codes.OtherCodecError, match="another codec"):
        maker.remake(rows(database)[0], tmp_path / "out")


def test_without_codes_it_says_so_and_goes_on(database, folder_url, run, tmp_path, monkeypatch):
    """Tones keep no codes: what still has its takes is made again, the rest is told of."""
    monkeypatch.setenv("VOICEMILL_STORE_URL", folder_url)
    store = objects.open_store(folder_url)
    corpus_maker.accepted(database, {"one": "Some text.", "two": "Another text."})
    work(database, store, tmp_path)
    before = fetched(database, store, tmp_path / "before")
    with database.read() as connection:
        one = jobs.by_custom_id(connection, 1, "one")
        take = connection.scalar(sa.select(Segment.c.take_key).where(Segment.c.job_id == one.id))
    store.delete([entry.key for entry in list(store.list("audio/"))])
    store.delete([keys.take(take)])
    code, out, err = run("fetch", "-o", tmp_path / "out", "--from-codes")
    assert code == 1
    assert "The audio of 'one' cannot be made again here: its takes are gone" in err
    assert "keeps no codes" in err
    assert "made again: 1 job, with 0 takes from codes; every file is the same to the byte" in out
    assert heard(tmp_path / "out") == {"two.wav": before["two.wav"]}


def test_damaged_codes_are_told_of(database, spoken, folder_url, tmp_path):
    store = spoken(objects.open_store(folder_url))
    store.delete([entry.key for kind in ("takes/", "codes/") for entry in list(store.list(kind))])
    for row in rows(database, Take):
        store.put(keys.codes(row.take_key), b"not codes")
    maker = remake.Remaker(database, store, tmp_path / "scratch")
    with pytest.raises(remake.CannotRemakeError, match="gone or damaged"):
        maker.remake(rows(database)[0], tmp_path / "out")


def test_the_timing_says_in_which_precision_a_take_was_made(database, spoken, folder_url):
    store = spoken(objects.open_store(folder_url))
    (one, _) = rows(database)
    timing = json.loads(store.get(keys.captions(one.assembly_key, "json")))
    assert [each["precision"] for each in timing["segments"]] == [
        {"model": "fp32", "cache": "fp32", "products": "fp32"}
    ] * 2
