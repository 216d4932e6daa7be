"""`voicemill render` as a person uses it: once, again, interrupted, killed."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests import commands

WORDS = [
    "river",
    "lantern",
    "copper",
    "window",
    "morning",
    "garden",
    "thunder",
    "paper",
    "harbour",
    "candle",
    "mountain",
    "silver",
    "letter",
    "kitchen",
    "winter",
    "engine",
    "island",
    "market",
    "orchard",
    "bridge",
]


def lines(folder: Path, count: int, change: dict[int, str] | None = None) -> Path:
    chosen = random.Random(7)
    path = folder / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(chosen.choices(WORDS, k=25)).capitalize() + "."
            text = (change or {}).get(number, text)
            file.write(json.dumps({"id": f"line-{number:04}", "text": text}) + "\n")
    return path


def files(out: Path) -> dict[str, str]:
    """Every delivered file by its digest; results.jsonl and errors.jsonl too."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.is_file()
    }


def sound(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in files(out).items() if not name.endswith(".jsonl")}


def takes(out: Path) -> dict[str, float]:
    return {
        path.name: path.stat().st_mtime_ns for path in (out / ".voicemill" / "store" / "takes").rglob("*.wav")
    }


def render(source: object, out: Path, *more: object) -> commands.Answer:
    return commands.run("render", source, "--engine", "espeak", "-o", out, *more, cwd=out.parent)


