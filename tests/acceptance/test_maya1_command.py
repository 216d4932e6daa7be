"""`voicemill render --engine maya1` on a CPU with a tiny random model: all of the way, none of the sound."""

import json
import signal
import sqlite3
import time

import numpy as np
import pytest

from tests import commands

tiny_maya1 = pytest.importorskip("tests.tiny_maya1", reason="needs voicemill[maya1]")

TEXTS = {
    "a": "This is the first line of three.",
    "b": "A second line follows, <laugh> and it is a little longer than the first one was.",
    "c": "The third ends it.",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_maya1.make(folder)
    return folder


def settings(model):
    return {"VOICEMILL_MAYA1_SNAC": str(model / "snac"), "VOICEMILL_MAYA1_SLOTS": "4", "OMP_NUM_THREADS": "1"}


def corpus(folder, texts=TEXTS):
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()))
    return path


def render(model, folder, source, out, *more):
    return commands.run(
        "render", source, "--engine", "maya1", "--model", model / "model", "--format", "wav", "-o", out, "--json", *more,
        cwd=folder, **settings(model),
    )  # fmt: skip


def audible(out):
    return {path.name: path.read_bytes() for path in out.glob("*.wav")}


def test_text_becomes_audio_and_codes_that_can_be_had(model, tmp_path):
    source, out = corpus(tmp_path), tmp_path / "out"
    answer = render(model, tmp_path, source, out)
    assert answer.code in (0, 1), answer.err  # noise may fail a check and need a listen
    done = answer.json["jobs"]["completed"] + answer.json["jobs"]["needs_review"]
    assert done == 3, (answer.json, (out / "errors.jsonl").read_text())
    exported = commands.run(
        "--home", out, "takes", "export", "b", "--codes", "-o", "takes", "--json", cwd=tmp_path
    )
    assert exported.code == 0, exported.err
    for take in exported.json:
        codes = np.load(tmp_path / "takes" / take["files"][1])
        assert codes.dtype == np.int16
        assert codes.ndim == 2
        assert codes.shape[1] == 7
        assert 0 <= codes.min() <= codes.max() < 4096
    again = render(model, tmp_path, source, out)
    assert again.json["files_written"] == 0
    options = (
        "temperature=0.9",
        "seed=5",
        "kv_dtype=int8",
        "slots=2",
    )  # the last two are settings of this machine
    other = render(
        model, tmp_path, source, tmp_path / "other", *(part for one in options for part in ("-O", one))
    )
    assert audible(tmp_path / "other").keys() == audible(out).keys()
    assert audible(tmp_path / "other") != audible(out), other.err
    with sqlite3.connect(tmp_path / "other" / ".voicemill" / "voicemill.db") as database:
        recipes = [json.loads(recipe) for (recipe,) in database.execute("SELECT recipe FROM takes")]
        (kept,) = database.execute("SELECT DISTINCT options ->> '$.seed' FROM jobs").fetchone()
    assert {recipe["precision"]["cache"] for recipe in recipes} == {"int8"}
    assert kept == 5


def test_interrupted_and_killed_it_ends_the_same(model, tmp_path):
    words = "Line number {} of several says a few words more than it must."
    texts = {f"line-{number:02}": words.format(number) for number in range(12)}
    source, calm, out = corpus(tmp_path, texts), tmp_path / "calm", tmp_path / "out"
    assert render(model, tmp_path, source, calm).code in (0, 1)
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGINT):
        process = commands.start(
            "render", source, "--engine", "maya1", "--model", model / "model", "--format", "wav", "-o", out,
            cwd=tmp_path, **settings(model),
        )  # fmt: skip
        before, deadline = takes(out), time.monotonic() + 60
        while process.poll() is None and takes(out) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert render(model, tmp_path, source, out).code in (0, 1)
    assert audible(out) == audible(calm)


def takes(out):
    return sum(1 for _ in (out / ".voicemill" / "store" / "takes").rglob("*.wav"))


@pytest.mark.parametrize(
    ("name", "arguments", "more", "expected"),
    [
        ("an unknown tag", (), {"text": "Hello <yawn> there."}, "yawn"),
        ("a closing tag", (), {"text": "Hello <laugh>there</laugh>."}, "/laugh"),
        ("an unknown option", ("-O", "temprature=1"), {}, "no option 'temprature'"),
        ("a setting that is none", ("-O", "kv_dtype=fp4"), {}, "maya1_kv_dtype is wrong"),
        ("a seed that is none", ("-O", "seed=five"), {}, "the seed 'five' is not a whole number"),
        ("a line's setting", (), {"options": {"kv_dtype": "int8"}}, "VOICEMILL_MAYA1_KV_DTYPE=int8"),
        ("no model there", ("--model", "nowhere/at/all"), {"VOICEMILL_MAYA1_DEVICE": "cpu"}, "no such folder"),
        ("no CUDA", (), {"VOICEMILL_MAYA1_DEVICE": "cuda"}, "no such GPU"),
    ],
)
def test_bad_input_is_one_clear_line(model, tmp_path, name, arguments, more, expected):
    source = tmp_path / "lines.jsonl"
    line = {"id": "x", "text": more.pop("text", "Hello there."), "options": more.pop("options", {})}
    source.write_text(json.dumps(line))
    answer = commands.run(
        "render", source, "--engine", "maya1", "--model", model / "model", *arguments, "-o", tmp_path / "out",
        cwd=tmp_path, **settings(model), **more,
    )  # fmt: skip
    assert answer.code == 2, (answer.out, answer.err)
    assert expected in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().splitlines()) <= 2, answer.err
