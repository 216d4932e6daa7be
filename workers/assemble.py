"""From takes to a job's audio: join with pauses, level, encode, caption, store, end the job.

Takes are streamed from the store into the encoder, so memory does not grow with the length of the book. Short jobs are
encoded many at a time; a long one is cut into reels, which every worker that is free helps to encode.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from sqlalchemy import Connection

from storage import corpora, errors, jobs, keys, review, segments
from storage import reels as reel_rows
from storage.database import Database
from storage.objects.store import Store
from storage.takes import TakesGoneError
from workers import lease as leases
from workers import levels, reels
from workers.audio import encode, splice
from workers.deliverables import Deliverable
from workers.programme import Programme, Reader
from workers.ready import Ready, assembly_key, caption, described, upload

log = logging.getLogger(__name__)

SHORT_SECONDS = 60.0  # jobs below are encoded together
AT_ONCE_TOKENS = 80_000  # a quarter of an hour: of longer jobs, one is taken up at a time
HELPERS = 32  # that are rung for, at most
LOOK_SECONDS = 4.0  # how often an assembler asks whether its jobs are still its own: they may be cancelled
PATIENCE = 0.2  # seconds between two looks at reels that others make


@dataclass(frozen=True, slots=True)
class Bench:
    """What a worker assembles with."""

    database: Database
    store: Store
    owner: str
    scratch: Path  # where files are made before they are stored
    lease_seconds: float = 60.0
    attempts: int = 3
    ended: Callable[[Sequence[int]], None] = field(
        default=lambda corpus_ids: None
    )  # corpora that have ended with it
    encoding: Callable[[int, float], None] = field(
        default=lambda job_id, share: None
    )  # a long job, 0 to 1 of it
    ring: Callable[[Sequence[int]], None] = field(
        default=lambda job_ids: None
    )  # there are reels to be made: once for each helper that would have something to do


def run(bench: Bench, *, limit: int = 1, stop: Event | None = None) -> int:
    """Assemble up to `limit` jobs that wait for it, the most urgent first, or help with a long one: how many were taken up.

    Safe to call twice, at once, anywhere: each job is leased, and its audio is written once under its assembly key.
    """
    stop = stop or Event()
    with bench.database.write() as connection:
        claimed = jobs.claim(connection, bench.owner, bench.lease_seconds, limit, tokens=AT_ONCE_TOKENS)
    if not claimed:
        return int(_help(bench))
    hold = _Hold(stop, {lease.job_id: lease for lease in claimed})

    def renew() -> None:
        with bench.database.write() as connection:
            hold.lost |= jobs.renew(connection, list(hold.waiting.values()), bench.lease_seconds)

    with leases.kept(renew, min(bench.lease_seconds, leases.RENEWALS * LOOK_SECONDS), Event()):
        try:
            _all(bench, claimed, hold)
        finally:
            _give_back(bench, list(hold.waiting.values()))
    return len(claimed)


class _OverError(Exception):
    """A job's assembly ends before its end: this process stops, or the job is not ours any more."""


@dataclass(slots=True)
class _Hold:
    """What a claim holds: jobs that are given back unless they end, and whether to go on with one."""

    stop: Event
    waiting: dict[int, jobs.AssemblyLease]
    lost: set[int] = field(default_factory=set)  # jobs that were cancelled or that others have taken over

    def check(self, job_id: int) -> None:
        """Raises _OverError where there is no sense in going on."""
        if self.stop.is_set() or job_id in self.lost:
            raise _OverError

    def watched(self, job_id: int, sound: Iterable[bytes]) -> Iterator[bytes]:
        """Sound, for as long as there is sense in it."""
        for pcm in sound:
            self.check(job_id)
            yield pcm

    def ended(self, job_id: int) -> None:
        """A job need not be given back, unless all was stopped and nobody knows how far it is."""
        if not self.stop.is_set():
            self.waiting.pop(job_id, None)


