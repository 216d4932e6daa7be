"""Rows and objects held against each other, on every store: `voicemill storage verify` and `gc`."""

import json
from dataclasses import replace
from datetime import timedelta
from threading import Event

import pytest
import sqlalchemy as sa

from cli import main
from scheduler import collect, planner, verify
from scheduler.verify import Finding
from storage import batches, keys, objects, reels
from storage.database import Database
from storage.models import Job, Take
from storage.objects.store import Lifecycle
from tests import corpus_maker, tones
from workers import assemble, render

DAY = 86_400.0


class Older:
    """A store whose objects are so much older than they are, but for the keys that are named."""

    def __init__(self, store, seconds, young=()):
        self.store, self.age, self.young = store, timedelta(seconds=seconds), young

    def __getattr__(self, name):
        return getattr(self.store, name)

    def list(self, prefix=""):
        for entry in self.store.list(prefix):
            yield entry if entry.key in self.young else replace(entry, modified=entry.modified - self.age)


@pytest.fixture
def database(sqlite):
    return sqlite


def work(database, store, tmp_path):
    """Do whatever there is to do."""
    mill = render.Mill(database, store, tones.Spec(), tones.Tones(), "me")
    (tmp_path / "scratch").mkdir(exist_ok=True)
    bench = assemble.Bench(database, store, "me", tmp_path / "scratch")
    while True:
        planner.plan(database, "tones", planner.Plan(workers=1))
        with database.read() as connection:
            batch_id = batches.next_ready(connection, "tones")
        if batch_id is None and not assemble.run(bench, limit=10):
            return
        if batch_id is not None:
            render.run(mill, batch_id, Event())


def finish(database, store, tmp_path):
    """A corpus of two jobs, finished: 3 takes, 2 files, 4 captions."""
    texts = {"one": ["First paragraph.", "Second paragraph."], "two": "Another text."}
    corpus_maker.accepted(database, texts, captions=("vtt", "json"))
    work(database, store, tmp_path)
    assert sum(1 for _ in store.list()) == 9
    return store


@pytest.fixture
def done(database, store, tmp_path):
    """The corpus in each kind of store."""
    return finish(database, store, tmp_path)


@pytest.fixture
def folder(database, folder_url, tmp_path):
    """The corpus in a folder, where the kind of store makes no difference."""
    return finish(database, objects.open_store(folder_url), tmp_path)


def rows(database):
    with database.read() as connection:
        return list(connection.execute(sa.select(Job).order_by(Job.c.id)))


def test_what_is_finished_is_well(database, folder):
    verdict = verify.verify(database, Older(folder, 2 * DAY), DAY)
    assert verdict.is_well
    assert (verdict.objects, verdict.young, verdict.strange, verdict.named) == (9, 0, 0, [])


def test_missing_wrong_and_orphaned_are_found(database, done):
    one, two = rows(database)
    take = next(done.list("takes/"))
    done.delete([take.key, one.audio_key, keys.captions(two.assembly_key, "vtt")])
    done.put(one.audio_key, b"short")
    done.put("codes/ab/abc.npy", b"nobody's")
    done.put("somebody/elses", b"nothing of ours")
    verdict = verify.verify(database, Older(done, 2 * DAY), DAY)
    assert {(named.finding, named.key, named.size, named.expected) for named in verdict.named} == {
        (Finding.MISSING, take.key, None, take.size),
        (Finding.MISSING, keys.captions(two.assembly_key, "vtt"), None, None),
        (Finding.WRONG_SIZE, one.audio_key, 5, one.audio_bytes),
        (Finding.ORPHANED, "codes/ab/abc.npy", 8, None),
    }
    assert verdict.counts == {Finding.MISSING: 2, Finding.WRONG_SIZE: 1, Finding.ORPHANED: 1}
    assert verdict.strange == 1


def test_what_is_mended_is_as_it_was(database, done, tmp_path):
    one, two = rows(database)
    take = next(done.list("takes/"))
    before = {key: done.get(key) for key in (one.audio_key, two.audio_key, take.key)}
    done.delete([one.audio_key, keys.captions(two.assembly_key, "vtt"), take.key])
    done.put(one.audio_key, b"short")
    assert verify.mend(database, done, verify.verify(database, done, DAY)) == 2
    work(database, done, tmp_path)
    assert verify.verify(database, Older(done, 2 * DAY), DAY).is_well
    assert {key: done.get(key) for key in before} == before


