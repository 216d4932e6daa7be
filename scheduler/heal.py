"""Finds finished audio that is not in the store any more, and has it made again.

A power cut can take files whose rows survived; so can a person who tidies up. Takes are looked at when they are joined
(`workers.assemble`), which is why this looks at finished jobs only.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from storage import corpora, jobs, results, states
from storage.database import Database
from storage.objects.store import Store


def heal(database: Database, store: Store, corpus_id: int) -> int:
    """Take jobs up again whose audio is missing or of another size than it should be: how many."""
    with database.read() as connection:
        lost = list(_lost(connection, store, corpus_id))
    if not lost:
        return 0

    def step(connection: sa.Connection) -> int:
        corpora.move(connection, corpus_id, states.Corpus.RUNNING)
        return jobs.assemble_again(connection, lost)

    return database.run(step)


def _lost(connection: sa.Connection, store: Store, corpus_id: int) -> Iterator[int]:
    for job in jobs.each(connection, corpus_id, states.AUDIBLE_JOBS):
        found = {key: store.size(key) for key in results.sizes(job)}
        lost = [key for key, size in results.sizes(job).items() if found[key] != size]
        if lost:
            store.delete([key for key in lost if found[key] is not None])
            yield job.id
