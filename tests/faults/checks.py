"""What must be true after a run, whatever happened in it. Each check finds what is wrong, or nothing."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from scheduler import embedded
from storage import keys, objects, states
from storage.database import Database
from storage.models import Batch, Corpus, Job, Partial, Segment, Take
from tests import databases
from tests.faults.place import BUCKET, Place
from workers import assemble, render

KINDS = ("takes", "codes", "audio", "captions")  # of objects that follow from the texts alone
Audio = dict[tuple[str, str], tuple[str, str | None, int | None, str | None]]  # by corpus and job


def everything(at: Place) -> Iterator[str]:
    """Every finding after the last process has left."""
    database = at.fleet.database
    found = Stored(at)
    yield from ended(database)
    yield from counters(database)
    yield from nothing_held(database)
    yield from takes_once(at, database, found)
    yield from nothing_temporary(at, found)
    yield from same_as_undisturbed(at, database, found)


class Stored:
    """What lies in the bucket."""

    def __init__(self, at: Place) -> None:
        self.uploads = at.bucket.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        pages = at.bucket.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        self.names = {each["Key"] for page in pages for each in page.get("Contents", [])}
        self._bucket = at.bucket

    def of(self, kind: str) -> set[str]:
        return {name for name in self.names if name.startswith(f"{kind}/")}

    def sha256(self, name: str) -> str:
        body = self._bucket.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return hashlib.sha256(body).hexdigest()


def ended(database: Database) -> Iterator[str]:
    """Every corpus, job and segment has come to a good end."""
    for table, good in ((Corpus, "completed"), (Job, "completed"), (Segment, "done"), (Batch, "finished")):
        query = sa.select(table.c.state, sa.func.count()).where(table.c.state != good).group_by(table.c.state)
        with database.read() as connection:
            for state, count in connection.execute(query):
                yield f"{count} of {table.name} are {state}"
    with database.read() as connection:
        why = sa.select(Job.c.custom_id, Job.c.reason, Job.c.detail).where(Job.c.state != "completed").limit(5)
        for row in connection.execute(why):
            yield f"the job {row.custom_id} says: {row.reason}: {row.detail}"


def counters(database: Database) -> Iterator[str]:
    """Each counter equals a full recount."""
    done = sa.func.count().filter(Segment.c.state == states.Segment.DONE)
    failed = sa.func.count().filter(Segment.c.state == states.Segment.FAILED)
    query = (
        sa.select(Job.c.id, Job.c.segments_total, Job.c.segments_done, Job.c.segments_failed)
        .add_columns(sa.func.count(Segment.c.id).label("total"), done.label("done"), failed.label("failed"))
        .join(Segment, Segment.c.job_id == Job.c.id, isouter=True)
        .group_by(Job.c.id)
    )
    with database.read() as connection:
        for row in connection.execute(query):
            counted = row.segments_total, row.segments_done, row.segments_failed
            if counted != (row.total, row.done, row.failed):
                yield f"job {row.id} counts {counted}, and a recount gives {(row.total, row.done, row.failed)}"


def nothing_held(database: Database) -> Iterator[str]:
    """No lease, no member, no partial is left."""
    counts = {
        "batches with a lease": sa.select(sa.func.count()).where(Batch.c.lease_owner.is_not(None)),
        "jobs with a lease": sa.select(sa.func.count()).where(Job.c.lease_owner.is_not(None)),
        "segments in a batch": sa.select(sa.func.count()).where(Segment.c.batch_id.is_not(None)),
        "partials": sa.select(sa.func.count()).select_from(Partial),
    }
    with database.read() as connection:
        for what, query in counts.items():
            if count := connection.scalar(query):
                yield f"{count} {what} are left"


def takes_once(at: Place, database: Database, found: Stored) -> Iterator[str]:
    """Each take has come into being once, and is there."""
    with database.read() as connection:
        known = set(connection.scalars(sa.select(Take.c.take_key)))
        used = {key for key in connection.scalars(sa.select(Segment.c.take_key)) if key}
    expected = {keys.take(key) for key in known}
    yield from (f"the take {key} is used, and there is no record of it" for key in sorted(used - known)[:3])
    yield from (f"the object {name} is missing" for name in sorted(expected - found.names)[:3])
    yield from (f"the object {name} belongs to no take" for name in sorted(found.of("takes") - expected)[:3])
    for name, count in at.proxy.created.items():
        if count != 1:
            yield f"{name} was created {count} times"


def nothing_temporary(at: Place, found: Stored) -> Iterator[str]:
    """No temporary object, no unfinished upload, no folder of a process that is gone."""
    known = {*KINDS, "texts", "manifests"}
    strange = {name for name in found.names if name.partition("/")[0] not in known}
    yield from (f"the object {name} is left" for name in sorted(strange)[:3])
    yield from (f"an upload of {upload['Key']} is unfinished" for upload in found.uploads[:3])
    for slot in at.slots:
        yield from (f"{path} is left on the disk" for path in slot.scratch.iterdir())


def same_as_undisturbed(at: Place, database: Database, found: Stored) -> Iterator[str]:
    """The same corpora, rendered in this process without any fault, give the same audio and takes to the byte."""
    folder = at.folder / "undisturbed"
    with closing(undisturbed(at, folder)) as peaceful:
        expected, given = audio(peaceful), audio(database)
        for job in sorted(expected.keys() | given.keys()):
            if expected.get(job) != given.get(job):
                yield f"{job}: {given.get(job)}, and undisturbed {expected.get(job)}"
    store = folder / "store"
    files = {str(path.relative_to(store)): path for path in store.rglob("*") if path.is_file()}
    ours = {name for name in files if name.partition("/")[0] in KINDS}
    theirs = {name for kind in KINDS for name in found.of(kind)}
    yield from (f"{name} is only in the undisturbed run" for name in sorted(ours - theirs)[:3])
    yield from (f"{name} is not in the undisturbed run" for name in sorted(theirs - ours)[:3])
    for name in sorted(ours & theirs):
        if hashlib.sha256(files[name].read_bytes()).hexdigest() != found.sha256(name):
            yield f"{name} has other bytes than in the undisturbed run"


def undisturbed(at: Place, folder: Path) -> Database:
    """The same corpora in one process, from a folder of its own: its database."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'voicemill.db'}"
    databases.migrate(url)
    database = Database(url)
    store = objects.open_store(str(folder / "store"))
    scratch = folder / "scratch"
    scratch.mkdir()
    engine = at.plain.load()
    try:
        mill = render.Mill(database, store, at.plain, engine, "undisturbed")
        bench = assemble.Bench(database, store, "undisturbed", scratch)
        for text in at.texts:
            corpus_id = at.accept(database, text, at.plain)
            embedded.Loop(mill, bench, corpus_id, threading.Event()).run()
    finally:
        engine.close()
    return database


def audio(database: Database) -> Audio:
    """Every job's state and sound."""
    query = sa.select(
        Corpus.c.name, Job.c.custom_id, Job.c.state, Job.c.assembly_key, Job.c.samples, Job.c.audio_sha256
    ).join(Corpus, Corpus.c.id == Job.c.corpus_id)
    with database.read() as connection:
        return {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(query)}  # type: ignore[misc]
