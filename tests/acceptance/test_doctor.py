"""`voicemill doctor`: what is wrong here, and what to do about it."""

import time
from pathlib import Path

import pytest

from cli import doctor
from cli.place import Place
from storage import database
from tests import commands


def findings(folder: Path, *before: object, code: int, **environment: str) -> dict[str, dict[str, object]]:
    """What it says, by what it looked at; of several, the worst."""
    answer = commands.run(*before, "doctor", "--json", cwd=folder, **environment)
    assert answer.code == code, answer.out + answer.err
    found: dict[str, dict[str, object]] = {}
    for finding in answer.json:
        if finding["what"] not in found or not finding["good"]:
            found[finding["what"]] = finding
    return found


def bad(found: dict[str, dict[str, object]]) -> list[str]:
    return [what for what, finding in found.items() if not finding["good"]]


def test_all_is_well_where_nothing_is_set_and_nothing_is_made(tmp_path):
    found = findings(tmp_path, code=0)
    assert {"Settings", "Database", "Store", "Broker", "Clock", "ffmpeg", "Engine espeak"} <= found.keys()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind, name", [("redis", "Redis "), ("rabbitmq", "RabbitMQ ")])
def test_a_broker_is_named_with_its_version(tmp_path, request, kind, name):
    url = request.getfixturevalue(f"{kind}_url")
    (told,) = [
        finding.told
        for finding in doctor_of(tmp_path, doctor._broker, url)
        if finding.what == "Broker" and finding.good
    ]
    assert told.startswith(name)
    assert told[len(name)].isdigit()


def doctor_of(folder: Path, check: doctor.Check, url: str, **more: str) -> list[doctor.Finding]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICEMILL_BROKER_URL", url)
        for name, value in more.items():
            patch.setenv(name, value)
        return list(doctor._run(check, Place(folder)))


def test_a_broker_that_is_away_is_a_fault(tmp_path):
    url = "redis://:hunter2@127.0.0.1:1/0"
    found = findings(tmp_path, code=1, VOICEMILL_BROKER_URL=url)
    assert bad(found) == ["Broker"]
    assert "redis://:**@127.0.0.1:1/0 cannot be reached" in str(found["Broker"]["told"])
    text = commands.run("doctor", cwd=tmp_path, VOICEMILL_BROKER_URL=url)
    assert "bad Broker: The broker redis://:**@127.0.0.1:1/0" in text.out
    assert "hunter2" not in text.out


def test_batches_that_outlast_the_broker_are_a_fault(tmp_path, redis_url):
    found = doctor_of(tmp_path, doctor._broker, redis_url, VOICEMILL_VISIBILITY_TIMEOUT="60")
    assert [finding.good for finding in found] == [False, True]
    assert "Raise VOICEMILL_VISIBILITY_TIMEOUT" in found[0].told


def test_a_server_without_a_broker_is_a_fault(tmp_path, sqlite_url):
    found = findings(tmp_path, code=1, VOICEMILL_DATABASE_URL=sqlite_url)
    assert bad(found) == ["Broker"]
    assert "VOICEMILL_BROKER_URL" in str(found["Broker"]["advice"])


@pytest.mark.parametrize("off, told", [(-40, "40 s behind"), (40, "40 s ahead of"), (2, "within 5 s")])
def test_a_clock_that_is_off_is_told(tmp_path, monkeypatch, postgres_url, off, told):
    monkeypatch.setenv("VOICEMILL_DATABASE_URL", postgres_url)
    right = time.time
    monkeypatch.setattr(database.time, "time", lambda: right() + off)
    (finding,) = doctor._clock(Place(tmp_path))
    assert finding.told.startswith(told)
    assert finding.good == (abs(off) < 5)
    assert ("NTP" in finding.advice) != finding.good


def embedded(folder: Path) -> Path:
    """An embedded home with something in it."""
    (folder / "a.txt").write_text("A text.")
    line = ("render", "a.txt", "--engine", "espeak", "--format", "wav", "-o", "voicemill-out")
    assert commands.run(*line, cwd=folder).code == 0
    return folder / "voicemill-out" / ".voicemill"


def test_an_embedded_home_is_looked_at(tmp_path):
    home = embedded(tmp_path)
    well = findings(tmp_path, code=0)
    assert str(home / "voicemill.db") in str(well["Database"]["told"])
    database_file = home / "voicemill.db"
    whole = database_file.read_bytes()
    for broken in (b"This is no database. " * 1000, whole[:4096] + b"\xff" * (len(whole) - 4096)):
        database_file.write_bytes(broken)
        ill = findings(tmp_path, code=1)
        assert bad(ill) == ["Database"]
        assert "is damaged, or is none" in str(ill["Database"]["told"])
        assert "move it away" in str(ill["Database"]["told"])


def test_a_store_that_is_none_is_a_fault(tmp_path):
    home = embedded(tmp_path)
    (home / "store").rename(home / "elsewhere")
    (home / "store").write_text("no folder")
    ill = findings(tmp_path, "--home", home, code=1)
    assert bad(ill) == ["Store"]
    assert "is no folder" in str(ill["Store"]["told"])
    assert "VOICEMILL_STORE_URL" in str(ill["Store"]["advice"])
