"""`voicemill estimate`: what a corpus will take, before any work."""

from dataclasses import asdict

import click

from cli import corpus_options, engines, show
from cli.place import Place, pass_place
from scheduler import estimate
from scheduler.settings import SchedulerSettings
from storage import errors, pools, settings
from workers.engines import speeds


@click.command("estimate")
@corpus_options.corpus_options
@click.option(
    "--price", type=click.FloatRange(min=0), help="What an hour of one worker costs, in your currency."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_place
def command(
    place: Place, arguments: corpus_options.CorpusArguments, price: float | None, as_json: bool
) -> None:
    """Tell segments, audio length, time and cost of SOURCEs, without rendering anything.

    \b
    Example:
      voicemill estimate corpus.jsonl --engine maya1 --price 2.50
    """
    spec = engines.choose(arguments.engine)
    arguments = corpus_options.on_this_machine(arguments, spec)
    price = settings.load(SchedulerSettings).price_per_hour if price is None else price
    with corpus_options.read(arguments, spec) as staged:
        totals = staged.totals
        speed, measured = _speed(place, spec.pool)
        found = estimate.estimate(
            jobs=totals.jobs,
            segments=totals.segments,
            characters=totals.characters,
            token_count=totals.tokens,
            pause_ms=totals.pause_ms,
            spec=spec,
            speed=speed,
            price_per_hour=price,
        )
    if as_json:
        show.print_json({**asdict(found), "engine": spec.name, "speed_measured_here": measured})
        return
    pace = "as measured here" if measured else "a guess until this machine has rendered something"
    rows = [
        ("Jobs", f"{found.jobs:,}"),
        ("Segments", f"{found.segments:,}"),
        ("Characters", f"{found.characters:,}"),
        ("Audio", show.duration(found.audio_seconds)),
        (f"Time on one worker ({pace})", show.duration(found.render_seconds)),
        ("Cost", f"{found.cost:.2f}" if found.cost is not None else "set --price to know"),
    ]
    show.table(("", ""), rows)


def _speed(place: Place, pool: str) -> tuple[float | None, bool]:
    """Tokens a second of one worker, and whether they were measured here."""
    try:
        with place.database().read() as connection:
            measured = pools.speed(connection, pool)
    except errors.VoicemillError:
        measured = None
    return (measured, True) if measured is not None else (speeds.TYPICAL.get(pool), False)
