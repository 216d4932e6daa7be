"""Every kind of fault: what it does to the place, told in a line."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from random import Random

import psycopg
import redis
import sqlalchemy as sa

from storage import errors
from storage.models import Batch
from tests import servers
from tests.faults import place, proxy
from tests.faults.place import Place, Slot
from workers.exit_codes import WorkerExit

Kind = Callable[[Place, Random], str | None]  # what it did; None where it cannot be done just now

HOUR = 3600
DEAL = 3  # the seed of what is dealt to several runs


def kill_worker(at: Place, chance: Random) -> str | None:
    """kill -9 of one of a worker's processes, or of all of them at once, as a machine goes."""
    slot = _worker(at, chance)
    if slot is None:
        return None
    tree = slot.tree()
    number = chance.choice(sorted(tree))
    struck = frozenset(tree) if tree[number] == "keeper" else frozenset({number})  # its children go with it
    at.note("kill -9", slot.name, struck)
    _send(number, signal.SIGKILL)
    return f"{slot.name}: {tree[number]} {number}"


def kill_scheduler(at: Place, chance: Random) -> str | None:
    """kill -9 of the scheduler."""
    tree = _scheduler(at)
    if not tree:
        return None
    number = chance.choice(sorted(tree))
    _send(number, signal.SIGKILL)
    return f"{tree[number]} {number}"


def terminate_worker(at: Place, chance: Random) -> str | None:
    """SIGTERM to a worker, and 30 seconds to leave."""
    slot = _worker(at, chance)
    if slot is None:
        return None
    at.note("SIGTERM", slot.name, frozenset(slot.tree()))
    number = slot.process.process.pid  # type: ignore[union-attr]
    _must_leave(at, slot, "SIGTERM", lambda: _send(number, signal.SIGTERM))
    return slot.name


def terminate_twice(at: Place, chance: Random) -> str | None:
    """SIGTERM to a worker, and again before it has left."""
    slot = _worker(at, chance)
    if slot is None or slot.process is None:
        return None
    number = slot.process.process.pid
    at.note("SIGTERM twice", slot.name, frozenset(slot.tree()))
    _must_leave(at, slot, "SIGTERM twice", lambda: _send(number, signal.SIGTERM), 10)
    pause = chance.uniform(0, 0.5)
    at.later(pause, lambda: _send(number, signal.SIGTERM) if slot.is_alive else None)
    return f"{slot.name}, {pause:.2f} s apart"


def terminate_scheduler(at: Place, chance: Random) -> str | None:
    """SIGTERM to the scheduler."""
    if not _scheduler(at):
        return None
    number = at.scheduler.process.process.pid  # type: ignore[union-attr]
    _must_leave(at, at.scheduler, "SIGTERM", lambda: _send(number, signal.SIGTERM))
    return at.scheduler.name


def notice(kind: str, clouds: Collection[str], seconds: float) -> Kind:
    """A notice from the metadata server of a machine in one of these clouds, and so long to leave."""

    def strike(at: Place, chance: Random) -> str | None:
        slots = [slot for slot in at.ready() if slot.cloud in clouds]
        if not slots:
            return None
        slot = chance.choice(slots)
        assert slot.metadata is not None
        at.note(kind, slot.name, frozenset(slot.tree()))
        _must_leave(at, slot, kind, slot.metadata.preempt, seconds)
        return f"{slot.name}, of {slot.cloud}"

    return strike


def stopped(at: Place, chance: Random) -> str | None:
    """A worker is stopped for longer than its lease and then wakes up."""
    slot = _worker(at, chance)
    if slot is None:
        return None
    tree = slot.tree()
    renderers = [number for number, role in tree.items() if role == "renderer"]
    numbers = sorted(tree) if chance.random() < 0.5 or not renderers else renderers
    seconds = place.LEASE_SECONDS + chance.uniform(2, 6)
    slot.busy_until = time.monotonic() + seconds + 1
    at.note("stopped", slot.name, frozenset(numbers))
    for number in numbers:
        _send(number, signal.SIGSTOP)

    def wake() -> None:
        for number in numbers:
            _send(number, signal.SIGCONT)

    at.later(seconds, wake)
    return f"{slot.name}: {', '.join(tree[number] for number in numbers)} for {seconds:.1f} s"


