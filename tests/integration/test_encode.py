"""Files made by a real ffmpeg, read back by another program and by ffmpeg itself."""

import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest

from storage import errors
from workers.audio import encode, ffmpeg, formats
from workers.audio.encode import Chapter, Encoder, Output

RATE = 24000
SECONDS = 5
FORMATS = list(formats.FORMATS)
TAGS = {"title": "Emma; a = b", "artist": "Jane Austen", "album": "Novels", "track": "2/7", "language": "en-GB"}
CHAPTERS = [Chapter("One", 0, 2 * RATE), Chapter("Two: “ü”", 2 * RATE, SECONDS * RATE)]


@pytest.fixture(scope="module")
def pcm() -> bytes:
    """Five seconds of a gliding tone with some noise."""
    times = np.arange(SECONDS * RATE) / RATE
    wave_ = 6000 * np.sin(2 * np.pi * (200 + 40 * times) * times) + np.random.default_rng(3).normal(
        0, 200, len(times)
    )
    return wave_.astype("<i2").tobytes()


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cover") / "a %03d cover: #1.png"
    picture = ["-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", "-f", "image2", "-update", "1"]
    subprocess.run([str(ffmpeg.find()), "-loglevel", "error", *picture, f"file:{path}"], check=True)
    return path


def make(path: Path, pcm: bytes, name: str, **options: Any) -> bytes:
    with Encoder(path, name, RATE, **options) as encoder:
        for start in range(0, len(pcm), 10_000):
            encoder.write(pcm[start : start + 10_000])
    return path.read_bytes()


def decode(path: Path, rate: int = RATE) -> np.ndarray:
    output = ["-map", "0:a", "-f", "s16le", "-ar", str(rate), "pipe:1"]
    command = [str(ffmpeg.find()), "-loglevel", "error", "-i", f"file:{path}", *output]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype="<i2").astype(
        float
    )


def told(path: Path) -> str:
    """What ffmpeg tells of a file."""
    return subprocess.run([ffmpeg.find(), "-i", path], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("name", FORMATS)
def test_the_sound_comes_back(tmp_path: Path, pcm: bytes, name: str) -> None:
    path = tmp_path / f"out.{name}"
    make(path, pcm, name)
    given, got = np.frombuffer(pcm, dtype="<i2").astype(float), decode(path)
    if name in ("wav", "flac"):
        assert (given == got).all()
        return
    assert abs(len(got) - len(given)) < 0.1 * RATE
    lag = max(
        range(-2500, 2500, 1), key=lambda lag: float(np.dot(given[5000:9000], got[5000 + lag : 9000 + lag]))
    )
    shifted = got[max(0, lag) :][: len(given) - 5000]
    error = given[max(0, -lag) :][: len(shifted)] - shifted
    assert np.sqrt((error[2000:-2000] ** 2).mean()) < 0.15 * np.sqrt((given**2).mean())


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_every_time(tmp_path: Path, pcm: bytes, cover: Path, name: str) -> None:
    """Neither the time nor the place nor the pieces it came in are to be seen in a file."""
    options: dict[str, Any] = {"tags": TAGS, "chapters": CHAPTERS, "cover": cover}
    first = make(tmp_path / "first", pcm, name, **options)
    with Encoder(tmp_path / f"2nd.{name}", name, RATE, **options) as encoder:
        encoder.write(pcm)
    assert hashlib.sha256((tmp_path / f"2nd.{name}").read_bytes()).digest() == hashlib.sha256(first).digest()
    assert b"Lavf6" not in first
    assert b"/tmp" not in first


@pytest.mark.parametrize("name", ["flac", "mp3", "opus", "m4b"])
def test_tags_chapters_and_cover(tmp_path: Path, pcm: bytes, cover: Path, name: str) -> None:
    path = tmp_path / f"out.{name}"
    make(path, pcm, name, tags=TAGS, chapters=CHAPTERS, cover=cover)
    kind = formats.FORMATS[name]
    file = mutagen.File(path)
    assert file.info.length == pytest.approx(SECONDS, abs=0.1)
    easy = mutagen.File(path, easy=True)
    assert easy["title"] == ["Emma; a = b"]
    assert easy["artist"] == ["Jane Austen"]
    assert easy["album"] == ["Novels"]
    text = told(path)
    assert ("Two: “ü”" in text) is kind.chapters
    assert (text.count("Chapter #") == 2) is kind.chapters
    assert ("attached pic" in text) is kind.cover
    if kind.chapters:
        assert "start 2.000000, end 5.0" in text
    assert ("(eng)" in text) is (name in ("opus", "m4b"))
    if name == "mp3":
        assert file.tags.getall("APIC")[0].type == 3
        assert [str(frame.sub_frames["TIT2"]) for frame in file.tags.getall("CHAP")] == ["One", "Two: “ü”"]
        assert file.tags.getall("TLAN")[0].text == ["eng"]
        assert file.info.bitrate == 64_000
    if name == "m4b":
        assert file["covr"]
        assert file["stik"] == [2]
        assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat"), (
            "playing starts before the end is there"
        )


