"""Reels of real encoders, joined: as long as one encoder's file to the sample, and nothing heard of the cuts."""

import subprocess
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest

from storage import keys as key_layout
from storage import objects, segments
from workers import deliverables, reels
from workers.audio import encode, ffmpeg, formats, splice, wav
from workers.audio.splice import BadReelError, Kept, mp3, mp4, ogg
from workers.programme import Programme, Reader

RATE = 22050
TAKES = 12
CHAPTERS = 4


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Programme]:
    """A store with takes of two to four seconds, and the programme that they make."""
    store = objects.open_store(str(tmp_path_factory.mktemp("book") / "store"))
    random = np.random.default_rng(5)
    parts = []
    for at in range(TAKES):
        count = int(random.uniform(2, 4) * RATE)
        times = np.arange(count) / RATE
        sound = sum(np.sin(2 * np.pi * (110 + 9 * at) * n * times) / n for n in range(1, 15))
        sound = 5000 * sound * np.abs(np.sin(2 * np.pi * 1.7 * times)) + random.normal(0, 60, count)
        fade = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / 110)
        pcm = (sound * fade).astype("<i2").tobytes()
        store.put(key_layout.take(f"{at:064}"), wav.wrap(pcm, RATE))
        chapter = f"Chapter {at}" if at % (TAKES // CHAPTERS) == 0 else None
        parts.append(segments.Part(at, "", chapter, (250, 600)[at % 2], f"{at:064}", count, RATE, None, None))
    return store, Programme.of(parts)


@pytest.fixture
def short_reels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reels, "REEL_SECONDS", 6.0)
    monkeypatch.setattr(reels, "LONG_SECONDS", 12.0)


def output(folder: Path, name: str, programme: Programme, wanted: deliverables.Deliverable) -> encode.Output:
    return encode.Output(
        folder / name,
        wanted.kind,
        programme.sample_rate,
        chapters=programme.chapters(),
        tags={"title": "A Book", "artist": "Ä. Nobody", "language": "en"},
        target_rate=wanted.sample_rate,
        bitrate=wanted.bitrate,
    )


def joined(
    book: tuple[Any, Programme], folder: Path, wanted: deliverables.Deliverable, order: int = 1
) -> tuple[Path, list[reels.Reel]]:
    store, programme = book
    planned = reels.plan(programme, wanted, None)
    for reel in planned[::order]:
        store.delete([key_layout.reel(reel.key)])
        reels.make(store, reel, folder)
    out = output(folder, f"joined{order}", programme, wanted)
    reels.join(store, planned, out, reels.file_samples(programme, out.file_rate))
    return out.path, planned


def single(book: tuple[Any, Programme], folder: Path, wanted: deliverables.Deliverable) -> Path:
    store, programme = book
    out = output(folder, f"single.{wanted.format}", programme, wanted)
    with encode.Encoder.of(out) as encoder:
        for pcm in Reader(store).stream(programme.strips()):
            encoder.write(pcm)
    return out.path


def decoded(path: Path, rate: int) -> np.ndarray:
    command = [str(ffmpeg.find()), "-loglevel", "error", "-i", f"file:{path}", "-map", "0:a", "-f", "s16le"]
    sound = subprocess.run([*command, "-ar", str(rate), "pipe:1"], capture_output=True, check=True).stdout
    return np.frombuffer(sound, dtype="<i2").astype(float)


def noise(sound: np.ndarray, given: np.ndarray) -> float:
    size = min(len(sound), len(given))
    return float(np.sqrt(((sound[:size] - given[:size]) ** 2).mean()))


