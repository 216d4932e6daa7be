"""The life of a batch: claim, load, skip what exists, render, check, store, finish."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import inf
from threading import Event
from typing import Any, TypeVar

import sqlalchemy as sa

from storage import batches, corpora, errors, jobs, keys, pools, seeds, segments, states, takes
from storage.database import Database
from storage.objects.store import Store, Together
from workers import beside, guarded, keep
from workers import lease as leases
from workers.answers import FLUSH_SECONDS, Answers, Kept
from workers.audio import edit
from workers.engines.engine import (
    Engine,
    EngineSpec,
    Failure,
    Partial,
    Reason,
    Request,
    Take,
)
from workers.halt import Halt
from workers.judge import Judge, Judgement
from workers.quality import recogniser
from workers.quarantine import Quarantine
from workers.shares import Shares

log = logging.getLogger(__name__)

TAKE_VERSION = 1  # of what is stored for a take: goes up when the same engine output gives other bytes
AWAY_SECONDS = 1.0  # before a database or store that is away is tried again
DATABASE_SECONDS = 600.0  # that a database is waited for: while it is away nobody else can take over, either

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Mill:
    """What a worker renders with: one engine, one store, one database."""

    database: Database
    store: Store
    spec: EngineSpec
    engine: Engine
    owner: str  # of leases: who this worker is
    lease_seconds: float = 60.0
    attempts: int = 3
    drain_seconds: float = 0.0  # after a stop a store that is away is waited for so long
    ring: Callable[[Sequence[int]], None] = field(
        default=lambda job_ids: None
    )  # jobs that can be assembled now
    shares: Shares = field(default_factory=Shares)
    quarantine: Quarantine = field(default_factory=Quarantine)
    hear: recogniser.Hear | None = None  # a machine that listens to takes
    hear_share: float = 1.0  # of takes that it listens to
    progress: Callable[[], None] = field(default=lambda: None)  # something has come of it, or is waited for
    fault: guarded.Fault = field(
        default_factory=guarded.Fault
    )  # once there is one this process renders nothing more
    codec: keep.Codec = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codec", keep.Codec(self.spec))


@dataclass(slots=True)
class Report:
    """How a batch went, for logs, Flower and the planner."""

    batch_id: int
    outcome: states.Outcome
    segments: int = 0
    rendered: int = 0  # takes made
    skipped: int = 0  # takes that existed
    failed: int = 0  # answers without a take
    returned: int = 0  # segments given back
    tokens: int = 0  # estimated, of what was rendered
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    ended_jobs: list[int] = field(default_factory=list)  # rendered or failed by this batch
    halves: list[int] = field(default_factory=list)  # batches to go on with, after a split

    def line(self) -> str:
        """In one line, for people: `512 of 512, 61x real time`."""
        done = f"{self.rendered + self.skipped} of {self.segments}"
        if self.audio_seconds and self.wall_seconds:
            done += f", {self.audio_seconds / self.wall_seconds:.0f}x real time"
        if self.failed:
            done += f", {self.failed} failed"
        return done if self.outcome == states.Outcome.DONE else f"{done}, {self.outcome.value}"


def run(mill: Mill, batch_id: int, stop: Event) -> Report | None:
    """Render a batch to its end, or until `stop` is set. None: somebody else has it, or it is finished.

    Safe to call twice, at once, anywhere: the lease decides who works, the fence who writes, and every object is written
    once under a key that follows from its content. A suspect batch waits until it is alone, before it is claimed.
    """
    with mill.database.read() as connection:
        alone = batches.is_suspect(connection, batch_id)
    with mill.quarantine.turn(alone, stop, mill.progress) as entered:
        return _run(mill, batch_id, stop, alone) if entered and mill.fault.reason is None else None


def _run(mill: Mill, batch_id: int, stop: Event, alone: bool) -> Report | None:
    with mill.database.write() as connection:
        lease = batches.claim(connection, batch_id, mill.owner, mill.lease_seconds)
    if lease is None:
        return None
    halt = Halt(stop)
    batch = _Batch(mill, lease, halt, alone)
    halt.watch(batch.is_wanted)
    with leases.kept(lambda: _renew(mill, lease), mill.lease_seconds, halt.lost):
        try:
            return batch.run()
        except batches.LeaseLostError as error:
            log.warning("%s", error)
            return Report(batch_id, states.Outcome.LOST, segments=lease.segments_total)
        finally:
            halt.close()


def _renew(mill: Mill, lease: batches.Lease) -> None:
    with mill.database.write() as connection:
        batches.renew(connection, lease, mill.lease_seconds)


class _Batch:
    """One claimed batch on its way."""

    def __init__(self, mill: Mill, lease: batches.Lease, halt: Halt, alone: bool) -> None:
        self.mill, self.lease, self.halt, self.alone = mill, lease, halt, alone
        self.report = Report(lease.batch_id, states.Outcome.DONE, segments=lease.segments_total)
        self.judge = Judge(mill.spec, mill.attempts, mill.hear, mill.hear_share)
        self.waiting: dict[
            str, list[segments.Work]
        ] = {}  # by take key: segments with the same words share a take
        self.recovered: set[str] = set()  # takes that were made once before
        self.shelf: Together  # where takes are put
        self.left = 0  # segments that were loaded and are not written down
        self.tokens: dict[int, int] = {}  # by corpus, estimated: whose batch it is

    def run(self) -> Report:
        self.mill.shares.begin(self.lease.batch_id)
        try:
            return self._run()
        except batches.LeaseLostError:
            raise
        except guarded.EngineBrokeError as error:
            return self._split(error)
        except BaseException:
            self._give_back()  # the store is away or full, say: nobody needs to wait for the lease to run out
            raise
        finally:
            self.mill.shares.end(self.lease.batch_id)

    def _run(self) -> Report:
        requests = self._load()
        requests = self._skip_existing(requests)
        started = time.monotonic()
        self._render(requests)
        self.report.wall_seconds = time.monotonic() - started
        return self._finish()

    def is_wanted(self) -> bool:
        """Whether at least half of what is left is still to be rendered; the rest was cancelled meanwhile."""
        try:
            with self.mill.database.read() as connection:
                wanted = segments.wanted(connection, self.lease.batch_id)
        except errors.VoicemillError:
            return True
        return 2 * wanted >= self.left  # looked at last: it goes down before the database knows

    def _load(self) -> list[Request]:
        with self.mill.database.read() as connection:
            works = segments.of_batch(connection, self.lease.batch_id)
        requests: dict[str, Request] = {}
        for work in works:
            self.tokens[work.corpus_id] = self.tokens.get(work.corpus_id, 0) + work.tokens_estimate
            if work.wanted:
                request = self._request(work)
                requests.setdefault(request.key, request)
                self.waiting.setdefault(request.key, []).append(work)
        self.left = sum(map(len, self.waiting.values()))
        if requests:
            with self.mill.database.read() as connection:
                for key, partial in takes.partials(connection, requests).items():
                    requests[key] = replace(requests[key], partial=partial)
        return list(requests.values())

    def _request(self, work: segments.Work) -> Request:
        options = work.options
        seed = seeds.of_attempt(work.seed, work.attempts)
        return Request(
            self._key(work, work.attempts), work.text, options["engine_voice"], seed, options["engine_options"]
        )

    def _key(self, work: segments.Work, attempt: int) -> str:
        """The take key of a segment's attempt."""
        options = work.options
        seed = seeds.of_attempt(work.seed, attempt)
        return take_key(
            self.mill.engine.identity, options["engine_voice"], work.text, seed, options["engine_options"]
        )

    def _skip_existing(self, requests: list[Request]) -> list[Request]:
        with self.mill.database.read() as connection:
            known = takes.metrics(connection, [request.key for request in requests])
        if known:
            answers = Answers()
            for key, metrics in known.items():
                answers.take_in(self._judge(key, metrics))
            self.report.skipped = len(answers.done)
            self._record(answers)
        return [request for request in requests if request.key not in known]

    def _render(self, requests: Sequence[Request]) -> None:
        """Feed the engine and store what comes back, several takes at once; storing goes on beside rendering."""
        if not requests:
            return
        answers = Answers()
        engine = self._results(requests)
        with (
            closing(self.mill.store.together()) as self.shelf,
            ThreadPoolExecutor(self.shelf.at_once, thread_name_prefix="store") as storers,
        ):
            try:
                with closing(beside.taken(engine, FLUSH_SECONDS, self.halt.any)) as results:
                    for some in results:
                        if some:
                            self.mill.progress()
                        made = answers.sort(some)
                        for part in _parts(made, self.shelf.at_once):
                            answers.storing.append(storers.submit(self._keep_all, part))
                        if answers.are_due():
                            due, answers = answers, Answers()
                            self._record(due)
            finally:
                self._record(answers)  # what was rendered before the engine broke is kept

    def _results(self, requests: Sequence[Request]) -> Iterator[Take | Partial | Failure]:
        """Takes whose sound was lost come back from what is left of them, where that is enough; the rest is rendered."""
        with self.mill.database.read() as connection:
            gone = takes.gone(connection, [request.key for request in requests])
        for take in keep.recovered(self.mill.store, gone, self.mill.codec.speak):
            if self.halt.any.is_set():
                return
            self.recovered.add(take.key)
            yield take
        left = [request for request in requests if request.key not in self.recovered]
        yield from guarded.results(self.mill.engine, self.mill.fault, left, self.halt.any)

    def _keep_all(self, made: Sequence[Take]) -> tuple[list[Kept], Exception | None]:
        """Store takes one after the other: those that are, and what kept the next one from it."""
        kept: list[Kept] = []
        for take in made:
            try:
                kept.append(self._keep(take))
            except Exception as error:
                return kept, error
        return kept, None

    def _keep(self, take: Take) -> Kept:
        """Store and measure one take, whatever the checks say: of several bad ones the best is delivered."""
        stored = self._patiently(
            lambda: keep.put(self.mill.store, self.shelf, take, self.mill.codec.speak), self._gives_up
        )
        metrics = self.judge.measure(take.key, stored.pcm, take.sample_rate, self.waiting[take.key][0])
        record = takes.NewTake(
            take.key,
            self.mill.spec.name,
            take.sample_rate,
            len(stored.pcm) // 2,
            stored.tokens,
            take.codes is not None,
            metrics,
            take.recipe,
        )
        return Kept(record, self._judge(take.key, metrics))

    def _judge(self, key: str, metrics: Mapping[str, Any]) -> Judgement:
        return self.judge.judge(key, metrics, self.waiting[key], self._key, self._metrics)

    def _metrics(self, take_keys: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        with self.mill.database.read() as connection:
            return takes.metrics(connection, take_keys)

    def _record(self, answers: Answers) -> None:
        """One small transaction: takes, the segments they serve, failures and partials, under the fence."""
        stored, fault = answers.stored()
        for kept in stored:
            self._count(kept)
        if answers.new:
            self.shelf.flush()  # never again after a fault: it would say that all is well
        if answers:
            self._record_stored(answers)
        if fault is not None:
            raise fault

    def _count(self, kept: Kept) -> None:
        """Add a take to the report."""
        if kept.take.take_key in self.recovered:
            self.report.skipped += len(kept.judgement.done)
            return
        self.report.rendered += len(kept.judgement.done)
        self.report.tokens += self.waiting[kept.take.take_key][0].tokens_estimate
        self.report.audio_seconds += kept.take.samples / kept.take.sample_rate

    def _record_stored(self, answers: Answers) -> None:
        failed = sum(len(self.waiting[failure.key]) for failure in answers.failures)
        self.left -= len(answers.done) + failed
        try:
            ended = self._transact(lambda connection: self._write(connection, answers))
        except batches.LeaseLostError:
            self._transact(lambda connection: _write_takes(connection, answers))  # whoever has it now need not
            raise
        self.report.failed += failed
        self.report.ended_jobs += ended
        if ended:
            self.mill.ring(ended)

    def _write(self, connection: sa.Connection, answers: Answers) -> list[int]:
        """Jobs that have ended with these answers. Doing it twice is doing it once."""
        _write_takes(connection, answers)
        batches.fence(connection, self.lease)
        finished = segments.finish(connection, self.lease.batch_id, answers.done)
        failed: dict[int, int] = {}
        again: list[segments.Refused] = []
        for failure in answers.failures:
            for work in self.waiting[failure.key]:
                if work.attempts + 1 < self.mill.attempts:
                    again.append(segments.Refused(work.id, work.attempts, failure.reason.value, failure.detail))
                    continue
                job_id = segments.fail(
                    connection,
                    self.lease.batch_id,
                    work.id,
                    reason=failure.reason.value,
                    detail=failure.detail,
                    attempts_allowed=self.mill.attempts,
                )
                if job_id is not None:
                    failed[job_id] = failed.get(job_id, 0) + 1
        segments.hold(connection, self.lease.batch_id, again)
        takes.forget(connection, [failure.key for failure in answers.failures])
        return jobs.count(connection, finished, failed)

    def _transact(self, step: Callable[[sa.Connection], Result]) -> Result:
        return self._patiently(lambda: self.mill.database.run(step), self.halt.lost.is_set)

    def _gives_up(self) -> bool:
        """Whether a take need not be stored any more, or not for much longer: there is more to be done in a drain."""
        over = self.halt.lost.is_set() or self.halt.unwanted.is_set()
        return over or time.monotonic() > self.halt.stopped_at + self.mill.drain_seconds

    def _patiently(self, step: Callable[[], Result], gives_up: Callable[[], bool]) -> Result:
        """Do something; a store that is away is tried again for a lease's time, a database for much longer."""
        begun = time.monotonic()
        while True:
            try:
                return step()
            except (errors.DatabaseUnreachableError, errors.StoreUnreachableError) as error:
                if time.monotonic() > begun + self._patience(error) or gives_up():
                    raise
                self.mill.progress()
                self.halt.lost.wait(AWAY_SECONDS)
                log.warning("batch %s waits: %s", self.lease.batch_id, error)

    def _patience(self, error: errors.VoicemillError) -> float:
        """How long to wait for what is away: for a database server long, unless this process is to end."""
        on_server = isinstance(error, errors.DatabaseUnreachableError) and not self.mill.database.is_sqlite
        long = on_server and self.halt.stopped_at == inf
        return max(self.mill.lease_seconds, DATABASE_SECONDS) if long else self.mill.lease_seconds

    def _give_back(self) -> None:
        try:
            with self.mill.database.write() as connection:
                batches.fence(connection, self.lease)
                corpora.spent(connection, self._spent())
                batches.close(connection, self.lease.batch_id, states.Outcome.INTERRUPTED)
        except errors.VoicemillError as error:
            log.warning("cannot give batch %s back: %s", self.lease.batch_id, error)

    def _finish(self) -> Report:
        report = self.report
        stopped = self.halt.stop.is_set()
        outcome = states.Outcome.INTERRUPTED if stopped else states.Outcome.DONE
        if not self.waiting or self.halt.unwanted.is_set():
            outcome = states.Outcome.CANCELLED

        spent = self._spent()

        def step(connection: sa.Connection) -> int:
            batches.fence(connection, self.lease)
            corpora.spent(connection, spent)
            if report.rendered and report.wall_seconds > 0 and outcome == states.Outcome.DONE:
                pools.measured(connection, self.mill.spec.pool, report.tokens / report.wall_seconds)
            return batches.close(connection, self.lease.batch_id, outcome)

        report.returned = self._transact(step)
        if outcome == states.Outcome.INTERRUPTED and not report.returned:
            outcome = states.Outcome.DONE
        report.outcome = outcome
        return report

    def _spent(self) -> dict[int, float]:
        """Seconds of this worker, by the corpus for which they were spent."""
        seconds, total = self.mill.shares.end(self.lease.batch_id), sum(self.tokens.values())
        return {corpus_id: seconds * tokens / total for corpus_id, tokens in self.tokens.items() if total}

    def _split(self, error: guarded.EngineBrokeError) -> Report:
        """The engine broke on the batch: halve it, or, where one segment was alone with it, count it against that one."""
        log.error("%s", error)
        spent = self._spent()

        def step(connection: sa.Connection) -> tuple[list[int], list[int]]:
            """Its halves, and jobs that have ended."""
            batches.fence(connection, self.lease)
            corpora.spent(connection, spent)
            left = segments.of_batch(connection, self.lease.batch_id)
            if len(left) > 1 or not self.alone:
                return batches.split(connection, self.lease), []
            ended = [self._blame(connection, work, error) for work in left]
            batches.close(connection, self.lease.batch_id, states.Outcome.DONE)
            return [], [job_id for jobs_ended in ended for job_id in jobs_ended]

        self.report.halves, ended = self._transact(step)
        self.report.ended_jobs += ended
        if self.report.halves:
            self.report.outcome = states.Outcome.SPLIT
        else:
            self.report.failed += 1
        return self.report

    def _blame(
        self, connection: sa.Connection, work: segments.Work, error: guarded.EngineBrokeError
    ) -> list[int]:
        """Count an error against a segment on which the engine broke: jobs that have ended with it."""
        job_id = segments.fail(
            connection,
            self.lease.batch_id,
            work.id,
            reason=Reason.CRASHED.value,
            detail=str(error),
            attempts_allowed=self.mill.attempts,
        )
        return jobs.count(connection, {}, {} if job_id is None else {job_id: 1})


def _parts(made: Sequence[Take], most: int) -> Iterator[Sequence[Take]]:
    """Takes in at most so many parts of about the same size."""
    size = -(-len(made) // most)
    return (made[start : start + size] for start in range(0, len(made), size or 1))


def _write_takes(connection: sa.Connection, answers: Answers) -> None:
    """Write down what is true whoever holds the lease."""
    takes.record(connection, answers.new)
    takes.keep_partials(connection, answers.partials)


def take_key(identity: Mapping[str, Any], voice: str, text: str, seed: int, options: Mapping[str, Any]) -> str:
    """What a take is known by: everything that shapes its sound, as a sha256."""
    return keys.digest(
        {
            "engine": dict(identity),
            "voice": voice,
            "text": text,
            "seed": seed,
            "options": dict(options),
            "edit": edit.EDIT_VERSION,
            "take": TAKE_VERSION,
        }
    )
