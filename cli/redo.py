"""`voicemill redo`: one sentence is rendered again."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from cli import ring, show, work
from cli.exit_codes import ExitCode
from cli.place import HIDDEN, Place, pass_place
from scheduler import fetch
from scheduler import redo as redoing
from storage import jobs, results, settings, states
from workers.engines import registry
from workers.engines.engine import EngineUnavailableError
from workers.webhooks import deliver
from workers.webhooks.settings import WebhookSettings


@click.command("redo")
@click.argument("job")
@click.option("--corpus", help="The job's corpus; the newest where none is named.")
@click.option(
    "--segment",
    "position",
    type=click.IntRange(min=0),
    required=True,
    help="Its number, from 0, as `review` says.",
)
@click.option(
    "--seed", type=click.IntRange(0, redoing.MAX_SEED), help="The seed; another one where none is named."
)
@click.option("--text", help="Other words, and from now on the segment's own.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the audio; where the home lies, if it is embedded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@pass_place
def command(
    place: Place,
    job: str,
    corpus: str | None,
    position: int,
    seed: int | None,
    text: str | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Render one segment of JOB again, and join the job's audio anew. Every other take stays as it is.

    In an embedded home the work is done at once. With workers it is queued ahead of fresh work.

    \b
    Example:
      voicemill redo chapter-07 --segment 12
      voicemill redo chapter-07 --segment 12 --text "She read the letter, and read it again."
    """
    if not place.is_embedded:
        ring.check()
    database, store = place.database(), place.store()
    with database.read() as connection:
        row = results.find(connection, corpus)
    spec = registry.spec(row.engine)
    unavailable = spec.unavailable() if place.is_embedded else None
    if unavailable is not None:
        raise EngineUnavailableError(engine=spec.name, reason=unavailable)
    redone = None
    if place.is_embedded:  # where it was stopped, it goes on
        redone = redoing.under_way(database, spec, row, job, position, text=text, seed=seed)
    if redone is None:
        redone = redoing.redo(database, spec, row, job, position, text=text, seed=seed)
    told = {"corpus": row.name, **asdict(redone)}
    if not place.is_embedded:
        ring.plan(redone.pool)
        if as_json:
            show.print_json({**told, "state": "pending", "audio": None})
        else:
            show.say(f"{job}:{position} is rendered again; `voicemill watch {row.name}` shows how far it is.")
        return
    code = work.work(place, database, store, spec, row.name, going_on=False, quiet=quiet)
    folder = out or (place.storage.home.parent if place.storage.home.name == HIDDEN else None)
    with database.read() as connection:
        row = results.find(connection, row.name)
        found = jobs.by_custom_id(connection, row.id, job)
    assert found is not None
    if folder is not None:
        fetch.fetch(database, store, row, folder, only=lambda custom_id: custom_id == job)
    deliver.due(database, settings.load(WebhookSettings))
    database.close()
    heard = found.state in states.AUDIBLE_JOBS
    audio = str(folder / results.audio_name(found)) if heard and folder is not None else None
    if as_json:
        show.print_json({**told, "state": found.state, "detail": found.detail, "audio": audio})
    else:
        end = f": {found.detail}" if found.detail else ""
        if code == ExitCode.INTERRUPTED:
            show.say("Stopped. Run the same command again to go on.")
            sys.exit(code)
        show.say(f"{job}:{position} was rendered again; the job is {found.state.replace('_', ' ')}{end}")
        if audio:
            show.say(f"Listen: {audio}")
    if code == ExitCode.OK and found.state != states.Job.COMPLETED:
        code = ExitCode.SOME_FAILED
    sys.exit(code)
