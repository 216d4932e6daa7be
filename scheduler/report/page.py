"""The page itself: one file, no script, no network."""

import importlib.util
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

import sqlalchemy as sa

from scheduler import review
from scheduler.fetch import OutputError
from scheduler.report import facts as reporting
from storage import errors, results
from storage.database import Database, now
from storage.objects.store import Store

LIBRARIES = ("jinja2", "matplotlib")
LISTED = 500  # takes that need a listen, with or without their sound


class ReportExtraMissingError(errors.InputError):
    """A report needs {missing}, not installed here: pip install 'voicemill[report]'."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a report came to."""

    facts: reporting.Facts
    size: int  # bytes
    flags: int
    players: int


def write(
    database: Database,
    store: Store,
    name: str | None,
    path: Path,
    *,
    price_per_hour: float | None,
    most_players: int,
    most_bytes: int,
) -> Written:
    """Write a corpus' report, whole or not at all. Raises ReportExtraMissingError, OutputError."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ReportExtraMissingError(missing=" and ".join(missing))
    from scheduler.report import sound

    with database.read() as connection:
        corpus = results.find(connection, name)
        as_of = connection.execute(sa.select(now())).scalar_one()
        facts = reporting.gather(connection, corpus, as_of=as_of, price_per_hour=price_per_hour)
    flags = review.flags(database, store, corpus, LISTED)
    players = list(sound.players(store, flags, most=most_players, most_bytes=most_bytes))
    text = render(facts, players)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(path=path, reason=error.strerror or error) from error
    heard = sum(player.audio is not None for player in players)
    return Written(facts, len(text.encode()), sum(facts.flags.values()), heard)


def render(facts: reporting.Facts, players: Sequence[object]) -> str:
    """The page as text. Whatever comes from a corpus is escaped; the charts are ours and hold no text of its."""
    import jinja2
    from markupsafe import Markup

    from scheduler.report import charts

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "moment": moment,
        "clock": clock,
        "words": lambda state: str(state).replace("_", " "),
        "number": lambda value: f"{value:,}",
        "quote": lambda value: shlex.quote(str(value)),
    }
    drawn = {"progress": charts.progress(facts), "lengths": charts.lengths(facts.points)}
    return environment.get_template("report.html.jinja").render(
        facts=facts,
        summary=facts.summary,
        players=players,
        charts={kind: svg and Markup(svg) for kind, svg in drawn.items()},  # noqa: S704 - ours
        version=metadata.version("voicemill"),
    )


def duration(seconds: float) -> str:
    """A length of time as people say it: `1 h 04 min`, `3 min 20 s`, `1.2 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.1f} s"


def moment(at: float) -> str:
    """A time of this machine's zone: `3 March 2027, 14:05 CET`."""
    local = datetime.fromtimestamp(at).astimezone()
    return f"{local.day} {local:%B %Y, %H:%M %Z}"


def clock(seconds: float) -> str:
    """Where something is in a recording: `1:02:03`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
