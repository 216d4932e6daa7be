"""`voicemill list`: corpora, or the jobs of one."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import click
import sqlalchemy as sa

from cli import show
from cli.place import Place, pass_place
from storage import corpora, jobs, results, states

PAGE = 100  # corpora read at once


@click.command("list")
@click.argument("corpus", required=False)
@click.option(
    "--state", type=click.Choice([state.value for state in states.Job]), help="Only jobs in this state."
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Lines, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_place
def command(place: Place, corpus: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List the corpora, newest first, or the jobs of CORPUS; with --state and no CORPUS, the jobs of every one.

    \b
    Example:
      voicemill list sherlock --state failed
    """
    only = [states.Job(state)] if state else []
    with place.database().read() as connection:
        if corpus is not None:
            found = list(islice(_jobs(connection, corpora.find(connection, corpus), only), limit))
        elif state is not None:
            every = (corpora.find(connection, name) for name in _names(connection))
            found = list(islice((job for row in every for job in _jobs(connection, row, only)), limit))
        else:
            rows = [corpora.find(connection, name) for name in corpora.names(connection, limit=limit)]
            found = [results.corpus_summary(connection, row) for row in rows]
    if as_json:
        show.print_json(found)
    elif corpus is None and state is None:
        for summary in found:
            show.say(show.state_line(summary))
    else:
        lines = [
            (
                *(() if corpus else (job["corpus"],)),
                job["id"],
                job["state"],
                f"{job['segments_done']} of {job['segments']}",
                show.duration(job["seconds"]) if job["seconds"] else "",
                job["detail"] or "",
            )
            for job in found
        ]
        show.table((*(() if corpus else ("CORPUS",)), "JOB", "STATE", "SEGMENTS", "LENGTH", ""), lines)


def _names(connection: sa.Connection) -> Iterator[str]:
    """Every corpus, newest first."""
    for start in count(0, PAGE):
        names = corpora.names(connection, limit=PAGE, offset=start)
        yield from names
        if len(names) < PAGE:
            return


def _jobs(
    connection: sa.Connection, corpus: sa.Row[Any], only: Sequence[states.Job]
) -> Iterator[dict[str, Any]]:
    return (_job(corpus, row) for row in jobs.each(connection, corpus.id, only))


def _job(corpus: sa.Row[Any], row: sa.Row[Any]) -> dict[str, Any]:
    seconds = row.samples / row.sample_rate if row.samples else None
    return {
        "id": row.custom_id,
        "corpus": corpus.name,
        "state": row.state,
        "segments": row.segments_total,
        "segments_done": row.segments_done,
        "segments_failed": row.segments_failed,
        "seconds": seconds,
        "reason": row.reason,
        "detail": row.detail,
    }
