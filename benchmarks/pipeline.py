"""From a JSONL to takes and audio with an engine that costs nothing, beside plain Celery with one task a segment.

    python benchmarks/pipeline.py [--segments 24000] [--workers 1 2 4] [--rounds 3] [--only ours plain audio accept]

It starts a Postgres and a Redis of its own and as many worker processes as asked for, warms them up with a small corpus, and
then, round by round and in alternating order, takes the time from the moment a corpus is in the database to the moment its last
segment is done. Each measurement has a database, a Redis and a store of its own. Fewer segments would tell of the end more than
of the way: the last batch waits some seconds for more to come, in which an engine that costs nothing gets far. See
`parts/plain_celery.py` for what plain Celery does and leaves out, `docs/performance.md` for the figures.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.parts import hum  # noqa: E402
from scheduler import accept, lexicon, options, planner, readers  # noqa: E402
from storage.database import Database  # noqa: E402
from tests import databases, fleet, servers  # noqa: E402
from workers import voices  # noqa: E402

SEGMENTS_A_JOB = 8
SENTENCE = "Sentence {number} of {job} goes on for so long that no other one can share a segment with it, as most in a book do."
DEADLINE = 240.0  # seconds
POLL = 0.02  # seconds


@dataclass(frozen=True)
class Site:
    """Servers and folders for one measurement, and the environment that leads worker processes to them."""

    folder: Path
    database: Database
    environment: dict[str, str]
    broker: "redis.Redis[str]"
    processes: ExitStack
    servers: set[int]  # process numbers
    running: list[fleet.Process] = field(default_factory=list)

    def start(self, *command: str) -> None:
        """Run a process until the measurement ends."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        process = fleet.Process(list(command), self.environment, self.folder, log)
        self.processes.callback(process.terminate)
        self.running.append(process)

    def accept(self, jobs: int, *, mark: str) -> int:
        """Put a corpus into the database: its number."""
        source = write_corpus(self.folder / f"{mark}.jsonl", jobs, mark)
        with accept.stage(readers.read([str(source)]), how()) as staged:
            return into(self.database, staged, mark).id

    def until(self, query: str, wanted: int) -> None:
        """Wait until a query gives a number."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with self.database.read() as connection:
                if connection.execute(sa.text(query)).scalar_one() == wanted:
                    return
            if any(process.process.poll() for process in self.running):
                break
            time.sleep(POLL)
        codes = {" ".join(process.process.args)[-60:]: process.process.poll() for process in self.running}
        raise TimeoutError(
            f"{codes}\n" + query + "\n" + "\n".join(log.read_text() for log in self.folder.glob("*.log"))
        )

    def cpu(self) -> float:
        """Seconds of both cores that this measurement's own processes and both servers have used so far."""
        mark = f"VOICEMILL_STORE_URL={self.environment['VOICEMILL_STORE_URL']}".encode()
        ticks = 0
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
                name = (process / "comm").read_text().strip()
                if name in ("postgres", "redis-server"):
                    wanted = int(fields[1]) in self.servers or int(process.name) in self.servers
                else:
                    wanted = mark in (process / "environ").read_bytes()
                if wanted:
                    ticks += sum(map(int, fields[11:15]))  # with that of children that have ended
        return ticks / os.sysconf("SC_CLK_TCK")

    def messages(self) -> int:
        """How many messages the broker was given so far."""
        return int(self.broker.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])


@dataclass
class Result:
    rates: list[float] = field(default_factory=list)  # segments a second, a round each
    cpu: list[float] = field(default_factory=list)  # ms a segment, of every process that has a part in it
    messages: list[float] = field(default_factory=list)  # a thousand segments


class Side:
    """One way of getting segments done."""

    name: str

    def start(self, site: Site, workers: int) -> None:
        raise NotImplementedError

    def ring(self, site: Site, corpus_id: int) -> None:
        raise NotImplementedError

    def wait(self, site: Site, corpus_id: int, jobs: int) -> None:
        site.until(
            f"SELECT count(*) FROM jobs WHERE corpus_id = {corpus_id} AND segments_done = segments_total", jobs
        )


class Ours(Side):
    name = "voicemill"

    def start(self, site: Site, workers: int) -> None:
        site.start(str(fleet.VOICEMILL), "scheduler")
        for _ in range(workers):
            site.start(
                str(fleet.VOICEMILL), "worker", "--engine", "hum", "--no-assemble", "--log-level", "warning"
            )
        site.until("SELECT count(*) FROM workers", workers)

    def ring(self, site: Site, corpus_id: int) -> None:
        from workers import app, bell

        with app.make() as celery:
            bell.plan(celery, "hum")


class Audio(Ours):
    """Ours, on to audio: a second process a worker assembles."""

    name = "to audio"

    def start(self, site: Site, workers: int) -> None:
        super().start(site, workers)
        for _ in range(workers):
            site.start(str(fleet.VOICEMILL), "worker", "--assemble-only", "--log-level", "warning")

    def wait(self, site: Site, corpus_id: int, jobs: int) -> None:
        site.until(f"SELECT count(*) FROM jobs WHERE corpus_id = {corpus_id} AND state = 'completed'", jobs)


class Plain(Side):
    name = "plain Celery"

    def start(self, site: Site, workers: int) -> None:
        from benchmarks.parts import plain_celery

        for number in range(workers):
            site.start(
                *(
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "benchmarks.parts.plain_celery",
                    "worker",
                    "-P",
                    "threads",
                ),
                *(
                    "-c",
                    str(plain_celery.THREADS),
                    "--without-gossip",
                    "--without-mingle",
                    "--without-heartbeat",
                ),
                *("-n", f"plain-{number}@%h", "-l", "warning"),
            )

    def ring(self, site: Site, corpus_id: int) -> None:
        """One message a segment, from a process of its own."""
        code = (
            "import os, sys; from benchmarks.parts import plain_celery; from storage.database import Database;"
            "plain_celery.publish(Database(os.environ['VOICEMILL_DATABASE_URL']), int(sys.argv[1]));"
            "import signal; signal.pause()"  # so that its processor time can be read
        )
        site.start(sys.executable, "-c", code, str(corpus_id))


