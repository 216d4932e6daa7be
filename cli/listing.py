"""`voicemill list`: corpora, or the jobs of one."""

from itertools import islice
from typing import Any

import click
import sqlalchemy as sa

from cli import show
from cli.place import Place, pass_place
from storage import corpora, jobs, results, states


@click.command("list")
@click.argument("corpus", required=False)
@click.option(
    "--state", type=click.Choice([state.value for state in states.Job]), help="Only jobs in this state."
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Lines, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_place
def command(place: Place, corpus: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List the corpora, newest first, or the jobs of CORPUS.

    \b
    Example:
      voicemill list sherlock --state failed
    """
    with place.database().read() as connection:
        if corpus is None:
            rows = [corpora.find(connection, name) for name in corpora.names(connection, limit=limit)]
            found = [results.corpus_summary(connection, row) for row in rows]
        else:
            row = corpora.find(connection, corpus)
            only = [states.Job(state)] if state else []
            found = [_job(job) for job in islice(jobs.each(connection, row.id, only), limit)]
    if as_json:
        show.print_json(found)
    elif corpus is None:
        for summary in found:
            show.out.print(show.state_line(summary))
    else:
        lines = [
            (
                job["id"],
                job["state"],
                f"{job['segments_done']} of {job['segments']}",
                show.duration(job["seconds"]) if job["seconds"] else "",
                job["detail"] or "",
            )
            for job in found
        ]
        show.table(("JOB", "STATE", "SEGMENTS", "LENGTH", ""), lines)


def _job(row: sa.Row[Any]) -> dict[str, object]:
    seconds = row.samples / row.sample_rate if row.samples else None
    return {
        "id": row.custom_id,
        "state": row.state,
        "segments": row.segments_total,
        "segments_done": row.segments_done,
        "segments_failed": row.segments_failed,
        "seconds": seconds,
        "reason": row.reason,
        "detail": row.detail,
    }
