"""`voicemill rejected`: producers' messages that could not be accepted."""

import click

from cli import show
from cli.place import Place, pass_place
from storage import rejections


@click.command("rejected")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Messages, at most."
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, with the beginning of each message.")
@pass_place
def command(place: Place, limit: int, as_json: bool) -> None:
    """List messages on the queue `submit` that could not be accepted, newest first, and why.

    \b
    Example:
      voicemill rejected --json
    """
    with place.database().read() as connection:
        total, kept = rejections.total(connection), rejections.kept(connection)
        rows = rejections.newest(connection, limit)
    if as_json:
        show.print_json({"total": total, "kept": kept, "messages": [dict(row._mapping) for row in rows]})
        return
    show.table(("NUMBER", "CORPUS", "REASON"), [(row.id, row.corpus or "", row.reason) for row in rows])
    if not total:
        show.say("No message was rejected.")
        return
    told = "1 message was rejected" if total == 1 else f"{total} messages were rejected"
    show.say(told if kept == total else f"{told}; the last {kept} are kept")