@pytest.mark.parametrize(("count", "nero"), [(255, True), (256, False), (400, False)])
def test_more_chapters_than_a_byte_counts(tmp_path: Path, pcm: bytes, count: int, nero: bool) -> None:
    path = tmp_path / "book.m4b"
    step = SECONDS * RATE // count
    make(path, pcm, "m4b", chapters=[Chapter(f"Part {n}", n * step, (n + 1) * step) for n in range(count)])
    assert (b"chpl" in path.read_bytes()) is nero
    assert told(path).count("Chapter #") == count


def test_a_wav_is_what_everyone_reads(tmp_path: Path, pcm: bytes) -> None:
    make(tmp_path / "out.wav", pcm, "wav", tags=TAGS)
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getframerate() == RATE
        assert file.readframes(file.getnframes()) == pcm


@pytest.mark.parametrize("name", FORMATS)
def test_another_sample_rate(tmp_path: Path, pcm: bytes, name: str) -> None:
    path = tmp_path / f"out.{name}"
    make(path, pcm, name, target_rate=48000)
    assert "48000 Hz, mono" in told(path)
    assert len(decode(path, 48000)) / 48000 == pytest.approx(SECONDS, abs=0.1)


def test_the_bitrate_that_acx_asks_for(tmp_path: Path, pcm: bytes) -> None:
    make(tmp_path / "out.mp3", pcm, "mp3", bitrate="192k")
    info = mutagen.File(tmp_path / "out.mp3").info
    assert (info.bitrate, info.sample_rate, info.channels) == (192_000, 44100, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path, pcm: bytes, name: str) -> None:
    with pytest.raises(ZeroDivisionError), Encoder(tmp_path / f"out.{name}", name, RATE) as encoder:
        encoder.write(pcm)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path, pcm: bytes) -> None:
    path = tmp_path / "out.flac"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), Encoder(path, "flac", RATE) as encoder:
        encoder.write(pcm)
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    make(path, pcm, "flac")
    assert path.read_bytes()[:4] == b"fLaC"


def test_half_a_character_in_a_title(tmp_path: Path, pcm: bytes) -> None:
    make(tmp_path / "out.flac", pcm, "flac", tags={"title": "A \ud83d title"})
    assert mutagen.File(tmp_path / "out.flac", easy=True)["title"] == ["A ? title"]


def test_names_that_mean_something_to_ffmpeg(tmp_path: Path, pcm: bytes) -> None:
    path = tmp_path / "-i http:%03d 'x' \n#.mp3"
    make(path, pcm, "mp3")
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def process_of(encoder: Encoder) -> int:
    sink = encoder._sink
    assert isinstance(sink, ffmpeg.Run)
    return sink.pid


@pytest.mark.parametrize("name", ["flac", "m4b"])
def test_an_ffmpeg_that_dies_is_one_error(tmp_path: Path, pcm: bytes, name: str) -> None:
    with (
        pytest.raises(encode.EncodeError, match=r"out could not be written: ffmpeg was ended by signal 9\."),
        Encoder(tmp_path / "out", name, RATE) as encoder,
    ):
        encoder.write(pcm)
        os.kill(process_of(encoder), signal.SIGKILL)
        while True:
            encoder.write(pcm)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["flac", "mp3", "m4b", "wav"])
def test_a_full_disk_is_one_error(small_disk: Path, pcm: bytes, name: str) -> None:
    with (
        pytest.raises(encode.EncodeError, match=r"could not be written: .*No space left on device"),
        Encoder(small_disk / "out", name, RATE) as encoder,
    ):
        for _ in range(200):
            encoder.write(pcm)
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte, where this user may mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_file_that_may_not_grow_is_one_error(tmp_path: Path, pcm: bytes) -> None:
    """The same as a full disk, for every user: ffmpeg is told of a limit."""
    path = tmp_path / "out"
    with (
        pytest.raises(encode.EncodeError, match="could not be written"),
        Encoder(path, "flac", RATE) as encoder,
    ):
        resource.prlimit(process_of(encoder), resource.RLIMIT_FSIZE, (100_000, 100_000))
        for _ in range(200):
            encoder.write(pcm)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(encode.EncodeError, match="No such file or directory"),
        Encoder(tmp_path / "no" / "x", "mp3", RATE),
    ):
        pass


