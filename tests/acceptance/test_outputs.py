"""What a listener gets: several files of one rendering, at their level, with times that fit the sound."""

import json
import re
import subprocess
import zlib
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest

from tests import commands
from workers.audio import acx_file, ffmpeg

BOOK = """# The Lamp

The lamps were lit at four. Nobody knew why. Quill Street lay in the fog, and the boy who lit them counted each one aloud.

He had counted forty when the first went out.

# The Fog

"Who is there?" he asked, and held up his pole. There was no answer, only steps that came nearer and stopped.

Then the last lamp in the street went out as well, and in the dark somebody laughed.
"""


def png(path: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = chunk(b"IHDR", bytes([0, 0, 0, 4, 0, 0, 0, 4, 8, 2, 0, 0, 0]))
    data = chunk(b"IDAT", zlib.compress((b"\0" + b"\xff\0\0" * 4) * 4))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))
    return path


def decoded(path: Path, rate: int) -> np.ndarray:
    command = [str(ffmpeg.find()), "-loglevel", "error", "-i", str(path), "-map", "0:a", "-ar", str(rate)]
    sound = subprocess.run([*command, "-f", "s16le", "pipe:1"], capture_output=True, check=True).stdout
    return np.frombuffer(sound, dtype="<i2").astype(float)


def ebur128(path: Path) -> tuple[float, float]:
    """Loudness (LUFS) and true peak (dBTP) as ffmpeg measures them."""
    command = [ffmpeg.find(), "-nostdin", "-i", path, "-map", "0:a", "-af", "ebur128=framelog=quiet:peak=true"]
    told = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    (loudness,) = re.findall(r"I:\s+(-?[\d.]+) LUFS", told)
    (peak,) = re.findall(r"Peak:\s+(-?[\d.]+) dBFS", told)
    return float(loudness), float(peak)


def render(folder: Path, *more: str) -> tuple[dict[str, Any], Path]:
    out = folder / "out"
    answer = commands.run("render", "book.md", "--engine", "espeak", "-o", out, *more, cwd=folder)
    assert answer.code == 0, answer.err
    (line,) = (out / "results.jsonl").read_text().splitlines()
    return json.loads(line), out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "book.md").write_text(BOOK)
    png(tmp_path / "cover.png")
    return tmp_path


def test_one_rendering_several_files(folder: Path) -> None:
    asked = (
        "--format",
        "m4b,flac",
        "--format",
        "mp3",
        "--preset",
        "acx",
        "--loudness",
        "-16",
        "--split",
        "book",
    )
    more = ("--sample-rate", "44100", "--cover", "cover.png", "--captions", "vtt,srt,json", "--json")
    result, out = render(folder, *asked, *more)
    made = {each["audio"]: each for each in result["deliverables"]}
    assert list(made) == ["book.m4b", "book.flac", "book.mp3", "acx/book.mp3"]
    timing = json.loads((out / "book.timing.json").read_text())
    last = timing["segments"][-1]
    cues = re.findall(r"(\d+):(\d+):([\d.]+) --> (\d+):(\d+):([\d.]+)", (out / "book.vtt").read_text())
    ends = int(cues[-1][3]) * 3600 + int(cues[-1][4]) * 60 + float(cues[-1][5])
    assert ends == pytest.approx(last["end"], abs=0.001)

    # Then: each is at its level, carries the picture, and says what it holds
    for name, each in made.items():
        path = out / name
        file = mutagen.File(path)
        assert file.info.sample_rate == each["sample_rate"] == 44100
        assert file.info.length == pytest.approx(result["seconds"], abs=0.06)
        told = subprocess.run([ffmpeg.find(), "-i", path], capture_output=True, text=True, check=False).stderr
        assert "attached pic" in told
        if not name.endswith("flac"):
            assert re.findall(r"title +: (The \w+)", told) == ["The Lamp", "The Fog"]
        if name.startswith("acx/"):
            assert (file.info.bitrate, file.info.channels) == (192_000, 1)
            measured = acx_file.measure(path)
            assert measured.problem() is None
            assert measured.rms == pytest.approx(each["measured"]["rms"])
        else:
            loudness, peak = ebur128(path)
            assert loudness == pytest.approx(-16, abs=0.5)
            if name.endswith("flac"):
                assert peak <= -0.9

    # And: the last word is where the captions say, in every file, to 20 ms
    rate = 44100
    sounds = {name: decoded(out / name, rate) for name in made}
    for name, sound in sounds.items():
        loud = np.flatnonzero(np.abs(sound) > 400) / rate
        spoken = loud[(loud > last["start"] - 0.2) & (loud < last["end"] + 0.2)]
        assert last["start"] - 0.02 <= spoken[0] <= last["start"] + 0.08, (
            name
        )  # 40 ms of what is quiet stay before it
        assert last["end"] - 0.15 <= spoken[-1] <= last["end"] + 0.02, name
        given, got = sounds["book.flac"], sound
        begin, size = int(last["start"] * rate), 1 << 16
        match = np.fft.irfft(
            np.fft.rfft(got[begin:][:size], size) * np.conj(np.fft.rfft(given[begin:][:size], size))
        )
        lag = int(np.argmax(match))
        assert abs(lag - size if lag > size // 2 else lag) <= 0.002 * rate, name

    # And: the same again is nothing to do
    again = commands.run("render", "book.md", "--engine", "espeak", "-o", out, *asked, *more, cwd=folder)
    assert again.json["files_written"] == 0
    assert again.json["files_kept"] == 7


def test_the_same_takes_serve_another_level_and_a_file_a_chapter(folder: Path) -> None:
    """Nothing is rendered again for another format, and each file of a book in chapters has its own level."""
    render(folder, "--format", "wav", "--split", "book")
    answer = commands.run(
        *(
            "render",
            "book.md",
            "--engine",
            "espeak",
            "-o",
            folder / "out",
            "--format",
            "wav",
            "--loudness",
            "-20",
        ),
        *("--split", "chapter"),
        cwd=folder,
    )
    assert answer.code == 0, answer.err
    results = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    assert [each["title"] for each in results] == ["The Lamp", "The Fog"]
    for each in results:
        assert ebur128(folder / "out" / each["audio"])[0] == pytest.approx(-20, abs=0.5)


def test_what_acx_would_not_take_is_told(folder: Path) -> None:
    """One word between two and a half seconds of silence is too quiet as a whole, and no limiter lets it be louder."""
    (folder / "book.md").write_text("Yes.")
    answer = commands.run(
        *("render", "book.md", "--engine", "espeak", "-o", folder / "out", "--preset", "acx"), cwd=folder
    )
    assert answer.code == 1
    (line,) = (folder / "out" / "errors.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert told["state"] == "needs_review"
    assert "ACX would not take it: its RMS is" in told["detail"]


def test_every_wish_that_cannot_be_met_is_one_line(folder: Path) -> None:
    for more, reason in {
        ("--format", "mp3", "--sample-rate", "44000"): "has no sample rate of 44000 Hz",
        ("--cover", "book.md"): "it is neither PNG nor JPEG",
        ("--preset", "acs"): "'acs' is not 'acx'",
    }.items():
        answer = commands.run("render", "book.md", "--engine", "espeak", "-o", "out", *more, cwd=folder)
        assert answer.code == 2
        assert reason in answer.err
        assert "Traceback" not in answer.err
