"""Who is rung for what, and when again: the scheduler's side of the doorbell."""

from collections import defaultdict
from collections.abc import Sequence

from celery import Celery

from scheduler import planner
from scheduler.settings import SchedulerSettings
from storage import batches, deliveries, fleet, jobs, segments, settings
from storage.database import Database
from workers import bell, broker
from workers.engines import registry
from workers.engines.engine import EngineSpec

ALIVE_SECONDS = 20.0  # a worker that was not seen for so long does not count
SNAC_TOKEN_RATE = 82.03125  # tokens a second of speech, for engines that are not installed here


def plan_of(database: Database, pool: str) -> planner.Plan:
    """How much to plan for a pool, from the workers alive and the settings."""
    mine = settings.load(SchedulerSettings)
    with database.read() as connection:
        workers = fleet.alive(connection, pool, ALIVE_SECONDS)
    return planner.Plan(
        workers=max(1, workers),  # with none alive a little work waits for the first
        batch_seconds=mine.batch_seconds,
        batch_segments=mine.batch_segments,
        batches_ahead=mine.batches_ahead,
        linger_seconds=mine.linger_seconds,
    )


def pools_with_work(database: Database) -> list[str]:
    """Pools that have pending segments."""
    with database.read() as connection:
        known = {spec.pool for spec in registry.specs().values()}
        return sorted(pool for pool in known if segments.any_pending(connection, pool))


def ring_for_batches(app: Celery, database: Database, batch_ids: Sequence[int]) -> int:
    """Ring for batches that are committed, and note it: how many. A broker that is away leaves them to the sweep."""
    if not batch_ids:
        return 0
    with database.read() as connection:
        rows = batches.described(connection, batch_ids)
    rung = []
    for row in rows:
        if not bell.render(app, row.id, row.pool, told(row.pool, row.segments_total, row.tokens_estimate)):
            break  # the broker is away: each further try would wait as long
        rung.append(row.id)
    if rung:
        with database.write() as connection:
            batches.published(connection, rung)
    return len(rung)


def ring_again(app: Celery, database: Database) -> int:
    """Ring for batches that nobody came for, and for jobs that nobody assembles: how many rings.

    Only for what no message waits for: whoever takes one of a queue finds everything, and while nobody does, more of them
    would only pile up.
    """
    patience = settings.load(SchedulerSettings).ring_again_seconds
    unheard: defaultdict[str, list[int]] = defaultdict(list)
    with database.read() as connection:
        for row in batches.unpublished(connection, patience):
            unheard[row.pool].append(row.id)
        ready = jobs.to_assemble(connection)
        due = deliveries.is_due(connection)
    rung = 0
    for pool, batch_ids in unheard.items():
        there = bell.waiting(app, broker.render_queue(pool))
        if there is not None:
            rung += ring_for_batches(app, database, batch_ids[there:])
    if ready and bell.waiting(app, broker.ASSEMBLE) == 0:
        rung += bell.assemble(app, len(ready))
    if due and bell.waiting(app, broker.DELIVER) == 0:
        rung += bell.deliver(app)
    return rung


def told(pool: str, segment_count: int, tokens: int) -> str:
    """A batch in words: `512 segments, 1.7 h of speech`."""
    spec: EngineSpec | None = next((spec for spec in registry.specs().values() if spec.pool == pool), None)
    seconds = tokens / (spec.token_rate if spec else SNAC_TOKEN_RATE)
    if seconds >= 3600:
        length = f"{seconds / 3600:.1f} h"
    else:
        length = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    return f"{segment_count} {'segment' if segment_count == 1 else 'segments'}, {length} of speech"
