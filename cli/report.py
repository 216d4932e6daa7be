"""`voicemill report`: a corpus on one page."""

from pathlib import Path

import click

from cli import show
from cli.place import Place, pass_place
from scheduler.report import page
from scheduler.settings import SchedulerSettings
from storage import settings


@click.command("report")
@click.argument("corpus", required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The file.",
)
@click.option(
    "--price", type=click.FloatRange(min=0), help="What an hour of one worker costs, in your currency."
)
@click.option(
    "--players",
    type=click.IntRange(0, 500),
    default=50,
    show_default=True,
    help="Takes with their sound, at most.",
)
@click.option(
    "--player-mb",
    type=click.FloatRange(0, 500),
    default=12.0,
    show_default=True,
    help="Their size in all, at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what it tells as JSON, too.")
@pass_place
def command(
    place: Place,
    corpus: str | None,
    out: Path,
    price: float | None,
    players: int,
    player_mb: float,
    as_json: bool,
) -> None:
    """Put CORPUS on one page, to be opened in a browser or sent to somebody; the newest corpus where none is named.

    Progress by hour, audio, speed, retries, cost, and the takes that need a listen with players beside their text. The
    page is complete in itself: no network, no script.

    \b
    Example:
      voicemill report sherlock -o report.html --price 2.50
    """
    price = settings.load(SchedulerSettings).price_per_hour if price is None else price
    written = page.write(
        place.database(),
        place.store(),
        corpus,
        out,
        price_per_hour=price,
        most_players=players,
        most_bytes=int(player_mb * 1e6),
    )
    facts = written.facts
    if as_json:
        show.print_json(
            {
                **facts.summary,
                "report": str(out),
                "worker_seconds": round(facts.worker_seconds, 3),
                "real_time": facts.real_time and round(facts.real_time, 2),
                "retries": facts.retries,
                "retried_segments": facts.retried_segments,
                "interruptions": facts.interruptions,
                "redone": facts.redone,
                "to_listen_to": dict(facts.flags),
                "cost": facts.cost,
                "cost_per_audio_hour": facts.cost_per_audio_hour,
            }
        )
        return
    listen = f", {written.flags} takes to listen to ({written.players} with sound)" if written.flags else ""
    show.say(f"{facts.summary['name']}: {out} ({show.size(written.size)}){listen}")
