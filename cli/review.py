"""`voicemill review`: takes and files that failed a check, for a person to listen to."""

import json
from dataclasses import asdict
from pathlib import Path

import click
import sqlalchemy as sa

from cli import show
from cli.place import Place, pass_place
from scheduler import review as reviewing
from storage import jobs, results, review
from storage.database import Database
from storage.objects.store import Store


@click.command("review")
@click.argument("corpus", required=False)
@click.option(
    "--fetch",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the takes to this folder.",
)
@click.option(
    "--accept", "accepted", multiple=True, metavar="JOB[:SEGMENT]", help="This is fine; may be repeated."
)
@click.option("--accept-all", is_flag=True, help="All that is listed is fine.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=200,
    show_default=True,
    help="Takes, and files, at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_place
def command(
    place: Place,
    corpus: str | None,
    folder: Path | None,
    accepted: tuple[str, ...],
    accept_all: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List what needs a listen in CORPUS: the text, what speaks against its take, and where to listen to it; and the
    files that a publisher would not take.

    The newest corpus where none is named. The audio is delivered all the same. Where it is fine, say so with --accept:
    of JOB:SEGMENT that take, of JOB all its takes and its files. Where it is not, `voicemill redo` renders a sentence
    again, `voicemill retry` all of them.

    \b
    Example:
      voicemill review sherlock --fetch listen/
      voicemill review sherlock --accept chapter-07:12 --accept chapter-09
    """
    if accept_all and accepted:
        raise click.UsageError("--accept-all and --accept exclude each other")
    database, store = place.database(), place.store()
    with database.read() as connection:
        row = results.find(connection, corpus)
    if accept_all or accepted:
        _accept(database, row, accepted, as_json=as_json)
    else:
        _list(database, store, row, folder, limit, as_json=as_json)


def _accept(
    database: Database, corpus: sa.Row[tuple[object, ...]], named: tuple[str, ...], *, as_json: bool
) -> None:
    wanted = [_wanted(each) for each in named]
    with database.read() as connection:
        for each in wanted:
            if jobs.by_custom_id(connection, corpus.id, each.custom_id) is None:
                raise jobs.UnknownJobError(custom_id=each.custom_id, corpus=corpus.name)
    done = database.run(lambda connection: review.accept(connection, corpus, wanted))
    with database.read() as connection:
        left = review.count(connection, corpus.id)
        state = results.find(connection, corpus.name).state
    if as_json:
        told = {
            "accepted": done.segments,
            "accepted_files": done.files,
            "completed_jobs": done.jobs,
            "left": left,
        }
        show.print_json({"corpus": corpus.name, "state": state, **told})
        return
    rest = f"{left} left to listen to" if left else "nothing is left to listen to"
    show.say(f"{corpus.name}: {done.segments + done.files} accepted, {done.jobs} jobs completed; {rest}")


def _list(
    database: Database,
    store: Store,
    corpus: sa.Row[tuple[object, ...]],
    folder: Path | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    flags = reviewing.flags(database, store, corpus, limit)
    files = reviewing.files(database, store, corpus, limit)
    with database.read() as connection:
        total = review.count(connection, corpus.id)
    listed = [(flag, flag.path) for flag in flags]
    if folder is not None:
        listed = [(flag, str(path) if path else "") for flag, path in reviewing.fetch(store, flags, folder)]
    if as_json:
        takes = [{**asdict(flag), "path": path or None} for flag, path in listed]
        told = {"total": total, "takes": takes, "files": [asdict(file) for file in files]}
        show.print_json({"corpus": corpus.name, "state": corpus.state, **told})
        return
    if not flags and not files:
        show.say(f"{corpus.name}: nothing needs a listen")
        return
    for flag, path in listed:
        where = "" if flag.at_seconds is None else f", at {_clock(flag.at_seconds)} of its audio"
        show.say(f"{flag.job}:{flag.segment}  {flag.reason}: {flag.detail}{where}")
        show.say(f"    {json.dumps(flag.text, ensure_ascii=False)}")
        show.say(f"    {path or 'its take is not in the store any more: listen there'}")
    for file in files:
        show.say(f"{file.job}  {file.file}: {file.problem}")
        show.say(f"    {file.path}")
    shown = len(flags) + len(files)
    more = f" ({shown} are shown: --limit)" if total > shown else ""
    show.say(f"{corpus.name}: {total} to listen to{more}")


def _wanted(named: str) -> review.Wanted:
    custom_id, colon, number = named.rpartition(":")  # no id has a colon
    if not colon:
        return review.Wanted(named)
    if not number.isascii() or not number.isdigit():
        raise click.BadParameter(f"{named!r} is not JOB or JOB:SEGMENT", param_hint="'--accept'")
    return review.Wanted(custom_id, int(number))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
