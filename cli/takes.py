"""`voicemill takes`: what was rendered, segment by segment."""

from pathlib import Path

import click

from cli import show
from cli.place import Place, pass_place
from storage import errors, jobs, keys, results, segments


class NoCodesError(errors.InputError):
    """The job {custom_id!r} has no codec tokens: its engine, {engine}, makes none."""


class NoTakesError(errors.InputError):
    """The job {custom_id!r} has no takes yet."""


@click.group("takes")
def command() -> None:
    """Get at the takes of a job: one rendering of each segment.

    \b
    Example:
      voicemill takes export chapter-01 --codes -o takes/
    """


@command.command("export")
@click.argument("job")
@click.option("--corpus", help="The job's corpus; the newest where none is named.")
@click.option("--codes", is_flag=True, help="Codec tokens too: .npy, int16, shape [frames, 7].")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("takes"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@pass_place
def export(place: Place, job: str, corpus: str | None, codes: bool, out: Path, as_json: bool) -> None:
    """Write JOB's takes into a folder, one file a segment: JOB-0000.wav, JOB-0000.npy, ...

    The tokens are Maya1's own, frame by frame: slot 0 is SNAC's first level, slots 1 and 4 its second, slots 2, 3, 5
    and 6 its third.

    \b
    Example:
      voicemill takes export chapter-01 --codes -o takes/
    """
    database, store = place.database(), place.store()
    with database.read() as connection:
        row = results.find(connection, corpus)
        found = jobs.by_custom_id(connection, row.id, job)
        if found is None:
            raise jobs.UnknownJobError(custom_id=job, corpus=row.name)
        parts = segments.parts(connection, found.id)
    if not parts:
        raise NoTakesError(custom_id=job)
    if codes and store.size(keys.codes(parts[0].take_key)) is None:
        raise NoCodesError(custom_id=job, engine=row.engine)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for part in parts:
        name = f"{job}-{part.position:04}"
        store.download(keys.take(part.take_key), out / f"{name}.wav")
        files = [f"{name}.wav"]
        if codes:
            store.download(keys.codes(part.take_key), out / f"{name}.npy")
            files.append(f"{name}.npy")
        written.append({"segment": part.position, "text": part.text, "take": part.take_key, "files": files})
    if as_json:
        show.print_json(written)
    else:
        show.say(f"{len(written)} takes written to {out}")
