"""Fills batches from the pending segments.

Which segments come next is decided when they are inserted: each has a place (`rank`, `start_tag`), and planning reads
that index from its beginning, so it costs the same however deep the backlog is. The start tags are those of start-time
fair queueing (Goyal, Vin, Cheng 1996): a corpus' next segment starts where its last one ended or at the pool's virtual
time, whichever is later, so that corpora of equal priority share the workers evenly whatever their size.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from storage import batches, pools, segments, states
from storage.database import Database

FIRST_BATCH_TOKENS = 20_000  # about four minutes of speech: a pool that nobody measured yet starts small
SMALLEST_BATCH_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to plan, and for whom."""

    workers: int  # live workers of the pool
    batch_seconds: float = 60.0  # how long a worker should need for a batch
    batch_segments: int = 2048  # at most
    batches_ahead: int = 2  # per worker, the running one included
    linger_seconds: float = 5.0  # how long a part-full batch waits while every worker is busy


def plan(database: Database, pool: str, how: Plan) -> list[int]:
    """Plan just enough batches that every worker is busy and its next batch waits: their numbers.

    Safe to run twice at once: each planner locks what it takes and passes over what the other holds.
    """
    planned: list[int] = []
    while True:
        batch_id = database.run(lambda connection: plan_one(connection, pool, how))
        if batch_id is None:
            return planned
        planned.append(batch_id)


def plan_one(connection: sa.Connection, pool: str, how: Plan) -> int | None:
    """Plan one batch, if one is called for."""
    outstanding = batches.outstanding(connection, pool)
    if outstanding >= max(1, how.workers) * how.batches_ahead:
        return None
    budget = budget_of(connection, pool, how)
    found = segments.pending(connection, pool, how.batch_segments)
    chosen = take_up_to(found, budget)
    if not chosen:
        return None
    whole_backlog = len(chosen) == len(found) < how.batch_segments
    idle = how.workers - outstanding
    if whole_backlog and idle <= 0 and not _lingered(connection, pool, how):
        return None
    if whole_backlog and idle > 1:  # the last of the work: spread it, so that all workers end together
        chosen = take_up_to(chosen, _share(chosen, idle))
    priority = min(item.rank for item in chosen) // 2
    batch_id = batches.create(connection, pool, priority, chosen)
    _advance_clocks(connection, pool, chosen)
    return batch_id


def budget_of(connection: sa.Connection, pool: str, how: Plan) -> int:
    """Tokens of a batch: so many seconds of the pool's measured speed."""
    speed = pools.speed(connection, pool)
    if speed is None:
        return FIRST_BATCH_TOKENS
    return max(SMALLEST_BATCH_TOKENS, int(speed * how.batch_seconds))


def take_up_to(candidates: list[segments.Candidate], budget: int) -> list[segments.Candidate]:
    """The first candidates whose estimates fit the budget; always one, however large."""
    total = 0
    for count, item in enumerate(candidates):
        total += item.tokens_estimate
        if total > budget and count:
            return candidates[:count]
    return candidates


def _share(chosen: list[segments.Candidate], idle: int) -> int:
    tokens = sum(item.tokens_estimate for item in chosen)
    return max(SMALLEST_BATCH_TOKENS, -(-tokens // idle))


def _lingered(connection: sa.Connection, pool: str, how: Plan) -> bool:
    ago = batches.last_planned(connection, pool)
    return ago is None or ago >= how.linger_seconds


def _advance_clocks(connection: sa.Connection, pool: str, chosen: list[segments.Candidate]) -> None:
    latest: dict[int, int] = {}
    for item in chosen:
        priority = item.rank // 2
        latest[priority] = max(latest.get(priority, 0), item.start_tag)
    for priority, start_tag in sorted(latest.items()):
        pools.advance(connection, pool, priority, start_tag)


def priority_of(name: str | int) -> states.Priority:
    """A priority by its name (high, normal, low) or number. Raises ValueError with what is known."""
    if isinstance(name, str) and name.upper() in states.Priority.__members__:
        return states.Priority[name.upper()]
    if isinstance(name, int) and not isinstance(name, bool) and name in list(states.Priority):
        return states.Priority(name)
    raise ValueError(f"unknown priority {name!r}; known are high, normal and low")