def _all(bench: Bench, claimed: Sequence[jobs.AssemblyLease], hold: _Hold) -> None:
    """Jobs that need no encoding first, then the short ones together, then the long ones one by one."""
    short: list[Ready] = []
    long: list[Ready] = []
    for lease in claimed:
        if hold.stop.is_set():
            return
        with _told(bench, lease, hold):
            ready = _prepare(bench, lease, hold)
            if ready is not None:
                (short if ready.programme.seconds < SHORT_SECONDS else long).append(ready)
                continue
        hold.ended(lease.job_id)
    if short and not hold.stop.is_set():
        _make_together(bench, short, hold)
    for ready in long:
        if hold.stop.is_set():
            return
        with _told(bench, ready.lease, hold), tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
            _make_long(bench, ready, Path(folder), hold)
        hold.ended(ready.lease.job_id)


def _prepare(bench: Bench, lease: jobs.AssemblyLease, hold: _Hold) -> Ready | None:
    """A job laid out, None where its audio exists already, made for another job, and it is ended with that.

    Raises TakesGoneError: no sentence is ever left out in silence.
    """
    with bench.database.read() as connection:
        parts = segments.parts(connection, lease.job_id)
        if len(parts) < lease.segments_total or any(part.gone for part in parts):
            raise TakesGoneError(segments.without_sound(connection, lease.job_id))
    programme = Programme.of(parts, lease.options.get("head_ms", 0), lease.options.get("tail_ms", 0))
    wanted = [Deliverable.of(each) for each in lease.options["deliverables"]]
    measured = _levels(bench, lease, programme, wanted, hold)
    key = assembly_key(programme, lease.options, measured)
    with bench.database.read() as connection:
        audio = jobs.twin(connection, key)
    if audio is not None:
        _complete(bench, lease, audio, parts)
        return None
    return Ready(lease, programme, measured, wanted, key)


def _levels(
    bench: Bench,
    lease: jobs.AssemblyLease,
    programme: Programme,
    wanted: Sequence[Deliverable],
    hold: _Hold,
) -> levels.Levels | None:
    """The gains of a job's deliverables, measured unless they were before; None where all are as they were spoken."""
    if all(each.level is None for each in wanted):
        return None
    if lease.level is not None and (known := levels.Levels.of(lease.level)).has(wanted):
        return known

    def sound() -> Iterator[bytes]:
        return _told_of(
            bench, lease, hold.watched(lease.job_id, Reader(bench.store).stream(programme.strips()))
        )

    measured = levels.measure(sound, programme.sample_rate, wanted)
    if programme.seconds >= SHORT_SECONDS:
        with bench.database.write() as connection:
            jobs.keep_level(connection, lease, measured.stored())
    return measured


def _told_of(bench: Bench, lease: jobs.AssemblyLease, sound: Iterable[bytes]) -> Iterator[bytes]:
    """Say now and then that a job goes on, while it is only listened to."""
    for number, pcm in enumerate(sound):
        if number % 200 == 0:
            bench.encoding(lease.job_id, 0.0)
        yield pcm


