"""Where the faults happen: servers of our own, a scheduler and workers that are started again whenever they have ended.

Each worker is a machine for itself as far as that goes: a scratch disk, a clock, and a metadata server that may announce
its end.
"""

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

import boto3
import sqlalchemy as sa

from storage import errors
from storage import fleet as members
from storage.database import Database
from storage.models import Corpus, Job, Segment
from tests import corpus_maker, databases, fleet, metadata_servers, servers
from tests.faults import corpora, engine, proxy
from workers.exit_codes import WorkerExit

BUCKET: Final = "faults"
REGION: Final = "eu-central-1"
LEASE_SECONDS = 15  # with less a renewal that a busy machine delays is one fault more, and blamed on another
DISK_BYTES = 64 << 20
RESTART_SECONDS = 1.0  # before a process that has ended starts again
CHECKPOINT_SECONDS = 3.0
CLOUDS: Final = {
    "aws": metadata_servers.AwsServer,
    "google": metadata_servers.GoogleServer,
    "azure": metadata_servers.AzureServer,
}
CLOCK = struct.Struct("<q")  # seconds to add, as `clock.c` reads them
GRACE_SECONDS = 30.0  # from SIGTERM or a notice to the end of the machine
AT_WORK = re.compile(
    r"workers/(render|beside|lease|assemble|audio/\w+)\.py"
)  # in a stack: its thread is at work
AHEAD = 120  # segments that wait, before another corpus is submitted


class Postgres(servers.Postgres):
    """Postgres that has every commit with the operating system before it says so: its crash loses none."""

    def commands(self) -> list[list[str]]:
        return [[*command, "-c", "synchronous_commit=on"] for command in super().commands()]


@dataclass(frozen=True, slots=True)
class Event:
    """A fault, as the account of lost work wants to know it."""

    at: float  # on the monotonic clock
    kind: str
    told: str
    processes: frozenset[int]  # those it struck; none: everybody


@dataclass
class Slot:
    """A place for one process after the other: a worker's machine, or the scheduler's."""

    name: str
    arguments: list[str]
    folder: Path
    mounted: bool
    cloud: str | None = None
    metadata: metadata_servers.MetadataServer | None = None
    process: fleet.Process | None = None
    busy_until: float = 0.0  # a fault is under way that wants to be alone
    ended: list[int] = field(default_factory=list)  # exit codes
    start_at: float = 0.0  # on the monotonic clock

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def set_clock(self, seconds: int) -> None:
        """Have the machine's clock be wrong by so much."""
        with self.clock.open("r+b") as file:
            file.write(CLOCK.pack(seconds))

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.process.poll() is None

    def has_acknowledged(self) -> bool:
        """Whether the cloud has heard that all is stored, where it asks for that."""
        return not isinstance(self.metadata, metadata_servers.AzureServer) or all(
            event["EventStatus"] == "Started" for event in self.metadata.events
        )

    def tree(self) -> dict[int, str]:
        """The processes of the slot that are ours: number and role (keeper, renderer, assembler, scheduler)."""
        if self.process is None or not self.is_alive:
            return {}
        found = {self.process.process.pid: "keeper"}
        for number in _descendants(self.process.process.pid):
            with suppress(OSError):
                line = Path(f"/proc/{number}/cmdline").read_bytes()
                if b"workers.process" in line:
                    roles = {
                        b"render-": "renderer",
                        b"assemble-": "assembler",
                        b"scheduler-": "scheduler",
                    }
                    found[number] = next((role for mark, role in roles.items() if mark in line), "other")
        return found


