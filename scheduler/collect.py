"""Removes objects that no row refers to.

What is younger than the grace time stays: a worker puts an object first and writes its row afterwards. Should a worker
come to need, in the very moment, what is being removed, the row is found by a second look and the job assembled again;
a take is rendered again when it is joined.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from scheduler import verify
from scheduler.inventory import Inventory, Orphan
from storage import errors, keys
from storage.database import Database
from storage.keys import Kind
from storage.objects.store import Store

LEAST_GRACE = 3600.0  # seconds: far more than lies between an object and its row
AT_ONCE = 1000  # objects removed by one request


class WrongDatabaseError(errors.InputError):
    """No row of the database {database} refers to anything in the store {store}, which holds {count} objects. Nothing was
    removed. Is it the right database?"""


@dataclass(slots=True)
class Heap:
    """The orphans of one kind."""

    objects: int = 0
    bytes: int = 0
    oldest: float = float("inf")  # seconds since 1970

    def add(self, orphan: Orphan) -> None:
        """Count one more."""
        self.objects += 1
        self.bytes += orphan.size
        self.oldest = min(self.oldest, orphan.modified)


@dataclass(slots=True)
class Collected:
    """What nobody refers to, and what came of it."""

    heaps: dict[Kind, Heap] = field(default_factory=dict)
    young: int = 0  # objects without a row that are too young to judge
    strange: int = 0  # objects that are none of ours: never touched
    removed: bool = False
    again: int = 0  # jobs that needed what was removed and are assembled again

    @property
    def objects(self) -> int:
        """All orphans."""
        return sum(heap.objects for heap in self.heaps.values())

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(heap.bytes for heap in self.heaps.values())


def collect(database: Database, store: Store, grace: float, *, remove: bool) -> Collected:
    """Find orphans older than so many seconds (an hour at least), and remove them where that is wanted.

    Raises WrongDatabaseError instead of emptying a store of which the database knows nothing.
    """
    grace = max(grace, LEAST_GRACE)
    with Inventory(database, store) as inventory:
        inventory.take()
        found = Collected(young=inventory.young(grace), strange=inventory.strange)
        for orphan in inventory.orphans(grace):
            kind = keys.kind_of(orphan.key)
            assert kind is not None
            found.heaps.setdefault(kind, Heap()).add(orphan)
        if not remove or not found.objects:
            return found
        if not inventory.matches():
            raise WrongDatabaseError(database=database.url, store=store.url, count=inventory.objects)
        inventory.look_again()
        for some in _chunks(inventory.orphans(grace)):
            store.delete(orphan.key for orphan in some)
            inventory.note_removed(some)
        inventory.look_again()
        found.removed = True
        found.again = verify.again(database, inventory.missed())
    return found


def _chunks(orphans: Iterator[Orphan]) -> Iterator[list[Orphan]]:
    while some := list(islice(orphans, AT_ONCE)):
        yield some
