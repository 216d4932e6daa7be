"""`voicemill review` and `voicemill redo` as a person uses them, with espeak told to whisper."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from cli import main
from scheduler import redo
from storage import results
from storage.database import Database
from tests import commands
from workers.engines import espeak


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book in which one line is too low to be heard."""
    folder = tmp_path_factory.mktemp("review")
    source = folder / "lines.jsonl"
    lines = [
        {"id": "fine", "text": "This line is quite all right.\n\nAnd so is this one."},
        {"id": "low", "text": "This line can hardly be heard.", "options": {"volume": 1}},
        {"id": "lower", "text": "[bold]This one[/bold] neither.", "options": {"volume": 1}},
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = commands.run(
        "render", source, "--engine", "espeak", "--format", "wav", "--captions", "json", "-o", "out", cwd=folder
    )
    assert done.code == 1, done.err
    assert "2 need a listen" in done.out
    return folder


def run(folder: Path, *arguments: object) -> commands.Answer:
    return commands.run("--home", "out/.voicemill", *arguments, cwd=folder)


def test_the_way_from_a_flag_to_a_finished_corpus(rendered):
    listed = run(rendered, "review")
    assert listed.code == 0, listed.err
    assert "low:0  silent: its level is" in listed.out
    assert '"This line can hardly be heard."' in listed.out
    assert '"[bold]This one[/bold] neither."' in listed.out, "a text is shown as it is"
    assert "2 to listen to" in listed.out

    told = run(rendered, "review", "--fetch", "listen", "--json").json
    assert [(take["job"], take["segment"], take["reason"]) for take in told["takes"]] == [
        ("low", 0, "silent"),
        ("lower", 0, "silent"),
    ]
    assert (rendered / told["takes"][0]["path"]).read_bytes()[:4] == b"RIFF"
    assert (rendered / "out" / "low.wav").is_file(), "it is delivered all the same"

    accepted = run(rendered, "review", "--accept", "low:0")
    assert accepted.code == 0, accepted.err
    assert "1 accepted, 1 jobs completed; 1 left to listen to" in accepted.out
    assert run(rendered, "status").code == 1
    assert run(rendered, "review", "--accept-all", "--json").json["state"] == "completed"
    assert "nothing needs a listen" in run(rendered, "review").out
    assert run(rendered, "status").code == 0


def test_a_file_that_acx_would_not_take_is_listed_and_accepted(tmp_path):
    """One word between nearly three seconds of silence is too quiet as a whole."""
    (tmp_path / "book.md").write_text("Yes.")
    done = commands.run("render", "book.md", "--engine", "espeak", "--preset", "acx", "-o", "out", cwd=tmp_path)
    assert done.code == 1, done.err
    listed = run(tmp_path, "review")
    assert "book  book.mp3: ACX would not take it: its RMS is" in listed.out
    assert "1 to listen to" in listed.out
    told = run(tmp_path, "review", "--json").json
    assert (told["total"], told["takes"]) == (1, [])
    (file,) = told["files"]
    assert (file["job"], file["file"]) == ("book", "book.mp3")
    assert file["problem"].startswith("ACX would not take it: its RMS is")
    assert (tmp_path / file["path"]).is_file()
    assert run(tmp_path, "review", "--accept", "book:0").code == 2
    accepted = run(tmp_path, "review", "--accept", "book", "--json").json
    assert (accepted["accepted"], accepted["accepted_files"], accepted["completed_jobs"]) == (0, 1, 1)
    assert (accepted["state"], accepted["left"]) == ("completed", 0)
    assert "nothing needs a listen" in run(tmp_path, "review").out
    assert run(tmp_path, "fetch", "-o", "fetched").code == 0
    result = json.loads((tmp_path / "fetched" / "results.jsonl").read_text())
    assert (result["state"], result["deliverables"][0]["accepted"]) == ("completed", True)


def test_redo_changes_one_sentence_and_the_delivered_file(rendered):
    before = wave_of(rendered / "out" / "fine.wav")
    takes = list((rendered / "out" / ".voicemill" / "store" / "takes").rglob("*.wav"))
    done = run(rendered, "redo", "fine", "--segment", "1", "--text", "And so is that other one.", "--json")
    assert done.code == 0, done.err
    assert done.json["text_before"] == "And so is this one."
    assert done.json["state"] == "completed"
    after = wave_of(rendered / done.json["audio"])
    timing = json.loads((rendered / "out" / "fine.timing.json").read_text())
    start = timing["segments"][1]["start_sample"]
    assert timing["segments"][1]["text"] == "And so is that other one."
    assert np.array_equal(before[:start], after[:start])
    assert not np.array_equal(before, after)
    assert len(list((rendered / "out" / ".voicemill" / "store" / "takes").rglob("*.wav"))) == len(takes) + 1


def test_a_redo_that_was_stopped_goes_on_when_it_is_asked_for_again(rendered):
    database = Database(f"sqlite:///{rendered}/out/.voicemill/voicemill.db")
    with database.read() as connection:
        corpus = results.find(connection, None)
    words = "And so is the very last one."
    redo.redo(database, espeak.SPEC, corpus, "fine", 1, text=words)  # and the process ends here
    database.close()
    other = run(rendered, "redo", "fine", "--segment", "1", "--text", "Something else altogether.")
    assert other.code == 2
    assert "waits to be rendered already" in other.err
    again = run(rendered, "redo", "fine", "--segment", "1", "--text", words)
    assert again.code == 0, again.err
    assert "fine:1 was rendered again; the job is completed" in again.out
    assert words in (rendered / "out" / "fine.timing.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("redo", "fine", "--segment", "0"), "Give it other words with --text."),
        (
            ("redo", "fine", "--segment", "9", "--text", "Hm."),
            "has no segment 9: they are numbered from 0 to 1",
        ),
        (("redo", "fein", "--segment", "0"), "no job 'fein'"),
        (("redo", "fine", "--segment", "0", "--text", "a. " * 300), "a segment has at most 220 characters"),
        (("redo", "fine"), "Missing option '--segment'"),
        (("review", "--accept", "fine:x"), "is not JOB or JOB:SEGMENT"),
        (("review", "--accept", "fein"), "no job 'fein'"),
        (("review", "--accept", "fine"), "Nothing in fine needs a listen."),
        (("review", "--accept", "fine", "--accept-all"), "exclude each other"),
    ],
)
def test_mistakes_get_one_line(rendered, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(rendered)
    with pytest.raises(SystemExit) as ended:
        main.main(["--home", "out/.voicemill", *arguments])
    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def wave_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as audio:
        return np.frombuffer(audio.readframes(audio.getnframes()), "<i2")
