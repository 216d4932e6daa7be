"""Breaks everything that can break around a corpus, and looks whether it came out as if nothing had happened.

    python -m tests.faults --seed 7 --faults 200                  # on RabbitMQ
    python -m tests.faults --seed 7 --minutes 30 --broker redis   # for so long

The seed gives the texts and the order of the faults; what each of them meets is up to the machine. Exit code 1: findings.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from storage import errors
from tests import fleet, servers
from tests.faults import checks, corpora, engine, kinds, ledger, report
from tests.faults.place import CHECKPOINT_SECONDS, Place

WORK_SECONDS = 5.0  # between two faults, where no segment is done earlier
MISSING_SECONDS = 45.0  # that a fault is tried for, before it is given up
MISSING = 77  # exit code where a server is not installed
PATIENCE = 120.0  # seconds without any progress, with no fault under way


def main() -> int:
    options = parsed()
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing is left then, either

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}" if line else "", flush=True)

    say(f"seed {options.seed}, {options.broker}, engine {options.engine}, {options.workers} workers")
    with Place(
        options.seed,
        broker=options.broker,
        kind=options.engine,
        workers=options.workers,
        seconds=options.pace,
        say=say,
    ) as at:
        done = disturb(at, options)
        finish(at, options)
        seconds = time.monotonic() - begun
        at.leave()
        say("every process has left; rendering the same without any fault")
        for finding in checks.everything(at):
            at.find(finding)
        calls = ledger.read(at.engine_log)
        account = ledger.account(calls, at.events)
        for finding in ledger.broken_promises(account, CHECKPOINT_SECONDS):
            at.find(finding)
        print(report.written(at, account, done, seconds))
        if at.findings and options.keep is not None:
            keep(at, options.keep)
        return 1 if at.findings else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--faults", type=int, help="so many faults; 200 where no minutes are given")
    parser.add_argument("--minutes", type=float, help="faults for so long")
    parser.add_argument("--hand", type=hand, help="1/2: one of two hands that every kind of fault is dealt to")
    parser.add_argument("--broker", choices=["rabbitmq", "redis"], default="rabbitmq")
    parser.add_argument("--engine", choices=list(engine.SPECS), default="espeak")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--segments", type=int, default=0, help="at least so many")
    parser.add_argument("--pace", type=float, default=0.2, help="seconds that espeak waits before each segment")
    parser.add_argument("--gap", type=float, default=2.0, help="seconds between two faults, at most")
    parser.add_argument("--only", action="append", choices=list(kinds.KINDS), help="only this kind of fault")
    parser.add_argument("--keep", type=Path, help="a folder for the logs, should anything be found")
    return parser.parse_args()


def hand(told: str) -> list[str]:
    """The faults of the hand 1/2, or another."""
    number, _, of = told.partition("/")
    found = kinds.hand(int(number), int(of))
    if not found or int(number) < 1:
        raise ValueError
    return found


def disturb(at: Place, options: argparse.Namespace) -> list[str]:
    """Do the faults: which."""
    chance = random.Random(options.seed)
    count = options.faults if options.faults is not None else (10**6 if options.minutes else 200)
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    done: list[str] = []
    deck: list[str] = list(options.hand or [])
    missed: dict[str, float] = {}  # since when, on the monotonic clock
    at.tend()
    wait(at, lambda: bool(at.ready()) and bool(at.scheduler.tree()))
    while len(done) < count and time.monotonic() < deadline:
        if not deck and options.hand:
            break
        if not deck:
            deck = options.only * 20 if options.only else kinds.deck(chance)
        name = deck.pop(0)
        wait(at, lambda: bool(at.ready()))
        told = kinds.KINDS[name][1](at, chance)
        if told is None:
            if time.monotonic() < missed.setdefault(name, time.monotonic()) + MISSING_SECONDS:
                deck.insert(3, name)  # not just now: another fault is in its way
            else:
                at.say(f"   -  {name}: cannot be done here")
            wait(at, soon(0.3))
            continue
        missed.pop(name, None)
        done.append(name)
        at.say(f"{len(done):4}  {name}: {told}")
        wait(at, soon(chance.uniform(0, options.gap)))
        wait(at, any_of(moved(at), soon(WORK_SECONDS)))
    return done


def moved(at: Place) -> Callable[[], bool]:
    """Whether any segment was done from now on."""
    before: list[int] = []

    def look() -> bool:
        try:
            done = at.progress()[0]
        except errors.VoicemillError:
            return False
        before.append(done)
        return done > before[0]

    return look


def any_of(*found: Callable[[], bool]) -> Callable[[], bool]:
    """Whether any of these is true."""
    return lambda: any(look() for look in found)


def soon(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def wait(at: Place, found: Callable[[], bool]) -> None:
    """Tend to the place until something is true; at least once."""
    deadline = time.monotonic() + PATIENCE
    while True:
        at.tend()
        at.feed()
        if found():
            return
        if time.monotonic() > deadline:
            at.find(f"nothing goes on for {PATIENCE:g} s\n{at.fleet.told()[-20_000:]}")
            raise SystemExit(report.findings(at))
        time.sleep(fleet.POLL)


def finish(at: Place, options: argparse.Namespace) -> None:
    """Let every corpus come to its end, undisturbed from now on."""
    at.settle()
    at.say("no more faults; waiting for every corpus to end")
    while sum(text.segments for text in at.texts) < options.segments:
        text = corpora.made(at.seed, len(at.texts))
        at.accept(at.fleet.database, text, at.spec)
        at.texts.append(text)
    last, since = None, time.monotonic()
    while True:
        at.tend()
        try:
            now = at.progress()
        except errors.VoicemillError as error:
            at.say(f"  {error}")
            continue
        if now != last:
            last, since = now, time.monotonic()
        if now[2] == 0:
            return
        if time.monotonic() - since > PATIENCE:
            at.find(f"no progress for {PATIENCE:g} s at {now}")
            return
        time.sleep(10 * fleet.POLL)


def keep(at: Place, folder: Path) -> None:
    """Keep what every process has said."""
    folder.mkdir(parents=True, exist_ok=True)
    for log in [*at.fleet.folder.glob("*.log"), at.engine_log]:
        (folder / log.name).write_bytes(log.read_bytes())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except servers.ServerMissingError as error:
        print(error)
        sys.exit(MISSING)
