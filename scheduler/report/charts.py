"""The charts of a report, as SVG that takes its colours and its letters from the page."""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib as mpl
from lxml import etree
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scheduler.report.facts import Column, Facts, Point

# Each stands for a colour of the page, which is another one in the dark.
INK, FAINT, ACCENT, WARN = "#010101", "#010102", "#010103", "#010104"
COLOURS = {INK: "var(--muted)", FAINT: "var(--line)", ACCENT: "var(--accent)", WARN: "var(--warn)"}
DPI = 72
LEAST_COLUMNS = 12  # that there is room for: one alone would be a wall
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "voicemill",
    "font.size": 11,
    "axes.unicode_minus": False,
}


def progress(facts: Facts) -> str | None:
    """Audio rendered by hour, and in all; None where nothing was."""
    if not facts.columns:
        return None
    unit, divisor = (
        ("h", 3600) if sum(column.audio_seconds for column in facts.columns) >= 7200 else ("min", 60)
    )
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        heights = [column.audio_seconds / divisor for column in facts.columns]
        axes.bar(range(len(heights)), heights, width=0.72, color=ACCENT, linewidth=0)
        axes.set_xlim(-0.6, max(LEAST_COLUMNS, len(heights)) - 0.4)
        axes.set_ylabel(f"audio, {unit}", color=INK)
        total = axes.twinx()
        _plain(total)
        sums = [sum(heights[: at + 1]) for at in range(len(heights))]
        total.plot(range(len(sums)), sums, color=INK, linewidth=1.5, marker="o" if len(sums) == 1 else None)
        total.set_ylim(bottom=0)
        total.set_ylabel(f"in all, {unit}", color=INK)
        total.yaxis.set_label_position("right")
        total.yaxis.tick_right()
        ticks = list(range(0, len(heights), max(1, -(-len(heights) // 8))))
        axes.set_xticks(ticks, _times([facts.columns[at] for at in ticks], facts.column_seconds))
        return _svg(figure)


def lengths(points: Sequence[Point]) -> str | None:
    """How long takes last by the length of their text; None where there are none."""
    if not points:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        for flagged, colour, size in ((False, ACCENT, 9), (True, WARN, 26)):
            some = [point for point in points if point.flagged is flagged]
            axes.scatter(
                [point.characters for point in some],
                [point.seconds for point in some],
                s=size,
                color=colour,
                alpha=0.9 if flagged else 0.45,
                linewidths=0,
            )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("characters of text", color=INK)
        axes.set_ylabel("seconds of sound", color=INK)
        return _svg(figure)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(760 / DPI, 250 / DPI), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    axes.grid(axis="y", color=FAINT, linewidth=1)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.tick_params(colors=INK, length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _times(columns: Sequence[Column], width: int) -> list[str]:
    """What stands below the columns: hours, with the day where it changes; days alone for wide ones."""
    told, day = [], None
    for column in columns:
        at = datetime.fromtimestamp(column.at).astimezone()
        date = f"{at.day} {at:%b}"
        if width >= 24 * 3600:
            told.append(date)
        else:
            told.append(f"{at:%H:%M}" if date == day else f"{at:%H:%M}\n{date}")
        day = date
    return told


def _svg(figure: Figure) -> str:
    """The figure without what only a file needs: it is a part of the page, as wide as there is room."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True)
    root = etree.fromstring(file.getvalue(), etree.XMLParser(resolve_entities=False, no_network=True))
    for child in list(root):
        if etree.QName(child).localname == "metadata":
            root.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    text = str(etree.tostring(root, encoding="unicode"))
    for sentinel, colour in COLOURS.items():
        text = text.replace(sentinel, colour)
    return text
