"""Holds rows and objects against each other, both ways, and has made again what is gone.

It reads listings and rows and no object's content: an object of the right size with wrong bytes in it goes unnoticed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import sqlalchemy as sa

from scheduler.inventory import Fault, Inventory
from storage import errors, jobs, keys, lifecycle, referred
from storage.database import Database
from storage.objects.store import Store

log = logging.getLogger(__name__)

KEEP = 1000  # findings of a kind that are named; of more only the number is kept
DAY = 86_400.0  # seconds


class Finding(StrEnum):
    """What can be amiss."""

    MISSING = "missing"  # a row refers to an object that is not there
    WRONG_SIZE = "wrong_size"  # it is there, and is not as long as the row says
    ORPHANED = "orphaned"  # an object that no row refers to, older than the grace time


@dataclass(frozen=True, slots=True)
class Named:
    """One thing that is amiss."""

    finding: Finding
    key: str
    size: int | None  # bytes, of the object
    expected: int | None = None  # bytes, as the row says


@dataclass(slots=True)
class Verdict:
    """What a look at everything found."""

    objects: int = 0  # of ours
    counts: dict[Finding, int] = field(default_factory=lambda: dict.fromkeys(Finding, 0))
    named: list[Named] = field(default_factory=list)  # the first of each
    expired: int = 0  # takes that the bucket's rules have deleted: nothing is amiss with that
    young: int = 0  # objects whose row may still come
    strange: int = 0  # objects that are none of ours
    broken: list[int] = field(default_factory=list)  # finished jobs with an object missing or of a wrong size
    spoilt: list[str] = field(default_factory=list)  # objects of theirs that have a wrong size

    @property
    def is_well(self) -> bool:
        """Whether nothing is amiss."""
        return not any(self.counts.values())

    def note(self, named: Named) -> None:
        """Count one thing, and name it if there are not many of its kind yet."""
        self.counts[named.finding] += 1
        if self.counts[named.finding] <= KEEP:
            self.named.append(named)


def verify(database: Database, store: Store, grace: float) -> Verdict:
    """Look at every object and every row. `grace`: seconds for which an object may wait for its row."""
    verdict = Verdict()
    expiry = _expiry(store)
    with Inventory(database, store) as inventory:
        inventory.take()
        verdict.objects, verdict.strange = inventory.objects, inventory.strange
        verdict.young = inventory.young(grace)
        oldest = None if expiry is None else inventory.started - (expiry - 1) * DAY
        for fault in inventory.faults():
            _judge(verdict, fault, oldest)
        for orphan in inventory.orphans(grace):
            verdict.note(Named(Finding.ORPHANED, orphan.key, orphan.size))
    return verdict


def _judge(verdict: Verdict, fault: Fault, oldest: float | None) -> None:
    gone = fault.size is None
    if gone and oldest is not None and fault.since < oldest and keys.kind_of(fault.key) == keys.Kind.TAKES:
        verdict.expired += 1
        return
    finding = Finding.MISSING if gone else Finding.WRONG_SIZE
    verdict.note(Named(finding, fault.key, fault.size, fault.expected))
    if fault.job_id is not None:
        verdict.broken.append(fault.job_id)
        if not gone:
            verdict.spoilt.append(fault.key)


def _expiry(store: Store) -> int | None:
    """Days after which the bucket's rules delete takes, None where they do not or do not say."""
    try:
        return lifecycle.expires_after(store, keys.Kind.TAKES)
    except errors.StoreError as error:
        log.info("the lifecycle rules cannot be read: %s", error)
        return None


def mend(database: Database, store: Store, verdict: Verdict) -> int:
    """Have the audio of broken jobs assembled again: how many jobs. Takes mend themselves when they are needed."""
    store.delete(verdict.spoilt)
    return again(database, verdict.broken)


def again(database: Database, job_ids: Sequence[int]) -> int:
    """Have finished jobs, and those that share their objects, assembled once more: how many."""
    if not job_ids:
        return 0

    def step(connection: sa.Connection) -> int:
        found = referred.twins(connection, job_ids)
        referred.reopen(connection, found)
        return jobs.assemble_again(connection, found)

    return database.run(step)
