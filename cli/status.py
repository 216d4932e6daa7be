"""`voicemill status`: how a corpus is doing."""

import sys

import click

from cli import show
from cli.exit_codes import ExitCode
from cli.place import Place, pass_place
from storage import results, states


@click.command("status")
@click.argument("corpus", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_place
def command(place: Place, corpus: str | None, as_json: bool) -> None:
    """Show how CORPUS is doing; the newest one where none is named. The beginning of its name is enough.

    Returns 1 where it has ended and some of its jobs failed.

    \b
    Example:
      voicemill status sherlock
    """
    with place.database().read() as connection:
        row = results.find(connection, corpus)
        summary = results.corpus_summary(connection, row)
    if as_json:
        show.print_json(summary)
    else:
        jobs, segments = summary["jobs"], summary["segments"]
        show.table(
            ("", ""),
            [
                ("Corpus", summary["name"]),
                ("State", summary["state"].replace("_", " ")),
                ("Engine", summary["engine"]),
                ("Priority", summary["priority"]),
                ("Source", summary["source"]),
                (
                    "Jobs",
                    ", ".join(
                        f"{count} {state}" for state, count in jobs.items() if count and state != "total"
                    ),
                ),
                (
                    "Segments",
                    f"{segments['done']:,} of {segments['total']:,} done, {segments['failed']} failed",
                ),
                ("Audio", f"{show.duration(summary['audio_seconds'])}, {show.size(summary['audio_bytes'])}"),
            ],
        )
    if summary["state"] == states.Corpus.COMPLETED_WITH_ERRORS:
        sys.exit(ExitCode.SOME_FAILED)
