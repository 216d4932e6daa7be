"""The commands that ask after work: `submit` of what is there, `watch`, `list`, `db upgrade`."""

import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from cli import progress
from storage import corpora, jobs
from storage.database import Database
from storage.models import Corpus, Job
from tests import commands, corpus_maker, tones


@pytest.fixture
def database(sqlite_url):
    database = Database(sqlite_url)
    yield database
    database.close()


def run(folder: Path, sqlite_url: str, *arguments: object, **more: str) -> commands.Answer:
    where = {"VOICEMILL_DATABASE_URL": sqlite_url, "VOICEMILL_STORE_URL": str(folder / "store")}
    return commands.run(*arguments, cwd=folder, **where, **more)


def test_submitting_what_was_cancelled_says_so_and_how_to_go_on(tmp_path, sqlite_url, database):
    (tmp_path / "c.txt").write_text("A text.")
    line = ("submit", "c.txt", "--engine", "espeak", "--name", "tale")
    assert run(tmp_path, sqlite_url, *line, "--json").json["state"] == "running"
    again = run(tmp_path, sqlite_url, *line)
    assert again.out == "tale: was accepted before and is running\n"
    assert run(tmp_path, sqlite_url, "cancel", "tale").code == 0
    cancelled = run(tmp_path, sqlite_url, *line)
    assert cancelled.code == 0
    assert cancelled.out == (
        "tale: was accepted before and is cancelled; `voicemill retry tale` takes it up again\n"
    )
    told = run(tmp_path, sqlite_url, *line, "--json").json
    assert (told["created"], told["state"]) == (False, "cancelled")


def test_watch_shows_the_cost_where_there_is_a_price(tmp_path, sqlite_url, database):
    accepted = corpus_maker.accepted(database, ["A text."])
    with database.write() as connection:
        corpora.spent(connection, {accepted.id: 5400.0})
        meter = progress.Meter(tones.Spec(), workers=True, encoding={}, price=2.5)
        meter.look(connection, accepted.id, 1.0)
        assert "cost 3.75" in meter.line()
        jobs.cancel(connection, accepted.id)
        connection.execute(sa.update(Corpus).values(engine="espeak", pool="espeak"))
    price = {"VOICEMILL_PRICE_PER_HOUR": "2.5"}
    told = run(tmp_path, sqlite_url, "watch", "--json", **price).json
    assert (told["worker_seconds"], told["cost"]) == (5400.0, 3.75)
    assert run(tmp_path, sqlite_url, "watch", **price).out.strip().endswith(", cost 3.75")
    assert run(tmp_path, sqlite_url, "watch", "--json").json["cost"] is None
    assert "cost" not in run(tmp_path, sqlite_url, "watch").out


def test_jobs_in_a_state_are_listed_of_every_corpus(tmp_path, sqlite_url, database):
    for name in ("old", "new"):
        corpus_maker.accepted(database, {f"{name}-good": "A text.", f"{name}-bad": "A text."}, name=name)
    with database.write() as connection:
        connection.execute(
            sa.update(Job).where(Job.c.custom_id.like("%-bad")).values(state="failed", detail="No.")
        )
    found = run(tmp_path, sqlite_url, "list", "--state", "failed", "--json").json
    assert [(job["corpus"], job["id"], job["state"]) for job in found] == [
        ("new", "new-bad", "failed"),
        ("old", "old-bad", "failed"),
    ]
    text = run(tmp_path, sqlite_url, "list", "--state", "failed").out
    assert "new-bad" in text
    assert "good" not in text
    limited = run(tmp_path, sqlite_url, "list", "--state", "failed", "--limit", 1, "--json").json
    assert [job["id"] for job in limited] == ["new-bad"]
    assert [corpus["name"] for corpus in run(tmp_path, sqlite_url, "list", "--json").json] == ["new", "old"]


def test_an_upgrade_says_in_json_what_came_of_it(tmp_path):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    first = run(tmp_path, url, "db", "upgrade", "--json").json
    second = run(tmp_path, url, "db", "upgrade", "--json").json
    assert (first["before"], first["revision"]) == (None, second["before"])
    assert second["before"] == second["revision"]


def test_the_embedded_database_that_is_there_is_upgraded(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "text": "A text."}))
    assert commands.run("render", "a.jsonl", "--engine", "espeak", cwd=tmp_path).code == 0
    path = tmp_path / "voicemill-out" / ".voicemill" / "voicemill.db"
    told = commands.run("db", "upgrade", "--json", cwd=tmp_path).json
    assert str(path) in told["database"]
    assert not (tmp_path / ".voicemill").exists()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (told["revision"],)
    connection.close()


def test_what_stands_in_brackets_is_shown_as_it_is(tmp_path, sqlite_url):
    """Not as the markup of a terminal, in which the address would be an error."""
    line = {"id": "[bold]x [nothing]", "text": "A text."}
    (tmp_path / "c.jsonl").write_text(json.dumps(line))
    submitted = run(tmp_path, sqlite_url, "submit", "c.jsonl", "--engine", "espeak", "--name", "[red]tale")
    assert submitted.code == 0, submitted.err
    listed = run(tmp_path, sqlite_url, "list", "[red]tale")
    assert (listed.code, line["id"] in listed.out) == (0, True), listed.err + listed.out
    assert "[red]tale" in run(tmp_path, sqlite_url, "list").out
    url = "https://example.org/[/b]"
    added = run(tmp_path, sqlite_url, "webhooks", "add", url)
    assert added.code == 0, added.err
    shown = run(tmp_path, sqlite_url, "webhooks", "list")
    assert (shown.code, url in shown.out) == (0, True), shown.err + shown.out