def restart_broker(at: Place, chance: Random) -> str:
    """The broker goes, in good order or not, and comes back."""
    at.note("broker restart", "")
    return _restart(at.broker, chance)


def flush_broker(at: Place, chance: Random) -> str:
    """Every message is lost; with Redis every queue's name, too."""
    at.note("broker flushed", "")
    if at.broker.name == "redis":
        with redis.Redis.from_url(at.broker.url) as client:
            client.flushdb()
        return "FLUSHDB"
    purged = []
    with at.fleet.connection() as connection:
        for queue in (f"render.{at.spec.pool}", "assemble", "plan"):
            with suppress(Exception):  # the queue may not be ready after a restart
                purged.append(f"{queue} {connection.default_channel.queue_purge(queue)}")
    return f"purged {', '.join(purged)}"


def restart_postgres(at: Place, chance: Random) -> str:
    """Postgres goes, in good order or not, and comes back."""
    at.note("Postgres restart", "")
    told = _restart(at.postgres, chance)
    at.note("Postgres restart", "over")
    return told


def cut_connections(at: Place, chance: Random) -> str:
    """Postgres ends every connection of ours, or some of them."""
    at.note("Postgres connections cut", "")
    share = chance.choice([0.3, 1.0])
    query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'voicemill' AND random() < %s"  # noqa: E501
    with psycopg.connect(at.postgres.url, autocommit=True) as connection:
        row = connection.execute(query, [share]).fetchone()
    return f"{row[0] if row else 0} of them"


def s3_fault(fault: proxy.Fault) -> Kind:
    """A share of all requests to S3 goes wrong for a while."""

    def begin(at: Place, chance: Random) -> str | None:
        if not at.proxy.healed.is_set():
            return None  # one at a time
        seconds, share = chance.uniform(2, 8), chance.choice([0.2, 0.5, 1.0])
        at.note(f"S3: {fault.value}", "")
        at.proxy.fail(fault, share)

        def end() -> None:
            at.note(f"S3: {fault.value}", "over")
            at.proxy.heal()

        at.later(seconds, end)
        return f"{share:.0%} of requests for {seconds:.1f} s"

    return begin


def disk_full(at: Place, chance: Random) -> str | None:
    """A worker's scratch disk is full for a while."""
    slots = [slot for slot in at.ready() if slot.mounted]
    if not slots:
        return None
    slot = chance.choice(slots)
    ballast, seconds = slot.scratch / "ballast", chance.uniform(3, 10)
    free = shutil.disk_usage(slot.scratch).free
    spare = chance.choice([0, 50_000, 300_000])
    at.note("disk full", slot.name, frozenset(slot.tree()))
    with ballast.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, free - spare))
    at.later(seconds, lambda: ballast.unlink(missing_ok=True))
    return f"{slot.name}: {spare // 1000} kB left, for {seconds:.1f} s"


def clock_jump(at: Place, chance: Random) -> str | None:
    """A machine's clock jumps, and is set right later."""
    if at.clocks is None:
        return None
    slot = chance.choice(at.slots)
    jump, seconds = chance.choice([-24, -1, 1, 24]) * HOUR, chance.uniform(2, 8)
    at.note("clock jump", slot.name, frozenset(slot.tree()))
    slot.set_clock(jump)
    at.later(seconds, lambda: slot.set_clock(0))
    return f"{slot.name}: {jump // HOUR:+d} h for {seconds:.1f} s"


