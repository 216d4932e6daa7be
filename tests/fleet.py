"""A fleet of real processes for a test: schedulers and workers against given servers, and nothing left at the end.

    with fleet.Fleet(tmp_path, database_url=..., broker_url=...) as mill:
        mill.start("scheduler")
        worker = mill.start("worker", "--engine", "slow")
        mill.until(lambda: mill.state("corpus") == "completed")

Nothing here sleeps for a fixed time: whatever is waited for is a state, with a deadline.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import kombu
import redis
import sqlalchemy as sa
from celery import Celery

from storage import fleet
from storage.database import Database
from storage.models import Batch, Corpus, Job, Segment
from storage.models import Worker as Member
from tests import slow_engine, warm
from workers import leash

ROOT = Path(__file__).parents[1]
VOICEMILL = Path(sys.executable).with_name("voicemill")
DEADLINE = 60.0  # seconds
POLL = 0.1  # seconds
PREFIX = "voicemill:"  # before every key in Redis
MARK = "VOICEMILL_TEST_FLEET"  # in the environment of every process of a fleet, whoever started it

Found = TypeVar("Found")


class Process:
    """One `voicemill` command that goes on running, and what it says."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log_path = log
        tied = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                tied,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def log(self) -> str:
        """All that it has said so far."""
        return self.log_path.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send the command itself a signal; its children get none but from it."""
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def terminate(self) -> int:
        """End it in good order: its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