def test_what_two_jobs_share_is_made_again_for_both(database, folder, tmp_path):
    corpus_maker.accepted(database, {"again": "Another text."}, name="twin", captions=("vtt", "json"))
    work(database, folder, tmp_path)
    _, two, again = rows(database)
    assert two.audio_key == again.audio_key
    folder.delete([two.audio_key])
    assert verify.mend(database, folder, verify.verify(database, folder, DAY)) == 2
    work(database, folder, tmp_path)
    assert verify.verify(database, folder, DAY).is_well


def test_what_no_row_refers_to_is_removed_and_nothing_else(database, done):
    before = {entry.key for entry in done.list()}
    with database.write() as connection:
        (gone,) = connection.scalars(sa.select(Take.c.take_key).order_by(Take.c.take_key).limit(1))
        connection.execute(sa.delete(Take).where(Take.c.take_key == gone))
        connection.execute(sa.delete(Job).where(Job.c.custom_id == "two"))
    young, text = "audio/ff/young.mp3", "texts/ab/abc.json"
    for key in (
        young,
        text,
        "checks/left-behind",
        "manifests/gone/0/results.jsonl",
        "manifests/corpus/0/results.jsonl",
    ):
        done.put(key, b"1234")
    done.put("somebody/elses", b"nothing of ours")
    store = Older(done, 2 * DAY, young={young})
    told = collect.collect(database, store, DAY, remove=False)
    assert {kind.value: heap.objects for kind, heap in told.heaps.items()} == {
        "takes": 1,
        "audio": 1,
        "captions": 2,
        "checks": 1,
        "manifests": 1,
    }
    assert (told.removed, told.young, told.strange) == (False, 2, 1)
    assert {entry.key for entry in done.list()} >= before
    collected = collect.collect(database, store, DAY, remove=True)
    assert (collected.removed, collected.objects, collected.again) == (True, 6, 0)
    left = {entry.key for entry in done.list()}
    kept = {young, text, "manifests/corpus/0/results.jsonl", "somebody/elses"}
    assert left - before == kept
    assert keys.take(gone) not in left
    assert len(before - left) == 4
    assert collect.collect(database, store, DAY, remove=True).objects == 0


def test_what_unfinished_work_needs_stays(database, folder, tmp_path):
    """Covers that jobs name and reels that jobs wait for; the others go."""
    covers, reel_keys = ["covers/aa/aa.jpg", "covers/bb/bb.jpg"], ["aaaa", "bbbb"]
    for key in (*covers, *map(keys.reel, reel_keys)):
        folder.put(key, b"1234")
    one, _ = rows(database)
    with database.write() as connection:
        reels.lay_out(connection, one.id, [reels.NewReel(0, 0, "aaaa", {})])
        options = {**one.options, "cover": covers[0]}
        connection.execute(sa.update(Job).where(Job.c.id == one.id).values(options=options))
    collected = collect.collect(database, Older(folder, 2 * DAY), DAY, remove=True)
    assert collected.objects == 2
    assert [entry.key for entry in folder.list("covers/")] == covers[:1]
    assert [entry.key for entry in folder.list("reels/")] == [keys.reel("aaaa")]
    folder.delete([covers[0], keys.reel("aaaa")])
    assert verify.verify(database, folder, DAY).is_well


def test_a_text_by_reference_goes_after_a_month(database, folder):
    folder.put("texts/ab/abc.json", b"{}")
    for age, removed in ((29 * DAY, 0), (31 * DAY, 1)):
        assert collect.collect(database, Older(folder, age), DAY, remove=True).objects == removed


@pytest.mark.parametrize("grace", [0, 3599])
def test_nothing_younger_than_an_hour_is_ever_removed(database, folder, grace):
    folder.put("audio/ff/young.mp3", b"1234")
    assert collect.collect(database, Older(folder, 3500), grace, remove=True).objects == 0
    assert collect.collect(database, Older(folder, 3700), grace, remove=True).objects == 1