def write_corpus(path: Path, jobs: int, mark: str) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(jobs):
            name = f"{mark}-{number:06}"
            text = " ".join(SENTENCE.format(number=at, job=name) for at in range(SEGMENTS_A_JOB))
            file.write(json.dumps({"id": name, "text": text}) + "\n")
    return path


def how() -> accept.How:
    corpus = options.CorpusOptions(format="wav")
    return accept.How(
        spec=hum.SPEC, resolver=options.Resolver(hum.SPEC, corpus, voices.load()), lexicon=lexicon.Lexicon()
    )


def into(database: Database, staged: accept.Staged, name: str) -> accept.Accepted:
    return accept.accept(
        database, staged, name=name, source="", corpus_options={}, priority=planner.priority_of("normal")
    )


@contextmanager
def site(folder: Path, postgres: servers.Postgres, packages: Path) -> Iterator[Site]:
    """A fresh database, Redis and store; every process ends with the block."""
    with (
        tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name,
        servers.Redis() as broker,
        databases.fresh(postgres.url, databases.template(postgres.url)) as database_url,
        closing(Database(database_url)) as database,
        redis.Redis.from_url(broker.url, decode_responses=True) as client,
        ExitStack() as processes,
    ):
        place = Path(name)
        ours = {
            "VOICEMILL_DATABASE_URL": database_url,
            "VOICEMILL_STORE_URL": (place / "store").as_uri(),
            "VOICEMILL_BROKER_URL": broker.url,
        }
        os.environ.update(ours)  # the benchmark rings and publishes, too
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)])}
        numbers = {server._processes[-1].pid for server in (postgres, broker)}
        yield Site(place, database, environment, client, processes, numbers)


def measure(side: Side, place: Site, workers: int, jobs: int, result: Result) -> None:
    side.start(place, workers)
    warm = place.accept(max(workers * 25, jobs // 5), mark="warm")
    side.ring(place, warm)
    side.wait(place, warm, max(workers * 25, jobs // 5))
    corpus_id = place.accept(jobs, mark="timed")
    cpu, messages, started = place.cpu(), place.messages(), time.perf_counter()
    side.ring(place, corpus_id)
    side.wait(place, corpus_id, jobs)
    seconds = time.perf_counter() - started
    count = jobs * SEGMENTS_A_JOB
    result.rates.append(count / seconds)
    result.cpu.append((place.cpu() - cpu) * 1000 / count)
    result.messages.append((place.messages() - messages) * 1000 / count)


def accept_rates(make: Callable[[], "contextmanager[Site]"], jobs: int) -> tuple[float, float]:
    """Segments a second: read, checked and cut; then inserted."""
    with make() as place:
        source = write_corpus(place.folder / "accept.jsonl", jobs, "accept")
        started = time.perf_counter()
        with accept.stage(readers.read([str(source)]), how()) as staged:
            cut = time.perf_counter()
            into(place.database, staged, "accept")
            ended = time.perf_counter()
            count = staged.totals.segments
    assert count == jobs * SEGMENTS_A_JOB, f"{count} segments"
    return count / (cut - started), count / (ended - cut)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=24_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["accept", "ours", "plain", "audio"])
    arguments = parser.parse_args()
    wanted = set(arguments.only or ["accept", "ours", "plain", "audio"])
    sides: dict[str, Side] = {"ours": Ours(), "plain": Plain(), "audio": Audio()}
    jobs = arguments.segments // SEGMENTS_A_JOB
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(servers.Postgres())
        packages = hum.installed(folder / "packages")

        def make() -> "contextmanager[Site]":
            return site(folder, postgres, packages)

        if "accept" in wanted:
            rates = [accept_rates(make, 2 * jobs) for _ in range(arguments.rounds)]
            cut, insert = (statistics.median(column) for column in zip(*rates, strict=True))
            both = 1 / (1 / cut + 1 / insert)
            print(
                f"accepted: {both:,.0f} segments/s (read and cut {cut:,.0f}, inserted {insert:,.0f})",
                flush=True,
            )
        chosen = [side for key, side in sides.items() if key in wanted]
        for workers in arguments.workers:
            compare(chosen, make, workers, jobs, arguments.rounds)


def compare(
    sides: Sequence[Side], make: Callable[[], "contextmanager[Site]"], workers: int, jobs: int, rounds: int
) -> None:
    results = {side.name: Result() for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            with make() as place:
                measure(side, place, workers, jobs, results[side.name])
    for name, result in results.items():
        print(
            f"{workers} workers, {name}: {spread(result.rates)} segments/s, {spread(result.cpu, 2)} ms of processor each,"
            f" {statistics.median(result.messages):.1f} messages a thousand segments",
            flush=True,
        )
    if {Ours.name, Plain.name} <= results.keys():
        ours, plain = results[Ours.name], results[Plain.name]
        faster = [one / other for one, other in zip(ours.rates, plain.rates, strict=True)]
        lighter = [other / one for one, other in zip(ours.cpu, plain.cpu, strict=True)]
        told = (
            f"{spread(faster, 1)} times as fast as plain Celery, {spread(lighter, 1)} times less processor time"
        )
        print(f"{workers} workers: {told}", flush=True)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and from least to most."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


if __name__ == "__main__":
    main()
