"""Finds what was lost: batches whose worker vanished, assemblies nobody goes on with.

It repairs, it never decides: whatever it returns to the queue goes the usual way again. It does not notice a worker
that hangs but keeps its lease alive; that is the worker's own watchdog's task.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from storage import batches, fleet, jobs, outbox, owners, reels, takes
from storage.database import Database

LOSSES_ALLOWED = 20
KEEP_BATCHES = 24 * 3600.0  # seconds that finished batches are remembered
KEEP_WORKERS = 3600.0  # seconds that vanished workers are remembered
KEEP_PARTIALS = 30 * 86_400.0  # seconds that somebody may take to go on with what was interrupted
KEEP_EVENTS = 30 * 86_400.0  # seconds that events are remembered once nothing is left to do for them


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found."""

    batches: int = 0  # lost with their worker
    segments: int = 0  # pending again
    assemblies: int = 0  # given back


def sweep(database: Database, losses_allowed: int = LOSSES_ALLOWED, keep_events: float = KEEP_EVENTS) -> Swept:
    """Return the work of expired leases, and of owners known to be gone, to the pending segments and rendered jobs.

    A segment that was lost so many times, at last alone in its batch, fails for good.
    """
    gone = gone_owners(database)

    def step(connection: sa.Connection) -> Swept:
        lost = batches.expired(connection, of_owners=gone)
        returned = 0
        failed: Counter[int] = Counter()
        for batch_id in lost:
            count, job_id = batches.lose(connection, batch_id, losses_allowed)
            returned += count
            if job_id is not None:
                failed[job_id] += 1
        jobs.count(connection, {}, failed)
        assemblies = jobs.release_of_owners(connection, gone)
        reels.release_of_owners(connection, gone)
        reels.prune(connection)
        batches.prune(connection, KEEP_BATCHES)
        fleet.prune(connection, KEEP_WORKERS)
        outbox.prune(connection, keep_events)
        takes.prune_partials(connection, KEEP_PARTIALS)
        return Swept(len(lost), returned, assemblies)

    return database.run(step)


def gone_owners(database: Database) -> Sequence[str]:
    """Lease owners on this machine whose process is gone: no need to wait for their leases to run out."""
    with database.read() as connection:
        holders = {*batches.owners(connection), *jobs.assemblers(connection), *reels.owners(connection)}
    return [owner for owner in sorted(holders) if owners.is_gone(owner)]