@pytest.mark.usefixtures("short_reels")
@pytest.mark.parametrize(
    ("name", "rate"), [("m4b", None), ("m4b", 44100), ("mp3", None), ("mp3", 44100), ("opus", None)]
)
def test_a_joined_file_is_as_good_as_one_encoders(
    book: tuple[Any, Programme], tmp_path: Path, name: str, rate: int | None
) -> None:
    programme = book[1]
    wanted = deliverables.checked(name, sample_rate=rate)
    path, planned = joined(book, tmp_path, wanted)
    assert len(planned) >= 4
    file_rate = planned[0].file_rate
    got, other = decoded(path, file_rate), decoded(single(book, tmp_path, wanted), file_rate)
    plain = single(book, tmp_path, deliverables.checked("flac", sample_rate=file_rate))
    given = decoded(plain, file_rate)
    # Then: the length is exact, and so is the sound, as far as the encoder goes
    assert len(got) == reels.file_samples(programme, file_rate) == len(given)
    assert noise(got, given) < 1.05 * noise(other, given)
    # And: around each cut there is silence, as if nothing had been cut
    frame = splice.of_format(name).frame(file_rate)  # type: ignore[union-attr]
    at = 0
    for reel in planned[:-1]:
        at += (reel.count or 0) * frame
        around = slice(at - frame, at + frame // 4)
        assert np.abs(given[around]).max() <= 1
        assert np.abs(got[around]).max() <= np.abs(other[around]).max() + 3
        assert np.abs(np.diff(got[around])).max() <= 3
        after = slice(at, at + 2 * file_rate)
        assert noise(got[after], given[after]) < 1.5 * noise(other[after], given[after]) + 1
    # And: nobody complains of it, and what it says of itself is the same
    checked = [str(ffmpeg.find()), "-v", "warning", "-xerror", "-i", f"file:{path}", "-f", "null", "-"]
    assert subprocess.run(checked, capture_output=True, check=True).stderr == b""
    for told in (path, tmp_path / f"single.{name}"):
        file = mutagen.File(told)
        assert file.info.length == pytest.approx(programme.seconds, abs=0.08)
        text = subprocess.run([ffmpeg.find(), "-i", told], capture_output=True, text=True, check=False).stderr
        assert text.count("Chapter #") == CHAPTERS
        assert "Ä. Nobody" in text


@pytest.mark.usefixtures("short_reels")
@pytest.mark.parametrize("name", ["m4b", "mp3", "opus"])
def test_the_bytes_do_not_tell_who_made_which_reel_first(
    book: tuple[Any, Programme], tmp_path: Path, name: str
) -> None:
    wanted = deliverables.checked(name)
    one, _ = joined(book, tmp_path, wanted)
    other, _ = joined(book, tmp_path, wanted, order=-1)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.usefixtures("short_reels")
@pytest.mark.parametrize("name", ["m4b", "mp3", "opus"])
def test_a_player_can_jump(book: tuple[Any, Programme], tmp_path: Path, name: str) -> None:
    """Decoding from 20 s on gives what decoding all of it gives there; so does one encoder's file, as far off as that."""
    wanted = deliverables.checked(name)
    off = []
    path, planned = joined(book, tmp_path, wanted)
    for file in (path, single(book, tmp_path, wanted)):
        rate = planned[0].file_rate
        command = [str(ffmpeg.find()), "-loglevel", "error", "-ss", "20", "-i", f"file:{file}", "-map", "0:a"]
        command += ["-t", "1", "-ar", str(rate), "-f", "s16le", "pipe:1"]
        part = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype="<i2")
        part = part[:8000].astype(float)
        whole = decoded(file, rate)
        off.append(
            min(
                range(-3000, 3000, 1),
                key=lambda lag: float(np.abs(whole[20 * rate + lag :][: len(part)] - part).sum()),
            )
        )
    assert off[0] == off[1]


def test_many_chapters_and_a_cover_are_carried_over(
    book: tuple[Any, Programme], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More chapters than MP4's older list can count, and both files still have the picture."""
    monkeypatch.setattr(reels, "REEL_SECONDS", 6.0)
    monkeypatch.setattr(reels, "LONG_SECONDS", 12.0)
    store, programme = book
    cover = tmp_path / "cover.png"
    picture = ["-f", "lavfi", "-i", "color=red:s=16x16", "-frames:v", "1", "-f", "image2", f"file:{cover}"]
    subprocess.run([str(ffmpeg.find()), "-loglevel", "error", *picture], check=True)
    step = programme.samples // 300
    chapters = [encode.Chapter(f"Part {n}", n * step, (n + 1) * step) for n in range(300)]
    for name in ("m4b", "mp3"):
        wanted = deliverables.checked(name)
        planned = reels.plan(programme, wanted, None)
        for reel in planned:
            reels.make(store, reel, tmp_path)
        out = encode.Output(
            tmp_path / f"book.{name}", wanted.kind, RATE, chapters=chapters, tags={"title": "T"}, cover=cover
        )
        reels.join(store, planned, out, programme.samples)
        text = subprocess.run(
            [ffmpeg.find(), "-i", out.path], capture_output=True, text=True, check=False
        ).stderr
        assert text.count("Chapter #") == 300
        assert "Part 299" in text
        assert "attached pic" in text
        assert (b"chpl" in out.path.read_bytes()) is False


def test_thirty_hours_need_longer_numbers(tmp_path: Path) -> None:
    """Chapters that end after more samples than 32 bits count: ffmpeg then writes the head in another version."""
    rate, hour = 48000, 3600 * 48000
    chapters = [encode.Chapter(f"Hour {n}", n * hour, (n + 1) * hour) for n in range(30)]
    out = encode.Output(tmp_path / "head.m4b", formats.FORMATS["m4b"], rate, chapters=chapters)
    with encode.Encoder.of(out) as encoder:
        encoder.write(bytes(9600))
    reel = encode.Output(tmp_path / "reel", formats.FORMATS["m4b"], rate)
    count = rate * 3 + 17
    encode.stretch(reel, count, ("-f", "adts"), [bytes(2 * count)])
    path = tmp_path / "book.m4b"
    with path.open("wb") as file:
        mp4.join(file, out.path.read_bytes(), [Kept(reel.path.read_bytes(), 0, None)], count, rate)
    text = subprocess.run([ffmpeg.find(), "-i", path], capture_output=True, text=True, check=False).stderr
    assert text.count("Chapter #") == 30
    assert "start 104400.000000, end 108000.000000" in text
    assert len(decoded(path, rate)) == count
    assert mutagen.File(path).info.length == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("kind", [mp3, mp4, ogg])
def test_what_is_no_reel_is_refused(kind: Any, tmp_path: Path) -> None:
    name = {mp3: "mp3", mp4: "m4b", ogg: "opus"}[kind]
    rate = 24000
    out = encode.Output(tmp_path / "head", formats.FORMATS[name], rate)
    with encode.Encoder.of(out) as encoder:
        encoder.write(bytes(4800))
    with (tmp_path / "out").open("wb") as file, pytest.raises(BadReelError):
        kind.join(file, out.path.read_bytes(), [Kept(b"no frame at all" * 9, 0, None)], rate, rate)