def test_a_corpus_becomes_audio_and_the_second_run_does_nothing(tmp_path):
    source, out = lines(tmp_path, 40), tmp_path / "out"
    first = render(source, out, "--format", "flac", "--captions", "vtt,srt", "--json")
    assert first.code == 0, first.err
    summary = first.json
    assert (summary["state"], summary["jobs"]["completed"]) == ("completed", 40)
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["id"] for line in results] == [f"line-{number:04}" for number in range(40)]
    for line in results:
        data = (out / line["audio"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (line["bytes"], line["sha256"])
        assert all((out / name).is_file() for name in line["captions"])
    assert (out / "errors.jsonl").read_text() == ""
    before, made = files(out), takes(out)
    second = render(source, out, "--format", "flac", "--captions", "vtt,srt", "--json")
    assert second.code == 0
    assert second.json["files_written"] == 0
    assert (files(out), takes(out)) == (before, made)


@pytest.mark.parametrize("named", [[], ["--name", "lines"]])
def test_one_changed_line_is_one_segment_rendered(tmp_path, named):
    out = tmp_path / "out"
    render(lines(tmp_path, 30), out, "--format", "wav", *named)
    before, made = sound(out), takes(out)
    changed = lines(tmp_path, 30, {11: "Quite another line now stands here."})
    again = render(changed, out, "--format", "wav", *named)
    assert again.code == 0, again.err
    assert len(set(takes(out)) - set(made)) == 1
    assert {name for name, digest in sound(out).items() if before[name] != digest} == {"line-0011.wav"}


def test_killed_again_and_again_the_result_is_the_same_to_the_byte(tmp_path):
    """Ten kills at random moments; what was done before a kill is not rendered again after it."""
    source, calm, out = lines(tmp_path, 300), tmp_path / "calm", tmp_path / "out"
    assert render(source, calm, "--format", "wav").code == 0
    moments = random.Random(int(os.environ.get("VOICEMILL_TEST_SEED", "11")))
    kills = 0
    for _ in range(10):
        process = commands.start(
            "render", source, "--engine", "espeak", "-o", out, "--format", "wav", cwd=tmp_path
        )
        wait_for_rows(out, moments.uniform(0, 0.12), process)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait(30)
        process.stderr.close()
        done = recorded(out)
        render_counts = {
            name: written for name, written in takes(out).items() if name.removesuffix(".wav") in done
        }
        KEPT.update(render_counts)
    assert render(source, out, "--format", "wav").code == 0
    assert kills >= 5
    assert files(out).keys() == files(calm).keys()
    assert sound(out) == sound(calm)
    after = takes(out)
    assert all(after[name] == written for name, written in KEPT.items())  # no recorded take was written again
    assert after.keys() == takes(calm).keys()
    assert leftovers(out) == []


KEPT: dict[str, float] = {}


def wait_for_rows(out: Path, share: float, process) -> None:
    """Until so much more of the corpus is done than now, or the process has ended."""
    start, deadline = len(recorded(out)), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if len(recorded(out)) >= start + max(1, int(share * 300)):
            return
        time.sleep(0.005)


def recorded(out: Path) -> set[str]:
    """Keys of the takes that the database knows."""
    path = out / ".voicemill" / "voicemill.db"
    if not path.is_file():
        return set()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {key for (key,) in connection.execute("SELECT take_key FROM takes")}
    except sqlite3.OperationalError:
        return set()
    finally:
        connection.close()


def leftovers(out: Path) -> list[str]:
    home = out / ".voicemill"
    return [
        str(path)
        for folder in (home / "scratch", home / "store" / ".tmp")
        for path in folder.rglob("*")
        if path.is_file()
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_the_next_run_goes_on(tmp_path, number):
    source, out = lines(tmp_path, 400), tmp_path / "out"
    process = commands.start("render", source, "--engine", "espeak", "-o", out, "--format", "wav", cwd=tmp_path)
    wait_for_rows(out, 0.05, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Finishing what is in flight" in err
    assert (out / "results.jsonl").is_file()  # what was finished is there already
    made = takes(out)
    assert 0 < len(made) < 400
    assert {name.removesuffix(".wav") for name in made} == recorded(out)
    again = render(source, out, "--format", "wav")
    assert again.code == 0, again.err
    assert "Going on with" in again.err
    assert all(takes(out)[name] == written for name, written in made.items())


def test_a_second_signal_ends_at_once_and_loses_nothing(tmp_path):
    source, out = lines(tmp_path, 400), tmp_path / "out"
    process = commands.start("render", source, "--engine", "espeak", "-o", out, "--format", "wav", cwd=tmp_path)
    wait_for_rows(out, 0.05, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert render(source, out, "--format", "wav").code == 0
    assert len(sound(out)) == 400


def test_standard_input_several_sources_and_a_book(tmp_path):
    (tmp_path / "book.md").write_text("# The Book\n\n## One\n\nIt begins here.\n\n## Two\n\nAnd ends there.\n")
    (tmp_path / "poem.txt").write_text("Roses are red.\n\nViolets are blue.\n")
    out = tmp_path / "out"
    answer = commands.run(
        "render",
        tmp_path / "book.md",
        tmp_path / "poem.txt",
        "--engine",
        "espeak",
        "--format",
        "m4b",
        "-o",
        out,
        cwd=tmp_path,
    )
    assert answer.code == 0, answer.err
    assert set(sound(out)) == {"book.m4b", "poem.m4b"}
    piped = commands.run(
        "render",
        "-",
        "--engine",
        "espeak",
        "-o",
        out,
        cwd=tmp_path,
        given='{"id": "x", "text": "From a pipe."}\n',
    )
    assert piped.code == 0, piped.err
    assert "x.mp3" in sound(out)


def test_the_state_can_be_asked_for_afterwards(tmp_path):
    source, out = lines(tmp_path, 3), tmp_path / "voicemill-out"
    assert render(source, out, "--format", "wav").code == 0
    status = commands.run("status", "--json", cwd=tmp_path)
    assert status.json["jobs"]["completed"] == 3
    assert "corpus-" in commands.run("list", cwd=tmp_path).out
    jobs = commands.run("--home", out, "list", "corpus", "--json", cwd=tmp_path).json
    assert [job["id"] for job in jobs] == ["line-0000", "line-0001", "line-0002"]
    fetched = commands.run("fetch", "-o", tmp_path / "copy", "--only", "line-0001", "--json", cwd=tmp_path)
    assert (fetched.code, fetched.json["files_written"]) == (0, 1)
    assert (tmp_path / "copy" / "line-0001.wav").read_bytes() == (out / "line-0001.wav").read_bytes()
    assert commands.run("retry", cwd=tmp_path).out.startswith("corpus-")


def test_audio_that_is_gone_from_the_store_is_made_again(tmp_path):
    source, out = lines(tmp_path, 5), tmp_path / "out"
    assert render(source, out, "--format", "wav").code == 0
    before, made = sound(out), takes(out)
    store = out / ".voicemill" / "store"
    first, second, *_ = sorted((store / "audio").rglob("*.wav"))
    first.unlink()
    second.write_bytes(b"half")
    for path in out.glob("*.wav"):
        path.unlink()
    assert render(source, out, "--format", "wav").code == 0
    assert (sound(out), takes(out)) == (before, made)
