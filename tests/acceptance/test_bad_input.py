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
    "an empty custom_id": ("c.jsonl", jsonl({"custom_id": "", "text": "x"}), (), "line 1: the id is empty"),
    "an unknown encoding": ("c.txt", b"Text.", ("--encoding", "utf-9"), "no encoding named 'utf-9'"),
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


def limited(size: int, *arguments: object, cwd: Path, given: bytes = b"", **more: str):
    """Run a command that can make no file larger than so many bytes, which stands for a full disk."""
    import resource
    import subprocess

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return subprocess.run(
        [*commands.LINE, *map(str, arguments)],
        cwd=cwd,
        env=commands.environment(**more),
        input=given,
        capture_output=True,
        preexec_fn=limit,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("source", ["c.jsonl", "-"])
@pytest.mark.parametrize(
    "length", [20, 1000]
)  # short lines fill the list of ids first, long ones that of texts
def test_a_full_temporary_folder_is_named(tmp_path, source, length):
    text = "It goes on and on and on. " * (length // 20)
    lines = jsonl(*({"id": f"line-{n:06}-{'x' * 150}", "text": text} for n in range(4000)))
    (tmp_path / "c.jsonl").write_bytes(lines)
    (tmp_path / "temporary").mkdir()
    line = ("estimate", source, "--engine", "espeak")
    full = limited(300_000, *line, cwd=tmp_path, given=lines, TMPDIR=str(tmp_path / "temporary"))
    told = full.stderr.decode()
    assert full.returncode == 2, told
    assert told.startswith(f"Error: The temporary folder {tmp_path / 'temporary'} cannot take the input: "), (
        told
    )
    assert told.count("\n") == 1
    assert "TMPDIR" in told
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_text_on_standard_input_that_no_disk_takes(tmp_path):
    line = ("estimate", "-", "--engine", "espeak")
    full = limited(300_000, *line, cwd=tmp_path, given=b"It goes on. " * 100_000, TMPDIR=str(tmp_path))
    assert full.returncode == 2, full.stderr
    assert full.stderr.startswith(b"Error: The temporary folder "), full.stderr
    assert full.stderr.count(b"\n") == 1


@pytest.mark.parametrize("found", ["another file", "damage"])
def test_a_database_that_is_none(tmp_path, found):
    (tmp_path / "c.jsonl").write_bytes(jsonl(GOOD))
    line = ("--home", "home", "render", "c.jsonl", "--engine", "espeak", "--format", "wav", "-o", "out")
    if found == "damage":
        assert commands.run(*line, cwd=tmp_path).code == 0
    (tmp_path / "home").mkdir(exist_ok=True)
    path = tmp_path / "home" / "voicemill.db"
    beginning = path.read_bytes()[:4096] if found == "damage" else b""
    path.write_bytes(beginning + b"This is no database. " * 10_000)
    for arguments in (line, ("--home", "home", "status")):
        answer = commands.run(*arguments, cwd=tmp_path)
        assert answer.code == 2, answer.err
        assert "is damaged, or is none: " in answer.err
        assert "move it away" in answer.err
        assert answer.err.startswith("Error: The database")
        assert answer.err.count("\n") == 1


def test_a_broker_that_is_none_is_told_before_anything_is_accepted(tmp_path, sqlite_url):
    (tmp_path / "c.jsonl").write_bytes(jsonl(GOOD))
    url = "http://me:hunter2@nohost/"
    where = {"VOICEMILL_DATABASE_URL": sqlite_url, "VOICEMILL_BROKER_URL": url}
    for line in (("submit", "c.jsonl", "--engine", "espeak"), ("worker",), ("scheduler",), ("flower",)):
        answer = commands.run(*line, cwd=tmp_path, **where)
        assert answer.code == 2, answer.err
        assert answer.err.startswith("Error: The setting broker_url is wrong (VOICEMILL_BROKER_URL): ")
        assert "no broker is reached by http://, but by amqp, amqps, redis, rediss" in answer.err
        assert answer.err.count("\n") == 1
        assert "hunter2" not in answer.err
    assert commands.run("list", "--json", cwd=tmp_path, VOICEMILL_DATABASE_URL=sqlite_url).json == []
    trace = commands.run("--traceback", "config", cwd=tmp_path, VOICEMILL_BROKER_URL=url)
    assert "Traceback" in trace.err
    assert "hunter2" not in trace.err


def test_flower_says_what_it_lacks(tmp_path):
    answer = commands.run("flower", cwd=tmp_path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith("Error: No broker is set.")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['flower'] = None\n")
    path = os.pathsep.join([str(hidden), str(commands.ROOT)])
    broker = "redis://127.0.0.1:1/0"
    answer = commands.run_afresh("flower", cwd=tmp_path, VOICEMILL_BROKER_URL=broker, PYTHONPATH=path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith("Error: Flower is not installed here: pip install 'voicemill[flower]'")


def test_an_encoding_and_the_kind_of_standard_input_can_be_stated(tmp_path):
    (tmp_path / "c.txt").write_bytes("Größe und Länge.".encode("cp1252"))
    line = ("estimate", "--engine", "espeak", "--json")
    refused = commands.run(*line, "c.txt", cwd=tmp_path)
    assert (refused.code, "state its encoding (--encoding)" in refused.err) == (2, True)
    read = commands.run(*line, "c.txt", "--encoding", "cp1252", cwd=tmp_path)
    assert (read.code, read.json["characters"]) == (0, len("Größe und Länge.")), read.err
    braces = "{Enter} is a key of the board."
    refused = commands.run(*line, "-", cwd=tmp_path, given=braces)
    assert (refused.code, "standard input line 1: is no JSON" in refused.err) == (2, True)
    read = commands.run(*line, "-", "--stdin-format", "text", cwd=tmp_path, given=braces)
    assert (read.code, read.json["jobs"]) == (0, 1), read.err


def test_a_file_whose_name_is_no_text_is_rendered(tmp_path):
    name, out = os.fsdecode(b"caf\xe9.txt"), os.fsdecode(b"sali\xe8re")
    (tmp_path / name).write_text("A text in a file from long ago.")
    line = ("render", name, "--engine", "espeak", "--format", "wav", "-o", out)
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as in most locales; in C's, Python is lenient
    answer = commands.run_afresh(*line, "--json", cwd=tmp_path, **strict)
    assert answer.code == 0, answer.err
    assert (answer.json["source"], answer.json["out"]) == ("caf\ufffd.txt", out)
    assert [path.name for path in (tmp_path / out).glob("*.wav")] == ["caf-.wav"]
    again = commands.run_afresh(*line, cwd=tmp_path, **strict)
    assert (again.code, "Listen: sali" in again.out) == (0, True), again.err


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
    for url in ("amqp://a:hunter2@q//;amqp://b:hunter2@r//", "amqp://a@q//;amqp://b:hun/hunter2@r//"):
        several = commands.run("config", cwd=tmp_path, VOICEMILL_BROKER_URL=url)
        assert "hunter2" not in several.out + several.err
    query = "postgresql://db/x?user=me&password=hunter2&sslmode=require"
    answer = commands.run("config", cwd=tmp_path, VOICEMILL_DATABASE_URL=query)
    assert (answer.code, "hunter2" in answer.out) == (0, False)
    nonsense = commands.run("config", cwd=tmp_path, VOICEMILL_DATABASE_URL="hunter2")
    assert (nonsense.code, "hunter2" in nonsense.out + nonsense.err) == (0, False)
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