class Place:
    """Everything a run needs; closed, nothing of it is left. Findings are what should not be."""

    def __init__(
        self, seed: int, *, broker: str, kind: str, workers: int, seconds: float, say: Callable[[str], None]
    ) -> None:
        self.seed, self.kind, self.say = seed, kind, say
        self.chance = Random(f"place {seed}")
        self.spec, self.plain = engine.SPECS[kind], engine.PLAIN[kind]
        self.findings: list[str] = []
        self.events: list[Event] = []
        self.texts: list[corpora.Text] = []
        self.counts: Counter[str] = Counter()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._stack = ExitStack()
        try:
            self._open(broker, workers, seconds)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, broker: str, workers: int, seconds: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="voicemill-faults-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.engine_log = self.folder / "rendered.jsonl"
        self.stacks = self.folder / "stacks"
        self.postgres = self._stack.enter_context(Postgres())
        self.broker = self._stack.enter_context(servers.KINDS[broker]())
        self.s3 = self._stack.enter_context(servers.S3())
        self.proxy = self._stack.enter_context(proxy.Proxy(self.s3.url, self.seed))
        databases.migrate(self.postgres.url)
        os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        self.bucket = boto3.client("s3", endpoint_url=self.s3.url, region_name=REGION)
        self._stack.callback(self.bucket.close)
        self.bucket.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.fleet = fleet.Fleet(
            self.folder / "fleet",
            database_url=self.postgres.url,
            broker_url=self.broker.url,
            store_url=self._store_url(),
            settings=self._settings(seconds),
        )
        self._stack.callback(self._end_fleet)
        self.clocks = self._clocks()
        self.scheduler = self._slot("scheduler", ["scheduler"])
        lines = ["worker", "--engine", self.spec.pool, "--assemble-threads", "2"]
        names = list(CLOUDS)
        self.workers = [
            self._slot(f"worker-{number}", lines, cloud=names[(number - 1) % len(names)])
            for number in range(1, workers + 1)
        ]
        self.slots = [self.scheduler, *self.workers]

    def _store_url(self) -> str:
        options = {
            "endpoint_url": self.proxy.url,
            "region": REGION,
            "timeout": 3,
            "connect_timeout": 2,
            "retries": 3,
        }
        return f"s3://{BUCKET}?{urlencode(options)}"

    def _settings(self, seconds: float) -> dict[str, str]:
        package = self.folder / "packages"
        information = package / "faults-1.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: faults\nVersion: 1\n")
        (information / "entry_points.txt").write_text(
            "[voicemill.engines]\n"
            + "".join(f"faults-{kind} = tests.faults.engine:{kind.upper()}\n" for kind in engine.SPECS)
        )
        self.stacks.mkdir()
        if self.kind == "maya1":
            from tests import tiny_maya1  # brings torch with it

            model = tiny_maya1.make(self.folder / "model", end_bias=0)
            os.environ[engine.MODEL] = str(model)  # this process renders the same without any fault
        return {
            "PYTHONPATH": os.pathsep.join([str(fleet.ROOT), str(package)]),
            "VOICEMILL_LEASE_SECONDS": str(LEASE_SECONDS),
            "VOICEMILL_BATCH_SECONDS": "10",
            "VOICEMILL_BATCH_SEGMENTS": "60",
            "VOICEMILL_ESPEAK_PROCESSES": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "VOICEMILL_CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS),
            "OMP_NUM_THREADS": "1",
            engine.LOG: str(self.engine_log),
            engine.SECONDS: str(seconds),
            engine.STACKS: str(self.stacks),
        }

    def _slot(self, name: str, arguments: list[str], *, cloud: str | None = None) -> Slot:
        folder = self.folder / name
        (folder / "scratch").mkdir(parents=True)
        (folder / "clock").write_bytes(CLOCK.pack(0))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "faults", str(folder / "scratch")]
        mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        if mounted:
            self._stack.callback(_unmount, folder / "scratch")
        server = self._stack.enter_context(CLOUDS[cloud]()) if cloud else None
        return Slot(name, arguments, folder, mounted, cloud, server)

    def _clocks(self) -> Path | None:
        """The library that makes clocks jump, None where there is no C compiler."""
        compiler, library = shutil.which("cc"), self.folder / "clock.so"
        if compiler is None:
            return None
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        return library

    def start(self, slot: Slot) -> None:
        """Start a slot's process on its machine."""
        settings = {"TMPDIR": str(slot.scratch), "VOICEMILL_SPOT_LOCK": str(slot.folder / "lock")}
        if self.clocks is not None:
            slot.set_clock(0)
            settings |= {"LD_PRELOAD": str(self.clocks), "FAULTS_CLOCK": str(slot.clock)}
        if slot.cloud is not None and slot.metadata is not None:
            slot.metadata.calm()
            settings |= {"VOICEMILL_SPOT": slot.cloud, "VOICEMILL_SPOT_ENDPOINT": slot.metadata.url}
        slot.process = self.fleet.start(*slot.arguments, settings=settings)

    def note(self, kind: str, told: str, processes: frozenset[int] = frozenset()) -> None:
        """Write a fault down."""
        self.events.append(Event(time.monotonic(), kind, told, processes))

    def find(self, told: str) -> None:
        """Write down what should not be."""
        self.findings.append(told)
        self.say(f"  !! {told}")

    def later(self, seconds: float, step: Callable[[], None]) -> None:
        """Have a fault end, or be looked at, after so many seconds."""
        self._later.append((time.monotonic() + seconds, step))

    def tend(self) -> None:
        """Whatever is due: faults end, processes that have ended start again."""
        due = [item for item in self._later if item[0] <= time.monotonic()]
        self._later = [item for item in self._later if item not in due]
        for _, step in due:
            step()
        for slot in self.slots:
            if slot.is_alive:
                continue
            if slot.process is not None:
                if slot.process.process.returncode == WorkerExit.BAD_INPUT and not self.events:
                    raise RuntimeError(f"{slot.name} cannot be started: {slot.process.log()[-2000:]}")
                slot.ended.append(slot.process.process.returncode)
                slot.process, slot.start_at = None, time.monotonic() + RESTART_SECONDS
            elif time.monotonic() >= slot.start_at:
                self.start(slot)

    def settle(self) -> None:
        """Wait until every fault is over."""
        while self._later:
            self.tend()
            time.sleep(fleet.POLL)

    def ready(self) -> list[Slot]:
        """Workers that have said that they live and that no fault has for itself."""
        try:
            with self.fleet.database.read() as connection:
                names = [row.name for row in members.members(connection, 20)]
        except errors.VoicemillError:
            return []
        numbers = {int(name.split(":")[1]) for name in names}
        idle = [slot for slot in self.workers if slot.is_alive and slot.busy_until < time.monotonic()]
        return [slot for slot in idle if numbers & slot.tree().keys()]

    def feed(self) -> None:
        """Submit another corpus where little work is left."""
        with suppress(errors.VoicemillError, sa.exc.DBAPIError):
            if self.left() >= AHEAD:
                return
            text = corpora.made(self.seed, len(self.texts))
            self.accept(self.fleet.database, text, self.spec)
            self.texts.append(text)

    @staticmethod
    def accept(database: Database, text: corpora.Text, spec: object) -> int:
        """Submit a corpus: its number. Doing it twice is doing it once."""
        accepted = corpus_maker.accepted(
            database,
            text.jobs,
            name=text.name,
            priority=text.priority,
            audio_format=text.audio_format,
            captions=text.captions,
            spec=spec,
        )
        return accepted.id

    def left(self) -> int:
        """Segments that have no take yet."""
        states = ("pending", "batched")
        query = sa.select(sa.func.count()).select_from(Segment).where(Segment.c.state.in_(states))
        return int(self.fleet.scalar(query))

    def progress(self) -> tuple[int, int, int]:
        """Segments done, jobs ended, corpora that run."""
        done = sa.select(sa.func.count()).select_from(Segment).where(Segment.c.state == "done")
        ended = sa.select(sa.func.count()).select_from(Job).where(Job.c.finished_at.is_not(None))
        running = sa.select(sa.func.count()).select_from(Corpus).where(Corpus.c.state == "running")
        found = [int(self.fleet.scalar(query)) for query in (done, ended, running)]
        return found[0], found[1], found[2]

    def owners_of(self, role: str) -> Iterator[int]:
        """Processes of a role, over all slots."""
        for slot in self.slots:
            yield from (number for number, found in slot.tree().items() if found == role)

    def leave(self) -> None:
        """End every process in good order, as at the end of the day. What does not is a finding."""
        for told in self._threads_left():
            self.find(told)
        for slot in self.slots:
            if slot.process is not None and slot.is_alive:
                slot.process.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for slot in self.slots:
            if slot.process is None:
                continue
            try:
                code = slot.process.wait(max(0.1, deadline - time.monotonic()))
                if code != 0:
                    self.find(f"{slot.name} left with exit code {code} at the end")
            except subprocess.TimeoutExpired:
                self.find(f"{slot.name} did not leave within {GRACE_SECONDS:g} s at the end")
        for number, line in self.fleet.left_behind().items():
            self.find(f"process {number} was left behind: {line}")

    def _threads_left(self) -> list[str]:
        """Threads that still work on something, though there is nothing left to do."""
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            numbers = {number: role for slot in self.workers for number, role in slot.tree().items()}
            busy = [
                f"a thread of {role} {number} is left: {line}"
                for number, role in numbers.items()
                if role in ("renderer", "assembler")
                for line in self._stack_of(number)
                if AT_WORK.search(line)
            ]
            if not busy or time.monotonic() > deadline:  # a last message may still be looked at
                return busy
            time.sleep(10 * fleet.POLL)

    def _stack_of(self, number: int) -> list[str]:
        """What every thread of a process is doing, line by line."""
        path = self.stacks / str(number)
        path.write_bytes(b"")
        os.kill(number, signal.SIGUSR2)
        before, deadline = -1, time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if before == (size := path.stat().st_size) and size:
                return path.read_text().splitlines()
            before = size
            time.sleep(fleet.POLL)
        return [f"process {number} says nothing at all, in workers/render.py perhaps"]

    def _end_fleet(self) -> None:
        for number in self.fleet.left_behind():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        with suppress(AssertionError):
            self.fleet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", folder], capture_output=True)


def _descendants(number: int) -> list[int]:
    with suppress(OSError):
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return [found for child in map(int, children) for found in (child, *_descendants(child))]
    return []


if sys.platform != "linux":
    raise SystemExit("the fault harness needs Linux: /proc, SIGSTOP and tmpfs")