def _make_together(bench: Bench, short: Sequence[Ready], hold: _Hold) -> None:
    """Short jobs, many in one encoder: starting it would cost more than their sound."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as name:
        folder = Path(name)
        made: list[tuple[Ready, list[tuple[encode.Output, bytes]]]] = []
        for ready in short:
            with _told(bench, ready.lease, hold):
                hold.check(ready.lease.job_id)
                cover = _cover(bench.store, ready, folder)
                files = [
                    (
                        ready.output(number, folder, cover),
                        b"".join(ready.reader(bench.store, wanted).stream(ready.programme.strips())),
                    )
                    for number, wanted in enumerate(ready.wanted)
                ]
                made.append((ready, files))
        if hold.stop.is_set():
            return
        try:
            encode.encode_many(file for _, files in made for file in files)
        except encode.EncodeError as error:
            log.warning("%s", error)  # which of them it was, and what of the rest, is found below, one by one
        for ready, files in made:
            with _told(bench, ready.lease, hold):
                hold.check(ready.lease.job_id)
                encode.encode_many(file for file in files if not file[0].path.is_file())
                _store(bench, ready, folder, [output.path for output, _ in files])
            hold.ended(ready.lease.job_id)


def _make_long(bench: Bench, ready: Ready, folder: Path, hold: _Hold) -> None:
    """One long job, with whoever is free to help. Raises _OverError."""
    planned = {
        number: found
        for number, wanted in enumerate(ready.wanted)
        if (found := reels.plan(ready.programme, wanted, ready.gain(wanted)))
    }
    if planned:
        with bench.database.write() as connection:
            reel_rows.lay_out(connection, ready.lease.job_id, reels.new_rows(planned))
        for _ in range(min(sum(map(len, planned.values())) - 1, HELPERS)):
            bench.ring([ready.lease.job_id])
    cover = _cover(bench.store, ready, folder)
    outputs = [ready.output(number, folder, cover) for number in range(len(ready.wanted))]
    for number, output in enumerate(outputs):
        if number not in planned:
            _encode(bench, ready, ready.wanted[number], output, hold)
    if planned:
        _make_reels(bench, ready, sum(map(len, planned.values())), hold)
    for number, found in planned.items():
        samples = reels.file_samples(ready.programme, outputs[number].file_rate)
        try:
            reels.join(bench.store, found, outputs[number], samples)
        except (errors.ObjectMissingError, splice.BadReelError) as error:
            with bench.database.write() as connection:  # they are made again at the next attempt
                reel_rows.forget(connection, ready.lease.job_id)
            raise ReelsGoneError(reason=error) from error
    _store(bench, ready, folder, [output.path for output in outputs])
    if planned:
        bench.store.delete([keys.reel(reel.key) for found in planned.values() for reel in found])


class ReelsGoneError(errors.VoicemillError):
    """Encoded stretches of the programme cannot be used: {reason}. They are made again."""


def _make_reels(bench: Bench, ready: Ready, total: int, hold: _Hold) -> None:
    """Make reels of a job until all are done, by us or by others. Raises _OverError."""
    job_id = ready.lease.job_id
    while True:
        hold.check(job_id)
        with bench.database.write() as connection:
            reel = reel_rows.claim(connection, bench.owner, bench.lease_seconds, job_id)
            left = reel_rows.undone(connection, job_id)
        bench.encoding(job_id, 1 - left / total)
        if reel is not None:
            _make_reel(bench, reel)
        elif not left:
            return
        else:
            hold.stop.wait(PATIENCE)


def _help(bench: Bench) -> bool:
    """Make one reel of a job that somebody else assembles, who deals with whatever fails. False: there is none."""
    with bench.database.read() as connection:
        if not reel_rows.is_any_free(connection):
            return False
    with bench.database.write() as connection:
        reel = reel_rows.claim(connection, bench.owner, bench.lease_seconds)
    if reel is None:
        return False
    try:
        _make_reel(bench, reel)
    except (TakesGoneError, encode.EncodeError) as error:
        log.warning("a reel could not be made: %s", error)
    return True


def _make_reel(bench: Bench, reel: reel_rows.Claimed) -> None:
    def renew() -> None:
        with bench.database.write() as connection:
            reel_rows.renew(connection, reel, bench.owner, bench.lease_seconds)

    with (
        leases.kept(renew, bench.lease_seconds, Event()),
        tempfile.TemporaryDirectory(dir=bench.scratch) as folder,
    ):
        try:
            reels.make(bench.store, reels.Reel.of(reel.recipe), Path(folder))
        except (errors.StoreError, encode.DiskFullError):
            with bench.database.write() as connection:  # nobody needs to wait for the lease
                reel_rows.release(connection, reel, bench.owner)
            raise
    with bench.database.write() as connection:
        reel_rows.finish(connection, reel)


def _encode(bench: Bench, ready: Ready, wanted: Deliverable, output: encode.Output, hold: _Hold) -> None:
    """Stream one job's programme into an encoder, telling how far it is. Raises _OverError."""
    written = 0
    sound = ready.reader(bench.store, wanted).stream(ready.programme.strips())
    with encode.Encoder.of(output) as encoder:
        for pcm in hold.watched(ready.lease.job_id, sound):
            encoder.write(pcm)
            written += len(pcm) // 2
            bench.encoding(ready.lease.job_id, written / max(1, ready.programme.samples))


