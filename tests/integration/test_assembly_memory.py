"""Memory does not grow with the book."""

import sys
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from scheduler import planner
from storage import batches
from storage.database import Database
from storage.models import Job
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import assemble, render

MB = 1_000_000
PARAGRAPH = "This paragraph is said again and again, and each time it is the same take that is read once more."
SHORT, LONG = 8, 500  # paragraphs: a minute, and an hour, of which the sound alone takes 57 MB


def most_memory(step) -> int:
    """The most that this process had in memory during a step, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # forget what was the most before
    step()
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("loudness", [None, -18.0])
def test_an_hour_takes_no_more_memory_than_a_minute(sqlite_url, tmp_path, loudness):
    database = Database(sqlite_url)
    mill = render.Mill(database, open_store(str(tmp_path / "store")), tones.Spec(), tones.Tones(), "me")
    (tmp_path / "scratch").mkdir()
    bench = assemble.Bench(database, mill.store, "me", tmp_path / "scratch")

    def book(name: str, paragraphs: int) -> None:
        corpus_maker.accepted(
            database,
            {name: [PARAGRAPH] * paragraphs},
            name=name,
            audio_format="wav,mp3",
            captions=("vtt", "json"),
            loudness=loudness,
        )
        while True:
            planner.plan(database, "tones", planner.Plan(workers=1, linger_seconds=0))
            with database.read() as connection:
                batch_id = batches.next_ready(connection, "tones")
            if batch_id is None:
                return
            render.run(mill, batch_id, Event())

    for name in ("warm", "short"):
        book(name, SHORT)
        short = most_memory(lambda: assemble.run(bench))
    book("long", LONG)
    long = most_memory(lambda: assemble.run(bench))
    with database.read() as connection:
        row = connection.execute(sa.select(Job).where(Job.c.custom_id == "long")).one()
    database.close()
    assert row.state == "completed"
    assert 2 * row.samples > 40 * MB
    assert long - short < 15 * MB