def test_memory_does_not_grow_with_the_book(tmp_path: Path, pcm: bytes) -> None:
    """Ten minutes of sound are 29 MB of PCM; neither this process nor ffmpeg may hold more than a little of it."""
    with Encoder(tmp_path / "out.flac", "flac", RATE) as encoder:
        encoder.write(pcm)
        before = resident(os.getpid()), resident(process_of(encoder))
        for _ in range(10 * 60 // SECONDS):
            encoder.write(pcm)
        after = resident(os.getpid()), resident(process_of(encoder))
    assert after[0] - before[0] < 15_000
    assert after[1] - before[1] < 20_000


def resident(pid: int) -> int:
    """Memory in use, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_covers_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "cover.png"
    text.write_text("no picture")
    for path, reason in [(text, "neither PNG nor JPEG"), (tmp_path / "none.jpg", "No such file")]:
        with (
            pytest.raises(encode.BadCoverError, match=reason),
            Encoder(tmp_path / "out.mp3", "mp3", RATE, cover=path),
        ):
            pass
    assert list(tmp_path.iterdir()) == [text]


def test_many_at_once_are_the_same_bytes(tmp_path: Path, pcm: bytes, cover: Path) -> None:
    """More than one ffmpeg takes, of every format, of different lengths, with and without words and pictures."""
    (tmp_path / "many").mkdir()
    outputs = []
    for n in range(24):
        kind = formats.FORMATS[FORMATS[n % len(FORMATS)]]
        path = tmp_path / "many" / f"{n}.{kind.suffix}"
        output = Output(
            path,
            kind,
            RATE,
            tags=TAGS if n % 2 else {},
            chapters=CHAPTERS if n % 3 else (),
            cover=cover if n % 4 == 1 else None,
            target_rate=16000 if n % 7 == 3 else None,
        )
        outputs.append((output, pcm[: 2 * RATE * (1 + n % 5)]))
    encode.encode_many(iter(outputs))
    assert len(list((tmp_path / "many").iterdir())) == 24
    for output, sound in outputs[::3]:
        single = make(
            tmp_path / "single",
            sound,
            output.format.name,
            tags=output.tags,
            chapters=output.chapters,
            cover=output.cover,
            target_rate=output.target_rate,
        )
        assert output.path.read_bytes() == single, output.path.name


def test_one_bad_among_many_is_named(tmp_path: Path, pcm: bytes) -> None:
    broken = tmp_path / "cover.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    outputs = [(Output(tmp_path / f"{n}.mp3", formats.FORMATS["mp3"], RATE), pcm) for n in range(3)]
    outputs.insert(2, (Output(tmp_path / "bad.mp3", formats.FORMATS["mp3"], RATE, cover=broken), pcm))
    with pytest.raises(encode.EncodeError, match=r"bad\.mp3 could not be written"):
        encode.encode_many(outputs)
    assert {path.name for path in tmp_path.iterdir()} == {"cover.png", "0.mp3", "1.mp3"}


def test_none_of_many() -> None:
    encode.encode_many([])


def test_the_ffmpeg_that_the_settings_name(tmp_path: Path, pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that writes more to stderr than any pipe holds, and then fails."""
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfor n in range(30000): print('complaint', n, file=sys.stderr)\nsys.exit(3)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("VOICEMILL_FFMPEG", str(program))
    with (
        pytest.raises(encode.EncodeError, match="complaint 29999"),
        Encoder(tmp_path / "x.mp3", "mp3", RATE) as encoder,
    ):
        encoder.write(pcm)
    assert list(tmp_path.iterdir()) == [program]


def test_an_ffmpeg_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMILL_FFMPEG", str(tmp_path / "none"))
    with (
        pytest.raises(ffmpeg.FfmpegMissingError, match="No such file") as caught,
        Encoder(tmp_path / "x", "mp3", RATE),
    ):
        pass
    assert isinstance(caught.value, errors.InputError)
    assert list(tmp_path.iterdir()) == []
