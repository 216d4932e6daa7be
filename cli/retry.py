"""`voicemill retry`: failed and cancelled work is taken up again."""

import click

from cli import show
from cli.place import Place, pass_place
from storage import jobs, results


@click.command("retry")
@click.argument("corpus", required=False)
@click.option("--job", "custom_ids", multiple=True, metavar="ID", help="Only this job; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@pass_place
def command(place: Place, corpus: str | None, custom_ids: tuple[str, ...], as_json: bool) -> None:
    """Give what failed, was cancelled or needs a listen in CORPUS fresh attempts; the newest corpus where none is named.

    What is done stays done. In an embedded home, run `voicemill render` again afterwards to do the work.

    \b
    Example:
      voicemill retry sherlock --job chapter-07
    """
    database = place.database()
    with database.read() as connection:
        row = results.find(connection, corpus)
        for custom_id in custom_ids:
            if jobs.by_custom_id(connection, row.id, custom_id) is None:
                raise jobs.UnknownJobError(custom_id=custom_id, corpus=row.name)
    job_count, segment_count = database.run(lambda connection: jobs.retry(connection, row.id, custom_ids))
    if as_json:
        show.print_json({"corpus": row.name, "jobs": job_count, "segments": segment_count})
    else:
        with database.read() as connection:
            reopened = results.find(connection, row.name).state != row.state
        show.say(f"{row.name}: {_told(job_count, segment_count, reopened)}")


def _told(job_count: int, segment_count: int, reopened: bool) -> str:
    if job_count:
        jobs_told = (
            f"{job_count} job{'s' * (job_count != 1)} with {segment_count} segment{'s' * (segment_count != 1)}"
        )
        return f"{jobs_told} {'is' if job_count == 1 else 'are'} taken up again"
    if reopened:
        return "it is no longer cancelled, and all that it has so far is done"
    return "nothing of it failed, was cancelled or needs a listen"
