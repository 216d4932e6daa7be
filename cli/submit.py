"""`voicemill submit`: a corpus goes to the workers."""

from typing import Any

import click
import sqlalchemy as sa

from cli import corpus_options, engines, ring, show, watch
from cli.place import Place, pass_place
from scheduler import accept, planner
from storage import corpora, states


@click.command("submit")
@corpus_options.corpus_options
@click.option("--wait", is_flag=True, help="Return when the corpus has ended.")
@click.option("--watch", "watching", is_flag=True, help="Show progress until the corpus has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print what was accepted as JSON.")
@pass_place
def command(
    place: Place, arguments: corpus_options.CorpusArguments, wait: bool, watching: bool, as_json: bool
) -> None:
    """Submit SOURCEs to the workers and return the corpus' name.

    The whole corpus is checked first; nothing is accepted unless all of it is. Submitting the same twice is submitting
    it once. A broker that is away does not matter: work begins when it is back.

    \b
    Example:
      voicemill submit corpus.jsonl --voice storyteller --watch
    """
    place.need_server("submit")
    ring.check()
    spec = engines.choose(arguments.engine)
    database = place.database()
    place.store().check()
    webhook = corpus_options.checked_webhook(arguments)
    with corpus_options.read(arguments, spec) as staged:
        staged.put_covers(place.store())
        accepted = accept.accept(
            database,
            staged,
            name=corpus_options.name_of(arguments, staged),
            source=arguments.source,
            corpus_options=corpus_options.stored(arguments),
            priority=planner.priority_of(arguments.priority),
            webhook=webhook,
        )
        totals = staged.totals
    corpus_options.tell_secret(accepted)
    with database.read() as connection:
        corpus = corpora.find(connection, accepted.name)
    if corpus.state == states.Corpus.RUNNING:
        ring.plan(spec.pool)
    if as_json and not (wait or watching):
        show.print_json(
            {
                "corpus": accepted.name,
                "created": accepted.created,
                "state": corpus.state,
                "jobs": totals.jobs,
                "segments": totals.segments,
            }
        )
        return
    if not as_json:
        told = f"{totals.jobs:,} jobs, {totals.segments:,} segments"
        show.say(f"{accepted.name}: {told if accepted.created else _known(corpus)}")
    if wait or watching:
        watch.until_ended(database, corpus, quiet=not watching, as_json=as_json)


def _known(corpus: sa.Row[Any]) -> str:
    """What to say of a corpus that was submitted before: submitting it again does not take up what has ended."""
    told = f"was accepted before and is {corpus.state.replace('_', ' ')}"
    if corpus.state in (states.Corpus.CANCELLED, states.Corpus.COMPLETED_WITH_ERRORS):
        return f"{told}; `voicemill retry {corpus.name}` takes it up again"
    return told