class Fleet:
    """Processes that share a database, a broker and a store."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str,
        broker_url: str | None,
        store_url: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        warm.prepare()
        self.folder = folder
        self.engine_folder = folder / "engine"
        self.engine_folder.mkdir(parents=True)
        (folder / "work").mkdir()
        self._processes: list[Process] = []
        self._mark = uuid.uuid4().hex
        self._broker_url = broker_url
        self.store_url = store_url or (folder / "store").as_uri()
        self.database = Database(database_url, pool_size=2)
        self.environment = {
            **os.environ,
            "VOICEMILL_DATABASE_URL": database_url,
            "VOICEMILL_STORE_URL": self.store_url,
            "VOICEMILL_LEASE_SECONDS": "20",  # on a busy machine a renewal may come seconds late
            "VOICEMILL_SWEEP_SECONDS": "1",
            "VOICEMILL_RING_AGAIN_SECONDS": "2",
            "VOICEMILL_LINGER_SECONDS": "0",
            "VOICEMILL_RESTART_SECONDS": "0.1",
            "VOICEMILL_RESTART_LIMIT_SECONDS": "0.1",
            "VOICEMILL_SPOT": "off",
            "VOICEMILL_SPOT_LOCK": str(folder / "spot.lock"),
            **({"VOICEMILL_BROKER_URL": broker_url} if broker_url else {}),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(slow_engine.package(folder))]),
            "PYTHONUNBUFFERED": "1",
            slow_engine.FOLDER: str(self.engine_folder),
            MARK: self._mark,
            **(settings or {}),
        }

    def start(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Process:
        """Start a `voicemill` command that goes on running."""
        log = self.folder / f"{len(self._processes)}-{arguments[0]}.log"
        environment = {**self.environment, **(settings or {})}
        process = Process([str(VOICEMILL), *arguments], environment, self.folder / "work", log)
        self._processes.append(process)
        return process

    def run(
        self, *arguments: str, settings: Mapping[str, str] | None = None, code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a `voicemill` command to its end, which must be the exit code given."""
        environment = {**self.environment, **(settings or {})}
        ended, out, err = warm.run(arguments, self.folder / "work", environment, DEADLINE)
        done = subprocess.CompletedProcess(arguments, ended, out.decode(), err.decode())
        assert code is None or done.returncode == code, (
            f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def worker(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Process:
        """Start a worker of the slow engine and wait until it has said that it lives."""
        before = {member.name for member in self.members()}
        process = self.start("worker", "--engine", "slow", *arguments, settings=settings)
        self.until(lambda: {member.name for member in self.members()} - before)
        return process

    def until(self, found: Callable[[], Found], seconds: float = DEADLINE) -> Found:
        """Wait until something is true, and return it; every log in the failure otherwise."""
        deadline = time.monotonic() + seconds
        while True:
            value = found()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; {self.told()}")
            time.sleep(POLL)

    def until_ended(self, *corpora: str, state: str = "completed", seconds: float = DEADLINE) -> None:
        """Wait until corpora have ended, all in the state given."""
        self.until(lambda: all(self.state(name) != "running" for name in corpora), seconds)
        assert {name: self.state(name) for name in corpora} == dict.fromkeys(corpora, state), self.told()

    def state(self, corpus: str) -> str | None:
        """A corpus' state, None where there is no such corpus."""
        return self.scalar(sa.select(Corpus.c.state).where(Corpus.c.name == corpus))

    def segments(self, corpus: str, *states: str) -> int:
        """How many segments of a corpus are in one of these states; in any, where none is given."""
        query = (
            sa.select(sa.func.count())
            .select_from(Segment)
            .join(Job, Job.c.id == Segment.c.job_id)
            .join(Corpus, Corpus.c.id == Job.c.corpus_id)
            .where(Corpus.c.name == corpus)
        )
        return int(self.scalar(query.where(Segment.c.state.in_(states)) if states else query))

    def batches(self) -> list[sa.Row[Any]]:
        """Every batch."""
        with self.database.read() as connection:
            return list(connection.execute(sa.select(Batch).order_by(Batch.c.id)))

    def members(self) -> list[sa.Row[Any]]:
        """The workers that say that they live."""
        with self.database.read() as connection:
            return list(fleet.members(connection, 3600))

    def renderer(self, process: Process) -> int:
        """The process number of a worker's child that renders."""
        with self.database.read() as connection:
            names = list(connection.scalars(sa.select(Member.c.name)))
        numbers = [int(name.split(":")[1]) for name in names]
        return next(number for number in numbers if _parent(number) == process.process.pid)

    def send(self, name: str, arguments: list[Any], queue: str) -> str:
        """Put a task's message into a queue, as any Celery client may: the id by which logs call it."""
        with Celery(broker=self._broker_url, set_as_current=False) as client:
            client.conf.broker_transport_options = {"global_keyprefix": PREFIX} if self._is_redis else {}
            destination = kombu.Queue(queue, kombu.Exchange(""), routing_key=queue, no_declare=True)
            return str(client.send_task(name, args=arguments, queue=destination, ignore_result=True).id)

    def depth(self, queue: str) -> int:
        """How many messages of a queue wait to be handed out."""
        if self._is_redis:
            with redis.Redis.from_url(str(self._broker_url)) as client:
                return int(client.llen(PREFIX + queue))
        with self.connection() as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)

    def connection(self) -> kombu.Connection:
        """A connection to the broker, as a producer has one."""
        options = {"global_keyprefix": PREFIX} if self._is_redis else {}
        return kombu.Connection(self._broker_url, transport_options=options)

    @property
    def _is_redis(self) -> bool:
        return str(self._broker_url).startswith("redis")

    def scalar(self, query: sa.Select[Any]) -> Any:
        """The one value that a query gives."""
        with self.database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def rendered(self) -> Counter[str]:
        """How often each take was rendered."""
        path = self.engine_folder / "rendered"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(line.split()[1] for line in lines)

    def holders(self) -> set[int]:
        """Processes that came to a text that waits for the gate."""
        return {int(path.name.partition("-")[2]) for path in self.engine_folder.glob("holding-*")}

    def open_gate(self) -> None:
        """Let everything go on that waits."""
        (self.engine_folder / "open").touch()

    def close_gate(self) -> None:
        """Make texts wait again, and forget who did."""
        for path in [self.engine_folder / "open", *self.engine_folder.glob("holding-*")]:
            path.unlink(missing_ok=True)

    def told(self) -> str:
        """What every process has said, its end."""
        return "\n".join(
            f"--- {process.log_path.name} ({process.process.poll()})\n{process.log()[-2500:]}"
            for process in self._processes[-8:]
        )

    def close(self) -> None:
        """End every process. Raises AssertionError where one had to be killed."""
        for process in self._processes:
            if process.process.poll() is None:
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGTERM)
        deadline = time.monotonic() + 30
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.process.wait(max(0.1, deadline - time.monotonic()))
        left = self.left_behind()
        for number in left:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for process in self._processes:
            process.process.wait()
        self.database.close()
        assert not left, f"processes were left behind: {left}; {self.told()}"

    def left_behind(self) -> dict[int, str]:
        """Every process of this fleet that is alive, with its command line, whoever is its parent."""
        mark = f"{MARK}={self._mark}".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (
                        (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except AssertionError:
            if error is None:
                raise


def _parent(number: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return 0
