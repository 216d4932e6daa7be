"""`voicemill render`: a corpus becomes audio in this process."""

import os
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import click

from cli import corpus_options, engines, show, work
from cli.exit_codes import ExitCode
from cli.place import DEFAULT_OUT, Place, pass_place
from scheduler import accept, fetch, heal, planner, supersede
from storage import corpora, results, settings, states
from storage.database import Database
from storage.objects.store import Store
from workers.engines.engine import EngineUnavailableError
from workers.webhooks import deliver
from workers.webhooks.settings import WebhookSettings


@click.command("render")
@corpus_options.corpus_options
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_OUT,
    show_default=True,
    help="Folder for the audio.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@pass_place
def command(
    place: Place, arguments: corpus_options.CorpusArguments, out: Path, as_json: bool, quiet: bool
) -> None:
    """Render SOURCEs to audio, all in this process.

    A SOURCE is a file (.txt .md .jsonl .csv .tsv .epub), a folder, a pattern, or - for standard input. Stop it with
    Ctrl-C and run it again: it goes on where it was. An output folder takes one render at a time; a second one is refused.

    \b
    Example:
      voicemill render book.epub --format m4b -o out/
    """
    if out.exists() and not out.is_dir():
        raise click.BadParameter(f"{out} is not a folder", param_hint="'-o'")
    spec = engines.choose(arguments.engine)
    arguments = corpus_options.on_this_machine(arguments, spec)
    unavailable = spec.unavailable()
    if unavailable is not None:
        raise EngineUnavailableError(engine=spec.name, reason=unavailable)
    place.beside(out)
    webhook = corpus_options.checked_webhook(arguments)
    with ExitStack() as stack:
        is_there = (
            place.storage.home.is_dir()
        )  # else nobody works in it, and bad input is to leave nothing behind
        if is_there:
            stack.enter_context(_alone(place))
        with corpus_options.read(arguments, spec) as staged:
            if not is_there:
                stack.enter_context(_alone(place))
            database, store = place.database(create=True), place.store()
            store.check()
            staged.put_covers(store)
            name = corpus_options.name_of(arguments, staged)
            if place.is_embedded:
                supersede.make_way(database, name, staged.fingerprint)
            accepted = accept.accept(
                database,
                staged,
                name=name,
                source=arguments.source,
                corpus_options=corpus_options.stored(arguments),
                priority=planner.priority_of(arguments.priority),
                webhook=webhook,
            )
        corpus_options.tell_secret(accepted)
        if place.is_embedded:
            supersede.make_current(database, accepted.id)
            if not accepted.created:
                heal.heal(database, store, accepted.id)
        going_on = not accepted.created
        code = work.work(place, database, store, spec, accepted.name, going_on=going_on, quiet=quiet)
        summary = _deliver(database, store, accepted, out, as_json=as_json)
        deliver.due(database, settings.load(WebhookSettings))
        database.close()
    if code == ExitCode.OK and summary["state"] != states.Corpus.COMPLETED:
        code = ExitCode.SOME_FAILED
    sys.exit(code)


def _alone(place: Place) -> AbstractContextManager[None]:
    """A home is worked in by one process at a time; of those that share a database, any number may."""
    return supersede.alone(place.storage.home) if place.is_embedded else nullcontext()


def _deliver(
    database: Database, store: Store, accepted: accept.Accepted, out: Path, *, as_json: bool
) -> dict[str, Any]:
    """Bring what is finished into the output folder and say what came of it."""
    with database.read() as connection:
        corpus = corpora.find(connection, accepted.name)
    fetched = fetch.fetch(database, store, corpus, out)
    with database.read() as connection:
        summary = results.corpus_summary(connection, corpus)
    if as_json:
        show.print_json(
            {**summary, "out": str(out), "files_written": fetched.files, "files_kept": fetched.kept}
        )
        return summary
    show.say(show.state_line(summary))
    if summary["state"] == states.Corpus.RUNNING:
        show.say("Stopped. Run the same command again to go on.")
    if fetched.errors:
        show.say(f"{fetched.errors} jobs have something to tell in {out / 'errors.jsonl'}")
    show.say(
        f"Listen: {out}{os.sep} ({fetched.files + fetched.kept} files, {show.size(summary['audio_bytes'])})"
    )
    return summary
