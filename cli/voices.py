"""`voicemill voices`: the voices that `--voice` knows."""

from dataclasses import asdict
from pathlib import Path

import click

from cli import show
from storage import settings
from workers import voices
from workers.settings import WorkerSettings


@click.command("voices")
@click.option(
    "--voices",
    "voices_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file with voices of your own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def command(voices_file: Path | None, as_json: bool) -> None:
    """List the voices. A description in place works too: --voice "Female voice in her 40s, warm and slow."

    \b
    Example:
      voicemill voices --voices my-voices.toml
    """
    table = voices.load(voices_file or settings.load(WorkerSettings).voices)
    if as_json:
        show.print_json([asdict(voice) for voice in table.values()])
    else:
        show.table(
            ("VOICE", "ESPEAK", "DESCRIPTION"),
            [(v.name, v.espeak or "", v.description) for v in table.values()],
        )
