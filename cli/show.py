"""How things are shown to a person: numbers, tables, one-line errors; and to a program, as JSON."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def say(message: str) -> None:
    """A line of the answer on standard output."""
    click.echo(message)


def error(message: str) -> None:
    """One line on standard error."""
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {' '.join(message.split())}", err=True)


def note(message: str) -> None:
    """A line of explanation on standard error, so that standard output stays clean."""
    click.echo(message, err=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """A plain table; columns named in `right` are set flush right. What stands in brackets is no markup."""
    from rich.console import Console  # here, since most commands print no table
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        made.add_column(heading, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 200).print(made)


def duration(seconds: float | None) -> str:
    """A length of time as people say it: `1 h 04 min`, `3 min 20 s`, `12 s`."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def size(count: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def state_line(summary: Mapping[str, Any]) -> str:
    """A corpus in one line."""
    jobs, segments = summary["jobs"], summary["segments"]
    failed = f", {jobs['failed']} failed" if jobs["failed"] else ""
    review = f", {jobs['needs_review']} need a listen" if jobs["needs_review"] else ""
    done = jobs["completed"] + jobs["needs_review"]
    return (
        f"{summary['name']}: {summary['state'].replace('_', ' ')}, {done} of {jobs['total']} jobs, "
        f"{segments['done']} of {segments['total']} segments, {duration(summary['audio_seconds'])} of audio{failed}{review}"
    )
