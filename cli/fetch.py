"""`voicemill fetch`: finished work comes into a folder."""

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from cli import show
from cli.exit_codes import ExitCode
from cli.place import Place, pass_place
from scheduler import fetch, remake
from storage import results, states
from workers.engines import codes

NAMED = 3  # jobs that a message names


@click.command("fetch")
@click.argument("corpus", required=False)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files."
)
@click.option("--only", metavar="PATTERN", help="Only jobs whose id fits, such as 'chapter-0*'.")
@click.option(
    "--from-codes",
    is_flag=True,
    help="Make audio that lies in an archive again from its takes and codes, without waiting.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@pass_place
def command(
    place: Place, corpus: str | None, out: Path, only: str | None, from_codes: bool, as_json: bool
) -> None:
    """Bring CORPUS' audio, captions, results.jsonl and errors.jsonl into a folder; the newest corpus where none is named.

    What is there already and the same is left alone, so it can be run again while work goes on.

    \b
    Example:
      voicemill fetch sherlock -o audio/
    """
    database = place.database()
    with database.read() as connection:
        row = results.find(connection, corpus)
    pick = None if only is None else lambda custom_id: fnmatchcase(custom_id, only)
    store = place.store()
    remade: list[remake.Remade] = []
    maker = remake.Remaker(database, store, place.scratch())

    def make(job: sa.Row[Any], folder: Path) -> bool:
        try:
            remade.append(maker.remake(job, folder))
        except (codes.OtherCodecError, remake.CannotRemakeError) as error:
            show.error(str(error))
            return False
        return True

    fetched = fetch.fetch(database, store, row, out, only=pick, remake=make if from_codes else None)
    if as_json:
        show.print_json(
            {
                "corpus": row.name,
                "state": row.state,
                "files_written": fetched.files,
                "files_kept": fetched.kept,
                "results": fetched.results,
                "errors": fetched.errors,
                "frozen": list(fetched.frozen),
                "remade": len(remade),
                "takes_from_codes": sum(one.takes for one in remade),
                "differing": [name for one in remade for name in one.differing],
            }
        )
    else:
        kept = f", {fetched.kept} were there" if fetched.kept else ""
        show.say(
            f"{row.name}: {fetched.files} files written to {out}{kept}; {fetched.results} results, {fetched.errors} errors"
        )
    if remade and not as_json:
        show.say(_remade(remade))
    if fetched.frozen:
        show.error(_frozen(fetched.frozen, row.name))
    if fetched.frozen or row.state == states.Corpus.COMPLETED_WITH_ERRORS:
        sys.exit(ExitCode.SOME_FAILED)


def _frozen(custom_ids: Sequence[str], corpus: str) -> str:
    """What to do about jobs that lie in an archive, in one line."""
    named = ", ".join(custom_ids[:NAMED]) + (
        f" and {len(custom_ids) - NAMED} more" if len(custom_ids) > NAMED else ""
    )
    lie = "job lies" if len(custom_ids) == 1 else "jobs lie"
    return (
        f"{len(custom_ids)} {lie} in an archive ({named}). `voicemill thaw {corpus}` asks for what is there; "
        "`voicemill fetch --from-codes` makes it again here and now."
    )


def _remade(remade: Sequence[remake.Remade]) -> str:
    """What was made again, in one line."""
    takes = sum(one.takes for one in remade)
    differing = [name for one in remade for name in one.differing]
    told = f"made again: {len(remade)} {'job' if len(remade) == 1 else 'jobs'}, with {takes:,} takes from codes"
    if differing:
        named = ", ".join(differing[:NAMED])
        return (
            f"{told}; equal to the ear and not to the byte: {named}{', ...' if len(differing) > NAMED else ''}"
        )
    return f"{told}; every file is the same to the byte"
