"""Brings finished work out of an archive: asks for it, looks how far it is, tells when it is there.

What was asked for is written down before S3 is asked, so that whatever is lost in between is asked for again at the next
look.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import errors, prices, results, states, thaws
from storage.database import Database
from storage.objects.store import AgingStore, Standing, Store, Warmth
from storage.prices import Class

log = logging.getLogger(__name__)

THREADS = 16  # objects looked at or asked for at once
AT_ONCE = 500  # jobs that one look takes up
TIERS = ("expedited", "standard", "bulk")
TAKES_ABOUT = {  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
    (Class.FLEXIBLE, "expedited"): "1 to 5 minutes",
    (Class.FLEXIBLE, "standard"): "3 to 5 hours",
    (Class.FLEXIBLE, "bulk"): "5 to 12 hours",
    (Class.DEEP, "standard"): "12 hours",
    (Class.DEEP, "bulk"): "48 hours",
}

Row = sa.Row[Any]


class NoSuchTierError(errors.InputError):
    """The audio of {custom_id!r} lies in Glacier Deep Archive, which knows no expedited thaw. Take --tier standard, about
    12 hours, or bulk, about 48."""


@dataclass(frozen=True, slots=True)
class Job:
    """How a finished job's objects stand."""

    row: Row
    objects: dict[str, Standing | None]  # by key; None: it is not there

    @property
    def warmth(self) -> Warmth:
        """The coldest of them. What is not there is no matter of temperature."""
        found = {standing.warmth for standing in self.objects.values() if standing is not None}
        return next((warmth for warmth in (Warmth.FROZEN, Warmth.THAWING) if warmth in found), Warmth.READY)

    @property
    def until(self) -> float | None:
        """When the first of the thawed copies goes, in seconds since 1970; None where none was thawed."""
        ends = [
            one.until.timestamp() for one in self.objects.values() if one is not None and one.until is not None
        ]
        return min(ends, default=None)

    def keys(self, warmth: Warmth) -> list[str]:
        """Those of its objects that stand so."""
        return [
            key for key, standing in self.objects.items() if standing is not None and standing.warmth == warmth
        ]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for just now."""

    jobs: int = 0
    objects: int = 0
    bytes: int = 0
    cost: float | None = 0.0  # of the thaw and the readable copies; None: the price list does not say
    takes_about: str = ""


def look(store: Store, rows: Iterable[Row]) -> list[Job]:
    """How the objects of finished jobs stand. In a store without archives all can be read. Raises a StoreError."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="thaw") as pool:
        return list(pool.map(lambda row: Job(row, {key: _stands(store, key) for key in _keys(row)}), rows))


def _keys(row: Row) -> list[str]:
    return list(dict.fromkeys(results.objects(row).values()))


def _stands(store: Store, key: str) -> Standing | None:
    if isinstance(store, AgingStore):
        return store.standing(key)
    size = store.size(key)
    return None if size is None else Standing(size, "STANDARD", Warmth.READY)


def ask(
    database: Database, store: Store, jobs: Sequence[Job], tier: str, days: int, price_list: prices.Prices
) -> Asked:
    """Ask for what is frozen, and see to what was asked for before. Raises NoSuchTierError, then nothing was asked for.

    A job on its way that nobody has written down, because somebody else asked for it, is written down, too.
    """
    cold = [job for job in jobs if job.warmth != Warmth.READY]
    _check(cold, tier)
    frozen = [job for job in cold if job.warmth == Warmth.FROZEN]
    with database.write() as connection:
        thaws.ask(connection, [job.row.id for job in frozen], tier, days)
        thaws.ask(connection, [job.row.id for job in cold if job not in frozen], tier, days, anew=False)
    wanted = [key for job in frozen for key in job.keys(Warmth.FROZEN)]
    _restore(store, dict.fromkeys(wanted), tier, days)
    for job in jobs:
        if job.warmth == Warmth.READY:
            _arrive(database, job)
    return _asked(frozen, tier, days, price_list)


def _check(jobs: Sequence[Job], tier: str) -> None:
    deep = prices.S3_NAMES[Class.DEEP]
    for job in jobs:
        for key in job.keys(Warmth.FROZEN):
            standing = job.objects[key]
            if tier == "expedited" and standing is not None and standing.storage_class == deep:
                raise NoSuchTierError(custom_id=job.row.custom_id)


def _asked(jobs: Sequence[Job], tier: str, days: int, price_list: prices.Prices) -> Asked:
    found: dict[str, Standing] = {}
    for job in jobs:
        found |= {
            key: standing for key in job.keys(Warmth.FROZEN) if (standing := job.objects[key]) is not None
        }
    cost: float | None = 0.0
    slowest = ""
    for kept_as in (Class.FLEXIBLE, Class.DEEP):
        mine = [standing for standing in found.values() if prices.class_of(standing.storage_class) == kept_as]
        if mine:
            size = sum(standing.size for standing in mine)
            part = price_list.retrieve(size, len(mine), kept_as, tier)
            cost = None if part is None or cost is None else cost + part + price_list.thawed_copy(size, days)
            slowest = TAKES_ABOUT[kept_as, tier]
    return Asked(len(jobs), len(found), sum(standing.size for standing in found.values()), cost, slowest)


def _restore(store: Store, keys: Iterable[str], tier: str, days: int) -> None:
    assert isinstance(store, AgingStore) or not list(keys)
    if isinstance(store, AgingStore):
        restore: Callable[[str], None] = lambda key: store.restore(key, days=days, tier=tier.title())  # noqa: E731
        with ThreadPoolExecutor(THREADS, thread_name_prefix="thaw") as pool:
            list(pool.map(restore, keys))


def settle(database: Database, store: Store, poll_seconds: float) -> int:
    """Look at what is on its way and was not looked at for so long: how many jobs have arrived.

    What is frozen all the same is asked for again: the asking was lost, or a copy went before the last of the others came.
    """
    with database.read() as connection:
        if not thaws.any_pending(connection):
            return 0
    rows = database.run(lambda connection: thaws.take_up(connection, poll_seconds, AT_ONCE))
    finished = [row for row in rows if row.state in states.AUDIBLE_JOBS]
    _withdraw(database, [row.id for row in rows if row not in finished])
    arrived = 0
    for job in look(store, finished):
        if job.warmth == Warmth.READY:
            arrived += _arrive(database, job)
            continue
        try:
            _restore(store, job.keys(Warmth.FROZEN), job.row.tier, job.row.days)
        except errors.StoreError as error:
            log.warning("cannot thaw %s: %s", job.row.custom_id, error)
    return arrived


def _arrive(database: Database, job: Job) -> bool:
    return database.run(lambda connection: thaws.arrive(connection, job.row.id, job.until))


def _withdraw(database: Database, job_ids: Sequence[int]) -> None:
    if job_ids:
        with database.write() as connection:
            for job_id in job_ids:
                thaws.withdraw(connection, job_id)
