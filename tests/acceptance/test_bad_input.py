"""Bad input: one clear line each, exit code 2, nothing half-accepted, nothing lost."""

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest

from tests import commands

BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>'
CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def jsonl(*lines: object) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def epub(**entries: str) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries.items():
            archive.writestr(name.replace("__", "/"), text)
    return buffer.getvalue()


GOOD = {"id": "good", "text": "A good line."}

CASES = {
    "broken JSON": ("c.jsonl", jsonl(GOOD, b'{"id": "x", "text": "unfinished'), (), "line 2"),
    "a duplicate id": ("c.jsonl", jsonl(GOOD, {"id": "b", "text": "B."}, GOOD), (), "'good' was used before"),
    "an empty text": ("c.jsonl", jsonl(GOOD, {"id": "x", "text": ""}), (), "line 2"),
    "a text of white space": ("c.jsonl", jsonl(GOOD, {"id": "x", "text": " \n\t "}), (), "line 2"),
    "only emoji": (
        "c.jsonl",
        jsonl(GOOD, {"id": "x", "text": "😀🎉🚀"}),
        (),
        "nothing in its text that can be spoken",
    ),
    "a missing voice in a line": ("c.jsonl", jsonl({**GOOD, "voice": "nobody"}), (), "no voice named 'nobody'"),
    "a missing voice": ("c.jsonl", jsonl(GOOD), ("--voice", "narator"), "did you mean 'narrator'"),
    "an unknown format": ("c.jsonl", jsonl(GOOD), ("--format", "mp33"), "did you mean 'mp3'"),
    "an unknown format in a line": ("c.jsonl", jsonl({**GOOD, "format": "tape"}), (), "no audio format 'tape'"),
    "an unknown engine": ("c.jsonl", jsonl(GOOD), ("--engine", "espek"), "espeak"),
    "an unknown engine option": ("c.jsonl", jsonl(GOOD), ("-O", "sped=3"), "no option 'sped'"),
    "a bad engine option": ("c.jsonl", jsonl(GOOD), ("-O", "rate=9000"), "rate"),
    "a bad seed": ("c.jsonl", jsonl({**GOOD, "seed": -1}), (), "seed"),
    "a bad priority": ("c.jsonl", jsonl({**GOOD, "priority": "asap"}), (), "high, normal"),
    "an id that climbs": ("c.jsonl", jsonl({"id": "../../x", "text": "Out."}), (), "line 1"),
    "an id with a slash": ("c.jsonl", jsonl({"id": "a/b", "text": "Out."}), (), "line 1"),
    "an id of 1,000 characters": ("c.jsonl", jsonl({"id": "x" * 1000, "text": "Long."}), (), "line 1"),
    "an id with a control character": ("c.jsonl", jsonl({"id": "a\x07b", "text": "Ring."}), (), "line 1"),
    "a path that climbs": ("c.jsonl", jsonl({"id": "x", "path": "../secret.txt"}), (), "line 1"),
    "an absolute path": ("c.jsonl", jsonl({"id": "x", "path": "/etc/passwd"}), (), "line 1"),
    "a binary file": ("c.txt", bytes(range(256)) * 40, (), "c.txt"),
    "a wrongly encoded file": ("c.txt", "Größe und Länge".encode("latin-1"), (), "c.txt"),
    "an empty file": ("c.txt", b"", (), "c.txt"),
    "an empty corpus": ("c.jsonl", b"", (), "c.jsonl"),
    "an EPUB that is none": ("c.epub", b"This is no zip.", (), "c.epub"),
    "an EPUB without a container": ("c.epub", epub(mimetype="application/epub+zip"), (), "c.epub"),
    "an entity bomb": (
        "c.epub",
        epub(**{"META-INF__container.xml": CONTAINER, "book.opf": BOMB}),
        (),
        "c.epub",
    ),
    "a zip bomb": (
        "c.epub",
        epub(**{"META-INF__container.xml": CONTAINER, "book.opf": " " * 80_000_000}),
        (),
        "c.epub",
    ),
    "a missing file": (None, b"", ("nowhere.txt",), "nowhere.txt"),
    "a suffix nobody reads": ("c.xyz", b"text", (), "c.xyz"),
    "a table without a header": ("c.csv", b"1,2,3\n4,5,6\n", (), "c.csv"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(tmp_path, name):
    file_name, content, options, expected = CASES[name]
    sources = []
    if file_name is not None:
        (tmp_path / file_name).write_bytes(content)
        sources = [file_name]
    engine = () if "--engine" in options else ("--engine", "espeak")
    answer = commands.run("render", *sources, *options, *engine, "-o", "out", cwd=tmp_path)
    assert answer.code == 2, (answer.out, answer.err)
    assert expected in answer.err, answer.err
    assert "Traceback" not in answer.err
    assert 1 <= len(answer.err.strip().splitlines()) <= 2, answer.err
    assert answer.err.strip().splitlines()[-1].startswith("Error:")
    out = tmp_path / "out"
    assert not out.exists() or not any(out.glob("*.*"))
    outside = {path.name for path in tmp_path.iterdir()} - {"out", file_name}
    assert outside == set()


def test_every_bad_line_is_told_and_the_good_ones_can_be_kept(tmp_path):
    lines = [{"id": f"l{number}", "text": "Good." if number % 3 else ""} for number in range(100)]
    (tmp_path / "c.jsonl").write_bytes(jsonl(*lines))
    refused = commands.run("render", "c.jsonl", "--engine", "espeak", "-o", "out", cwd=tmp_path)
    assert refused.code == 2
    assert refused.err.count("c.jsonl line ") == 20
    assert "... and 14 more" in refused.err
    assert "34 of the corpus' items" in refused.err
    kept = commands.run(
        "render",
        "c.jsonl",
        "--engine",
        "espeak",
        "--format",
        "wav",
        "--skip-invalid",
        "--json",
        "-o",
        "out",
        cwd=tmp_path,
    )
    assert kept.code == 0, kept.err
    assert kept.json["jobs"]["completed"] == 66


def test_hard_texts_are_rendered(tmp_path):
    """A million-character word, a text without any sentence end: strange, but not wrong."""
    (tmp_path / "c.jsonl").write_bytes(
        jsonl(
            {"id": "no-end", "text": "on and on it goes without an end " * 40},
            {"id": "mixed", "text": "Well 😀 <laugh> that's [[h@l'oU]] & <b>bold</b> — 50 % of £3…"},
        )
    )
    answer = commands.run(
        "render", "c.jsonl", "--engine", "espeak", "--format", "wav", "--json", "-o", "out", cwd=tmp_path
    )
    assert answer.code == 0, answer.err
    (tmp_path / "w.jsonl").write_bytes(jsonl({"id": "word", "text": "a" * 1_000_000}))
    estimate = commands.run("estimate", "w.jsonl", "--engine", "espeak", "--json", cwd=tmp_path)
    assert estimate.code == 0, estimate.err
    assert estimate.json["segments"] >= 1_000_000 // 220


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/none/x.db", "mysql://x/y", "no url"]
)
def test_a_database_that_is_not_there(tmp_path, url):
    (tmp_path / "c.jsonl").write_bytes(jsonl(GOOD))
    for line in (("status",), ("render", "c.jsonl", "--engine", "espeak", "-o", "out")):
        answer = commands.run(*line, cwd=tmp_path, VOICEMILL_DATABASE_URL=url)
        assert answer.code == 2, answer.err
        assert answer.err.count("\n") == 1, answer.err
        assert answer.err.startswith("Error: The database")
        assert "Traceback" not in answer.err


def test_a_store_that_forbids_writing(tmp_path):
    (tmp_path / "c.jsonl").write_bytes(jsonl(GOOD))
    answer = commands.run(
        "render", "c.jsonl", "--engine", "espeak", "-o", "out", cwd=tmp_path, VOICEMILL_STORE_URL="/proc/store"
    )
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("Error: The object store")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() != 0:
        answer = commands.run(
            "render",
            "c.jsonl",
            "--engine",
            "espeak",
            "-o",
            "out",
            cwd=tmp_path,
            VOICEMILL_STORE_URL=str(locked),
        )
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "refused" in answer.err


def test_a_store_that_is_full_loses_nothing(tmp_path):
    """A file size limit stands for a full disk: the run ends with one line, and goes on when there is room."""
    import resource
    import subprocess

    text = (
        "A text that is long enough to become a file of more than a hundred kilobytes of sound, it should be hoped. "
        * 2
    )
    (tmp_path / "c.jsonl").write_bytes(
        jsonl(*({"id": f"l{n}", "text": f"Short number {n}."} for n in range(30)), {"id": "long", "text": text})
    )
    line = [*commands.LINE, "render", "c.jsonl", "--engine", "espeak", "--format", "flac", "-o", "out"]

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, resource.RLIM_INFINITY))

    full = subprocess.run(
        line,
        cwd=tmp_path,
        env=commands.environment(),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=120,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert "is full" in full.stderr or "cannot grow" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    again = commands.run(
        "render", "c.jsonl", "--engine", "espeak", "--format", "flac", "--json", "-o", "out", cwd=tmp_path
    )
    assert again.code == 0, again.err
    assert again.json["jobs"]["completed"] == 31


def test_usage_errors_say_what_was_meant(tmp_path):
    typo = commands.run("rendr", "x", cwd=tmp_path)
    assert (typo.code, "Did you mean 'render'?" in typo.err) == (2, True)
    assert commands.run("render", cwd=tmp_path).code == 2
    assert commands.run("status", cwd=tmp_path).err.startswith("Error: There is no Voicemill state")
    assert commands.run("submit", "x.jsonl", cwd=tmp_path).err.count("\n") == 1
    settings = tmp_path / "voicemill.toml"
    settings.write_text('frmat = "mp3"\n')
    unknown = commands.run("config", cwd=tmp_path)
    assert (unknown.code, "no setting 'frmat'" in unknown.err) == (2, True)
    settings.write_text("batch_seconds = 'soon'\n")
    wrong = commands.run("config", cwd=tmp_path)
    assert (wrong.code, "batch_seconds" in wrong.err) == (2, True)


def test_doctor_finds_faults_and_says_what_to_do(tmp_path):
    well = commands.run("doctor", "--json", cwd=tmp_path)
    assert well.code == 0, well.out
    ill = commands.run(
        "doctor",
        cwd=tmp_path,
        VOICEMILL_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        VOICEMILL_FFMPEG="/nowhere/ffmpeg",
    )
    assert ill.code == 1
    assert "bad Database" in ill.out
    assert "bad ffmpeg" in ill.out


def test_secrets_are_masked(tmp_path):
    answer = commands.run(
        "config",
        cwd=tmp_path,
        VOICEMILL_DATABASE_URL="postgresql://me:hunter2@db/x",
        VOICEMILL_BROKER_URL="amqp://me:hunter2@q//",
    )
    assert answer.code == 0, answer.err
    assert "hunter2" not in answer.out + answer.err
    failed = commands.run(
        "status", cwd=tmp_path, VOICEMILL_DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/x"
    )
    assert "hunter2" not in failed.out + failed.err


def test_the_folder_of_ids_is_never_left(tmp_path):
    """Names as long and strange as are allowed end up inside the folder."""
    names = ["x" * 196, "a..b", "-rf", "~root", "$HOME", "naïve café", "%2e%2e"]
    (tmp_path / "c.jsonl").write_bytes(jsonl(*({"id": name, "text": "Inside."} for name in names)))
    answer = commands.run(
        "render", "c.jsonl", "--engine", "espeak", "--format", "wav", "-o", "out", cwd=tmp_path
    )
    assert answer.code == 0, answer.err
    made = {path.name for path in Path(tmp_path / "out").iterdir() if path.suffix == ".wav"}
    assert made == {f"{name}.wav" for name in names}
