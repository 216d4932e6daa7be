"""`voicemill render` as a person uses it: once, again, interrupted, killed.

Whether something is rendered again is asked of the engine: the store keeps what it has, so its files cannot tell.
"""

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from scheduler import embedded
from tests import commands, slow_engine
from workers import answers

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


def takes(out: Path) -> set[str]:
    return {path.stem for path in (out / ".voicemill" / "store" / "takes").rglob("*.wav")}


def render(source: object, out: Path, *more: object) -> commands.Answer:
    return commands.run("render", source, "--engine", "espeak", "-o", out, *more, cwd=out.parent)


class Engine:
    """An engine that writes down whatever it renders, for commands that run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        path = os.pathsep.join([str(commands.ROOT), str(slow_engine.package(folder))])
        self.environment = {"PYTHONPATH": path, slow_engine.FOLDER: str(folder)}

    def render(self, source: object, out: Path, *more: object) -> commands.Answer:
        line = ("render", source, "--engine", "slow", "-o", out, *more)
        return commands.run(*line, cwd=out.parent, **self.environment)

    def start(self, source: object, out: Path, *more: object, pace: float) -> subprocess.Popen[bytes]:
        """Begin to render, `pace` seconds a take in each thread."""
        line = ("render", source, "--engine", "slow", "-o", out, *more)
        return commands.start(*line, cwd=out.parent, **self.environment, **{slow_engine.SECONDS: str(pace)})

    def renderings(self) -> list[tuple[str, float]]:
        """The key of each take that it made, in order, and when that was, on the monotonic clock."""
        path = self.folder / "rendered"
        told = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(key, float(moment)) for _, key, moment in told]

    def counts(self) -> Counter[str]:
        """How often it made each take."""
        return Counter(key for key, _ in self.renderings())


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path / "engine")


def test_a_corpus_becomes_audio_and_the_second_run_does_nothing(tmp_path, engine):
    source, out = lines(tmp_path, 40), tmp_path / "out"
    first = engine.render(source, out, "--format", "flac", "--captions", "vtt,srt", "--json")
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
    before, made = files(out), engine.counts()
    assert sorted(made.values()) == [1] * 40
    second = engine.render(source, out, "--format", "flac", "--captions", "vtt,srt", "--json")
    assert second.code == 0
    assert second.json["files_written"] == 0
    assert (files(out), engine.counts()) == (before, made)


@pytest.mark.parametrize("named", [[], ["--name", "lines"]])
def test_one_changed_line_is_one_segment_rendered(tmp_path, engine, named):
    out = tmp_path / "out"
    engine.render(lines(tmp_path, 30), out, "--format", "wav", *named)
    before, made = sound(out), engine.counts()
    changed = lines(tmp_path, 30, {11: "Quite another line now stands here."})
    again = engine.render(changed, out, "--format", "wav", *named)
    assert again.code == 0, again.err
    (more,) = (engine.counts() - made).items()
    assert more[0] not in made
    assert more[1] == 1
    assert {name for name, digest in sound(out).items() if before[name] != digest} == {"line-0011.wav"}


KILLS, PACE, LINES = 10, 0.05, 900
FURTHER = 80  # takes to the next kill, at most: some records further, and all ten kills come before the end
GRACE = 2.0  # seconds that a busy machine may need for a record


def test_killed_again_and_again_the_result_is_the_same_to_the_byte(tmp_path, engine):
    """Ten kills at random moments of its work. Rendered again is what was not written down when it was killed: a second."""
    source, calm, out = lines(tmp_path, LINES), tmp_path / "calm", tmp_path / "out"
    assert Engine(tmp_path / "calm-engine").render(source, calm, "--format", "wav").code == 0
    moments = random.Random(int(os.environ.get("VOICEMILL_TEST_SEED", "11")))
    lost: Counter[str] = Counter()
    for _ in range(KILLS):
        before = len(engine.renderings())
        process = engine.start(source, out, "--format", "wav", pace=PACE)
        wait_for_renderings(engine, before + moments.randint(1, FURTHER), process)
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert process.wait(30) == -signal.SIGKILL
        process.stderr.close()
        assert len(recorded(out)) < LINES, "there was work to be done"
        gone = [(key, moment) for key, moment in engine.renderings()[before:] if key not in recorded(out)]
        assert all(killed - moment < answers.FLUSH_SECONDS + GRACE for _, moment in gone)
        lost.update(key for key, _ in gone)
    assert engine.render(source, out, "--format", "wav").code == 0
    assert engine.counts() == Counter(recorded(out)) + lost, "what was written down was rendered again"
    print(f"{lost.total()} takes of {LINES} were rendered again after {KILLS} kills")
    a_second = embedded.RENDERERS * answers.FLUSH_SECONDS / PACE  # takes rendered between two records
    assert lost.total() <= KILLS * a_second / 2, "a kill comes in the middle of it, on the whole"
    assert files(out).keys() == files(calm).keys()
    assert sound(out) == sound(calm)
    assert takes(out) == takes(calm) == recorded(out)
    assert leftovers(out) == []


def wait_for_renderings(engine: Engine, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until so many takes were rendered, by a process that is still at it."""
    deadline = time.monotonic() + 60
    while len(engine.renderings()) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


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
def test_a_signal_drains_and_the_next_run_goes_on(tmp_path, engine, number):
    source, out = lines(tmp_path, 400), tmp_path / "out"
    process = engine.start(source, out, "--format", "wav", pace=0.02)
    wait_for_rows(out, 0.05, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Finishing what is in flight" in err
    assert (out / "results.jsonl").is_file()  # what was finished is there already
    made = engine.counts()
    assert 0 < len(made) < 400
    assert made.keys() == takes(out) == recorded(out), "all that was in flight is written down"
    again = engine.render(source, out, "--format", "wav")
    assert again.code == 0, again.err
    assert "Going on with" in again.err
    assert sorted(engine.counts().values()) == [1] * 400


def test_a_second_signal_ends_at_once_and_loses_nothing_that_was_written_down(tmp_path, engine):
    source, out = lines(tmp_path, 400), tmp_path / "out"
    process = engine.start(source, out, "--format", "wav", pace=0.02)
    wait_for_rows(out, 0.05, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    lost = engine.counts() - Counter(recorded(out))
    assert engine.render(source, out, "--format", "wav").code == 0
    assert len(sound(out)) == 400
    assert engine.counts() == Counter(recorded(out)) + lost


def test_a_second_render_beside_one_that_lives_is_refused(tmp_path):
    """It would cancel the first one's corpus and write over its results. One that was killed is in nobody's way."""
    source, out = lines(tmp_path, 120), tmp_path / "out"
    other = tmp_path / "other.txt"
    other.write_text("Quite another text.")
    process = commands.start("render", source, "--engine", "espeak", "-o", out, "--format", "wav", cwd=tmp_path)
    wait_for_rows(out, 0.02, process)
    process.send_signal(signal.SIGSTOP)  # alive, and at work for as long as it is stopped
    refused = render(other, out, "--format", "wav")
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert f"Another render is at work in {out / '.voicemill'} (process {process.pid} on " in refused.err
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len((out / "results.jsonl").read_text().splitlines()) == 120
    process = commands.start(
        "render", source, "--engine", "espeak", "-o", out, "--format", "flac", cwd=tmp_path
    )
    wait_for_rows(out, 0, process)
    process.kill()
    process.communicate()
    again = render(other, out, "--format", "wav", "--json")
    assert (again.code, again.json["state"]) == (0, "completed"), again.err


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


def test_audio_that_is_gone_from_the_store_is_made_again(tmp_path, engine):
    source, out = lines(tmp_path, 5), tmp_path / "out"
    assert engine.render(source, out, "--format", "wav").code == 0
    before, made = sound(out), engine.counts()
    store = out / ".voicemill" / "store"
    first, second, *_ = sorted((store / "audio").rglob("*.wav"))
    first.unlink()
    second.write_bytes(b"half")
    for path in out.glob("*.wav"):
        path.unlink()
    assert engine.render(source, out, "--format", "wav").code == 0
    assert (sound(out), engine.counts()) == (before, made)