def _cover(store: Store, ready: Ready, folder: Path) -> Path | None:
    """The picture that a job names, as a file. Raises ObjectMissingError."""
    key = ready.lease.options.get("cover")
    if key is None or not any(wanted.kind.cover for wanted in ready.wanted):
        return None
    path = folder / str(key).rpartition("/")[2]
    if not path.is_file():
        path.write_bytes(store.get(key))
    return path


@contextmanager
def _told(bench: Bench, lease: jobs.AssemblyLease, hold: _Hold) -> Iterator[None]:
    """Whatever goes wrong with one job is written down for that job alone."""
    try:
        yield
    except _OverError:
        log.info("the assembly of %s is left", lease.custom_id)
    except TakesGoneError as error:
        log.warning("job %s: %s; they are made again", lease.custom_id, error)
        with bench.database.write() as connection:
            jobs.rewind(connection, lease, error.take_keys)
    except (
        errors.ObjectMissingError,
        errors.ObjectArchivedError,
    ) as error:  # its cover, say, or takes in an archive
        log.warning("assembling %s failed: %s", lease.custom_id, error)
        _fail(bench, lease, str(error))
    except (errors.StoreError, errors.DatabaseUnreachableError, encode.DiskFullError):
        raise  # not the job's fault: it is given back
    except Exception as error:
        if isinstance(error, OSError) and error.errno in encode.DISK_FULL:
            raise  # nor this
        log.exception("assembling %s failed", lease.custom_id)
        _fail(bench, lease, f"{type(error).__name__}: {error}")
    else:
        return
    hold.ended(lease.job_id)


def _fail(bench: Bench, lease: jobs.AssemblyLease, told: str) -> None:
    with bench.database.write() as connection:
        jobs.fail(connection, lease, reason="assembly", detail=told, attempts_allowed=bench.attempts)
        _end_corpus(bench, connection, lease.corpus_id)


def _give_back(bench: Bench, left: Sequence[jobs.AssemblyLease]) -> None:
    """Jobs that were taken up and not ended: another may have them at once."""
    if not left:
        return
    try:
        with bench.database.write() as connection:
            for lease in left:
                jobs.release(connection, lease)
    except errors.VoicemillError as error:
        log.warning("cannot give assemblies back: %s", error)


def _complete(
    bench: Bench, lease: jobs.AssemblyLease, audio: jobs.Audio, parts: Sequence[segments.Part]
) -> None:
    with bench.database.write() as connection:
        made = review.remembered(connection, lease.job_id, audio.deliverables)
        if jobs.complete(connection, lease, replace(audio, deliverables=made), review.told(parts, made)):
            reel_rows.forget(connection, lease.job_id)
            _end_corpus(bench, connection, lease.corpus_id)


def _end_corpus(bench: Bench, connection: Connection, corpus_id: int) -> None:
    if corpora.finish(connection, corpus_id) is not None:
        bench.ended([corpus_id])


def _store(bench: Bench, ready: Ready, folder: Path, paths: Sequence[Path]) -> None:
    """Put a job's files and captions into the store and end the job."""
    made = [described(ready, number, path) for number, path in enumerate(paths)]
    first = made[0]
    audio = jobs.Audio(
        assembly_key=ready.key,
        audio_key=first["key"],
        audio_bytes=first["bytes"],
        audio_sha256=first["sha256"],
        samples=ready.programme.samples,
        sample_rate=ready.programme.sample_rate,
        deliverables=made,
        level=None if ready.levels is None else ready.levels.stored(),
    )
    caption(bench.store, ready, folder)
    for number, path in enumerate(paths):
        media_type = ready.wanted[number].kind.media_type
        upload(bench.store, made[number]["key"], path, media_type, made[number]["sha256"])
    _complete(bench, ready.lease, audio, ready.programme.parts)