def doubled(at: Place, chance: Random) -> str | None:
    """Messages come again, some of them of batches that are long finished, in any order, and out of turn."""
    try:
        with at.fleet.database.read() as connection:
            rows = list(connection.execute(sa.select(Batch.c.id, Batch.c.state, Batch.c.segments_total)))
    except errors.VoicemillError:
        return None
    if not rows:
        return None
    chosen = [chance.choice(rows) for _ in range(chance.randint(5, 20))]
    chosen += sorted((row for row in rows if row.state == "ready"), reverse=True)
    at.note("messages doubled", "")
    at.counts["segments in doubled messages"] += sum(row.segments_total for row in chosen)
    sent = 0
    with suppress(Exception):  # the broker may be busy with a fault of its own
        for row in chosen:
            at.fleet.send("render", [row.id, at.spec.pool], f"render.{at.spec.pool}")
            sent += 1
        for name, queue in (("assemble", "assemble"), ("plan", "plan"), ("sweep", "plan")):
            at.fleet.send(name, [], queue)
            sent += 1
    return f"{sent} messages"


KINDS: dict[str, tuple[int, Kind]] = {  # how often, among each other
    "kill -9 worker": (4, kill_worker),
    "kill -9 scheduler": (1, kill_scheduler),
    "SIGTERM worker": (2, terminate_worker),
    "SIGTERM worker twice": (1, terminate_twice),
    "SIGTERM scheduler": (1, terminate_scheduler),
    "notice of 2 minutes": (2, notice("notice of 2 minutes", ("aws",), 120)),
    "notice of 30 seconds": (2, notice("notice of 30 seconds", ("google", "azure"), 30)),
    "worker stopped past its lease": (2, stopped),
    "broker restart": (1, restart_broker),
    "broker flushed": (1, flush_broker),
    "Postgres restart": (1, restart_postgres),
    "Postgres connections cut": (2, cut_connections),
    "disk full": (1, disk_full),
    "clock jump": (1, clock_jump),
    "messages doubled and reordered": (1, doubled),
    **{f"S3: {fault.value}": (1, s3_fault(fault)) for fault in proxy.Fault},
}


def deck(chance: Random) -> list[str]:
    """Every kind as often as it should be, in an order that follows from the seed."""
    once = [name for name, (times, _) in KINDS.items() for _ in range(times)]
    return chance.sample(once, len(once))


def hand(number: int, of: int) -> list[str]:
    """One of several hands, the first is 1, that every kind is dealt to once, always in the same way."""
    return Random(DEAL).sample(list(KINDS), len(KINDS))[number - 1 :: of]


def _worker(at: Place, chance: Random) -> Slot | None:
    ready = at.ready()
    return chance.choice(ready) if ready else None


def _scheduler(at: Place) -> dict[int, str]:
    """The scheduler's processes; none where it is not up yet, or a fault has it for itself."""
    tree = at.scheduler.tree()
    return tree if len(tree) > 1 and at.scheduler.busy_until < time.monotonic() else {}


def _send(number: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, what)


def _must_leave(
    at: Place, slot: Slot, why: str, tell: Callable[[], None], seconds: float = place.GRACE_SECONDS
) -> None:
    """A machine that goes after its grace, from when it was told: whoever is there then is a finding, and is killed."""
    process = slot.process
    assert process is not None
    tell()
    begun = time.monotonic()
    slot.busy_until = begun + seconds + 1

    def look() -> None:
        code = process.process.poll()
        if code is not None:
            slot.busy_until = 0.0
            at.counts[f"{why}: left, exit code {code}"] += 1
            if code == WorkerExit.WATCHDOG or (code == 128 + signal.SIGKILL and why != "SIGTERM twice"):
                at.find(f"{slot.name}: {why}, and it had to be killed (exit code {code})")
            if why.startswith("notice") and code == 0 and not slot.has_acknowledged():
                at.find(f"{slot.name}: {why}, and {slot.cloud} was not told that it may go ahead")
        elif time.monotonic() - begun < seconds:
            at.later(0.2, look)
        else:
            at.find(f"{slot.name}: {why}, and it had not left after {seconds:g} s")
            for number in slot.tree():
                _send(number, signal.SIGKILL)

    at.later(0.2, look)


def _restart(server: servers.Server, chance: Random) -> str:
    how, pause = chance.choice(["stopped", "crashed"]), chance.choice([0, 1, 4])
    (server.stop if how == "stopped" else server.kill)()
    time.sleep(pause)  # this is how long it is away
    server.start()
    return f"{how}, back after {pause} s and its start"
