"""An embedded home works on one corpus at a time: the one that was asked for last, by one process at a time."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from storage import corpora, errors, jobs, states
from storage.database import Database

MARK = "at-work"  # a file in the home: who works there, as long as somebody holds its lock


class HomeBusyError(errors.InputError):
    """Another render is at work in {home} ({who}). Wait for it or stop it, or name another folder with -o or --home."""


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep other processes from rendering in a home until the block ends. Raises HomeBusyError where one is at it.

    The kernel takes the lock from a process that ends, however it does: a dead one never counts. It is a record lock,
    which children that outlive us do not inherit. Where the file system has no locks there is no such protection.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        mark = (home / MARK).open("a+b", buffering=0)
    except OSError:
        yield  # the database, which lies there too, has better words for what is wrong
        return
    with mark:
        try:
            fcntl.lockf(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                mark.seek(0)
                who = mark.read(200).decode(errors="replace") or "it has just begun"
                raise HomeBusyError(home=home, who=who) from error
        with suppress(OSError):
            mark.truncate(0)
            mark.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def make_way(database: Database, name: str, fingerprint: str) -> str | None:
    """Let a corpus take the name of an earlier one with other content, which is called otherwise from now on: how.

    Whoever changes a line and gives the same command again means the same corpus. None where nobody has that name.
    """

    def step(connection: sa.Connection) -> str | None:
        there = corpora.by_name(connection, name)
        if there is None or there.fingerprint == fingerprint:
            return None
        former = f"{name}-{there.fingerprint[:8]}"
        return former if corpora.rename(connection, there.id, former) else None

    return database.run(step)


def make_current(database: Database, corpus_id: int) -> int:
    """Cancel every other running corpus, and take this one up again if it was cancelled so: how many were cancelled.

    What they have finished is kept, takes above all, so going back to one of them costs only what it lacked.
    """

    def step(connection: sa.Connection) -> int:
        others = [row.id for row in corpora.running(connection) if row.id != corpus_id]
        for other in others:
            jobs.cancel(connection, other)
        row = connection.execute(corpora.by_id(corpus_id)).one()
        if row.state == states.Corpus.CANCELLED:
            jobs.retry(connection, corpus_id)
        return len(others)

    return database.run(step)