def test_a_database_that_knows_nothing_empties_no_store(database, folder, tmp_path):
    with database.write() as connection:
        connection.execute(sa.delete(Job))
        connection.execute(sa.delete(Take))
    with pytest.raises(collect.WrongDatabaseError, match="holds 9 objects"):
        collect.collect(database, Older(folder, 2 * DAY), DAY, remove=True)
    assert sum(1 for _ in folder.list()) == 9


def test_what_comes_to_be_needed_while_it_is_removed_is_made_again(database, folder, tmp_path):
    """A worker makes just the file that is an orphan: it finds it there, and writes its row when it is gone."""
    (_, two), removing = rows(database), []
    with database.write() as connection:
        connection.execute(sa.update(Job).where(Job.c.id == two.id).values(audio_key=None, assembly_key=None))

    class Racing(Older):
        def delete(self, names):
            names = list(names)
            removing.extend(names)
            self.store.delete(names)
            with database.write() as connection:
                values = {"audio_key": two.audio_key, "assembly_key": two.assembly_key}
                connection.execute(sa.update(Job).where(Job.c.id == two.id).values(values))

    collected = collect.collect(database, Racing(folder, 2 * DAY), DAY, remove=True)
    assert two.audio_key in removing
    assert collected.again == 1
    work(database, folder, tmp_path)
    assert verify.verify(database, folder, DAY).is_well


def test_takes_that_the_buckets_rules_deleted_are_not_missed(database, s3_url, tmp_path):
    store = objects.open_store(s3_url)
    corpus_maker.accepted(database, ["Some text."])
    work(database, store, tmp_path)
    (take,) = store.list("takes/")
    store.delete([take.key])
    assert verify.verify(database, store, DAY).counts[Finding.MISSING] == 1
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "takes"}, "Expiration": {"Days": 30}}
    store.set_lifecycle(Lifecycle([rule]))
    assert verify.verify(database, store, DAY).counts[Finding.MISSING] == 1
    with database.write() as connection:
        connection.execute(sa.update(Take).values(created_at=Take.c.created_at - 31 * DAY))
    verdict = verify.verify(database, store, DAY)
    assert (verdict.is_well, verdict.expired) == (True, 1)


def test_the_commands_tell_of_it(database, done, store_url, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["--home", str(tmp_path), "storage", *arguments])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    monkeypatch.setenv("VOICEMILL_STORE_URL", store_url)
    code, out, err = run("verify")
    assert (code, out, err) == (0, "9 objects: every one is as its row says\n", "")
    one, _ = rows(database)
    done.delete([one.audio_key])
    done.put("codes/ab/abc.npy", b"nobody's")
    code, out, _ = run("verify")
    assert code == 1
    assert one.audio_key in out
    assert "1 missing; 1 too young to judge" in out
    assert "--mend" in out
    code, out, _ = run("verify", "--mend", "--json")
    told = json.loads(out)
    assert (code, told["missing"], told["assembled_again"], told["too_young"]) == (1, 1, 1, 1)
    assert told["findings"] == [
        {"finding": "missing", "key": one.audio_key, "bytes": None, "expected_bytes": one.audio_bytes}
    ]
    code, out, _ = run("gc", "--yes")
    assert code == 0
    assert "There is nothing to remove." in out
    code, out, _ = run("gc", "--json")
    assert json.loads(out)["objects"] == 0
    code, _, err = run("gc", "--grace", "0.5")
    assert code == 2
    assert "0.5" in err


@pytest.mark.server
def test_the_same_on_postgres(postgres_url, tmp_path):
    database, store = Database(postgres_url), objects.open_store(str(tmp_path / "store"))
    corpus_maker.accepted(database, ["One text.", "Another text."])
    work(database, store, tmp_path)
    one, two = rows(database)
    store.delete([one.audio_key])
    with database.write() as connection:
        connection.execute(sa.delete(Job).where(Job.c.id == two.id))
    older = Older(store, 2 * DAY)
    verdict = verify.verify(database, older, DAY)
    assert verdict.counts == {Finding.MISSING: 1, Finding.WRONG_SIZE: 0, Finding.ORPHANED: 1}
    assert collect.collect(database, older, DAY, remove=True).objects == 1
    assert verify.mend(database, store, verdict) == 1
    work(database, store, tmp_path)
    assert verify.verify(database, older, DAY).is_well
    database.close()
