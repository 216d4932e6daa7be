"""From takes to a book: time, memory and exactness of assembly, beside ffmpeg's own concat and encode of the same WAVs.

    python benchmarks/assembly.py [--hours 30] [--formats m4b wav] [--rounds 2] [--loudness -16] [--workers N]

Takes are real speech by espeak, some minutes of it, repeated for as many hours as asked for: one job, one book with a chapter
every five minutes. Ours assembles as the embedded loop does, one thread a core. Theirs is one ffmpeg that is given the takes'
own files and silences of the same lengths as a list, with the same encoder settings, tags and chapters. Both sides take turns,
the order swapped every round. Memory is the sum over the process and all its children, looked at twenty times a second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scheduler import accept, lexicon, options, planner  # noqa: E402
from scheduler.document import Block, Document  # noqa: E402
from storage import batches, keys, migrate, results, segments, states  # noqa: E402
from storage.database import Database  # noqa: E402
from storage.models import Job  # noqa: E402
from storage.objects import open_store  # noqa: E402
from workers import assemble, render, voices  # noqa: E402
from workers.audio import ffmpeg, formats, metadata, wav  # noqa: E402
from workers.engines.espeak import SPEC  # noqa: E402
from workers.programme import Programme  # noqa: E402

PARAGRAPHS = 60  # different ones
CHAPTER_SECONDS = 300.0
SAMPLED = 0.05  # seconds between two looks at memory
MB = 1e6


@dataclass
class Book:
    """A job whose takes are in the store, and where it lies."""

    database: Database
    store: Any
    folder: Path
    job_id: int
    programme: Programme

    def row(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(sa.select(Job).where(Job.c.id == self.job_id)).one()


def text(number: int) -> str:
    """A paragraph unlike the others, of two segments or so."""
    return (
        f"In the year {1700 + number * 7}, when the river had frozen over for the {number + 2}th time, the lamplighter of the "
        f"lower town counted {number * 13 + 5} lamps that would not burn. He wrote the number down, as he had done every "
        "night, and went home by the bridge, where nobody was waiting. The snow had stopped by then."
    )


def book(folder: Path, hours: float, wanted: Sequence[str], loudness_wanted: float | None) -> Book:
    """Render some paragraphs and accept a book that repeats them."""
    database = Database(f"sqlite:///{folder / 'voicemill.db'}")
    migrate.upgrade(database)
    store = open_store(str(folder / "store"))
    corpus = options.CorpusOptions(
        format=",".join(wanted), captions=("vtt", "srt", "json"), loudness=loudness_wanted
    )
    resolver = options.Resolver(SPEC, corpus, voices.load(None))
    how = accept.How(spec=SPEC, resolver=resolver, lexicon=lexicon.Lexicon())
    engine = SPEC.load()
    try:
        mill = render.Mill(database, store, SPEC, engine, "benchmark")
        accepted(database, how, "sample", [Block(text(number)) for number in range(PARAGRAPHS)])
        render_all(mill)
        with database.read() as connection:
            job_id = connection.execute(sa.select(Job.c.id)).scalar_one()
            seconds = Programme.of(segments.parts(connection, job_id)).seconds
        count = max(PARAGRAPHS, round(hours * 3600 / seconds * PARAGRAPHS))
        a_chapter = max(1, round(CHAPTER_SECONDS / seconds * PARAGRAPHS))
        blocks = [
            Block(text(at % PARAGRAPHS), f"Chapter {at // a_chapter + 1}" if at % a_chapter == 0 else None)
            for at in range(count)
        ]
        with database.write() as connection:
            connection.execute(sa.update(Job).values(state=states.Job.CANCELLED))
        accepted(database, how, "book", blocks)
        render_all(mill)
    finally:
        engine.close()
    with database.read() as connection:
        job_id = connection.execute(sa.select(sa.func.max(Job.c.id))).scalar_one()
        return Book(database, store, folder, job_id, Programme.of(segments.parts(connection, job_id)))


def accepted(database: Database, how: accept.How, name: str, blocks: Sequence[Block]) -> None:
    document = Document(name, blocks, name, title="The Lamplighter", author="Nobody", language="en")
    with accept.stage([document], how) as staged:
        accept.accept(
            database, staged, name=name, source="benchmark", corpus_options={}, priority=states.Priority.NORMAL
        )


def render_all(mill: render.Mill) -> None:
    while True:
        planner.plan(mill.database, SPEC.pool, planner.Plan(workers=1, linger_seconds=0))
        with mill.database.read() as connection:
            batch_id = batches.next_ready(connection, SPEC.pool)
        if batch_id is None:
            return
        render.run(mill, batch_id, threading.Event())


@dataclass
class Peak:
    """The most memory that this process and its children had at once, and how it was shared."""

    bytes: int = 0
    own: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.closed.wait(SAMPLED):
            own, children = resident(os.getpid()), sum(map(resident, children_of(os.getpid())))
            self.own = max(self.own, own)
            self.bytes = max(self.bytes, own + children)


@contextmanager
def watched() -> Iterator[Peak]:
    peak = Peak()
    thread = threading.Thread(target=peak.watch)
    thread.start()
    try:
        yield peak
    finally:
        peak.closed.set()
        thread.join()


def resident(pid: int) -> int:
    """Bytes of memory that a process has, what it shares with others by halves or less: the sum counts nothing twice."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def program(pid: int) -> str | None:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/exe").readlink())
    return None


def children_of(pid: int) -> list[int]:
    """Its children and theirs. One that is just being started is still its parent, and counted there."""
    found: list[int] = []
    with suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found += [
                    child for child in map(int, task.read_text().split()) if program(child) != program(pid)
                ]
    return found + [grandchild for child in found for grandchild in children_of(child)]


def processor() -> float:
    """Seconds of processor time that this process and its ended children have used."""
    return sum(os.times()[:4])


def ours(it: Book, wanted: str, workers: int, level: float | None) -> tuple[float, float, Peak]:
    """Assemble the book from nothing in as many threads as there are cores: seconds, of processors too, and memory."""
    row = it.row()
    changed = {
        **row.options,
        "deliverables": [{"format": wanted, "loudness": level, "bitrate": bitrate(wanted)}],
    }
    if row.audio_key:
        it.store.delete([*results.objects(row).values()])
    with it.database.write() as connection:
        connection.execute(
            sa.update(Job)
            .where(Job.c.id == it.job_id)
            .values(
                state=states.Job.RENDERED, assembly_key=None, level=None, deliverables=None, options=changed
            )
        )
    scratch = it.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    bench = assemble.Bench(it.database, it.store, "benchmark", scratch)

    def work() -> None:
        while it.row().state not in (*states.AUDIBLE_JOBS, states.Job.FAILED):
            if not assemble.run(bench, limit=16):
                time.sleep(SAMPLED)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    with watched() as peak:
        used, started = processor(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, used = time.perf_counter() - started, processor() - used
    assert it.row().state == states.Job.COMPLETED, it.row().detail
    return seconds, used, peak


def bitrate(wanted: str) -> str | None:
    return f"{formats.FORMATS[wanted].bitrate}k" if formats.FORMATS[wanted].bitrate else None


def theirs(it: Book, wanted: str, folder: Path) -> tuple[float, float]:
    """One ffmpeg, the same takes and silences: seconds, of processors too."""
    rate = it.programme.sample_rate
    files: list[str] = []
    for part in it.programme.parts:
        key = keys.take(part.take_key)
        files.append(f"file 'file:{it.folder / 'store' / key}'")
        if part.pause_ms:
            files.append(f"file 'file:{write_silence(folder, part.pause_ms * rate // 1000, rate)}'")
    (folder / "list").write_text("ffconcat version 1.0\n" + "\n".join(files) + "\n")
    tags = {"title": "The Lamplighter", "author": "Nobody", "language": "en"}
    (folder / "words").write_text(metadata.text(tags, it.programme.chapters(), rate))
    kind = formats.FORMATS[wanted]
    out = folder / f"theirs.{kind.suffix}"
    command = [str(ffmpeg.find()), "-y", "-nostdin", "-loglevel", "error", "-f", "concat", "-safe", "0"]
    command += ["-i", str(folder / "list"), "-f", "ffmetadata", "-i", str(folder / "words")]
    command += ["-map", "0:a", "-map_metadata", "1", "-map_chapters", "1" if kind.chapters else "-1"]
    command += [*kind.arguments(None), "-f", kind.muxer]
    command += ["-movflags", "+faststart"] if wanted == "m4b" else []
    used, started = processor(), time.perf_counter()
    subprocess.run([*command, str(out)], check=True)
    seconds, used = time.perf_counter() - started, processor() - used
    out.unlink()
    return seconds, used


def write_silence(folder: Path, samples: int, rate: int) -> Path:
    path = folder / f"silence-{samples}.wav"
    if not path.exists():
        path.write_bytes(wav.wrap(bytes(2 * samples), rate))
    return path


def checked(it: Book, wanted: str, level: float | None) -> dict[str, Any]:
    """Read the file back: length, chapters, tags, the end of the captions beside the sound, loudness."""
    row = it.row()
    path = it.folder / f"book.{wanted}"
    it.store.download(row.audio_key, path)
    told = subprocess.run([ffmpeg.find(), "-i", path], capture_output=True, text=True, check=False).stderr
    rate = it.programme.sample_rate
    last = it.programme.parts[-1]
    start = it.programme.starts[-1] / rate
    timing = json.loads(it.store.get(keys.captions(row.assembly_key, "json")))["segments"][-1]
    captions = it.store.get(keys.captions(row.assembly_key, "vtt")).decode()
    tail = decoded(path, max(0.0, start - 2.0), rate)
    take = np.frombuffer(wav.unwrap(it.store.get(keys.take(last.take_key))), dtype="<i2").astype(float)
    found: dict[str, Any] = {
        "bytes": path.stat().st_size,
        "begins with": first_bytes(path),
        "chapters": told.count("Chapter #"),
        "last caption off by ms": round(
            1000 * (tail_start(tail, take, rate) + max(0.0, start - 2.0) - start), 2
        ),
        "timing says": timing["start"],
        "last cue": [line for line in captions.splitlines() if "-->" in line][-1],
    }
    if wanted != "wav":
        import mutagen

        easy = mutagen.File(path, easy=True)
        found["tags"] = {name: easy[name] for name in ("title", "artist") if name in easy}
        found["length off by samples"] = round((easy.info.length - it.programme.seconds) * rate)
    if level is not None:
        command = [
            str(ffmpeg.find()),
            "-nostdin",
            "-i",
            str(path),
            "-map",
            "0:a",
            "-af",
            "ebur128=framelog=quiet:peak=true",
        ]
        told = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
        found["loudness"] = [line.strip() for line in told.splitlines() if " I:" in line or "Peak:" in line]
        found["gain"] = row.deliverables[0].get("gain_db")
        found["level"] = row.level
    path.unlink()
    return found


def first_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(12).decode("ascii", "backslashreplace")


def decoded(path: Path, start: float, rate: int) -> Any:
    """The sound from a moment to the end. Decoded from some seconds before, and cut by count: a jump is not to the sample."""
    command = [str(ffmpeg.find()), "-nostdin", "-loglevel", "error", "-i", str(path), "-map", "0:a"]
    command += ["-af", f"atrim=start_sample={round(start * rate)}", "-f", "s16le", "-ar", str(rate), "pipe:1"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype="<i2").astype(
        float
    )


def tail_start(tail: Any, take: Any, rate: int) -> float:
    """Where in the tail the take begins, in seconds: the best match of its beginning."""
    size = 1 << (len(tail) + len(take)).bit_length()
    match = np.fft.irfft(np.fft.rfft(tail, size) * np.conj(np.fft.rfft(take, size)), size)[: len(tail)]
    return float(np.argmax(match)) / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=30.0)
    parser.add_argument("--formats", nargs="+", default=["m4b", "wav"], choices=list(formats.FORMATS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loudness", type=float)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--alone", action="store_true", help="leave ffmpeg's own side out")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assembly-") as name:
        folder = Path(name)
        it = book(folder, wanted.hours, wanted.formats, wanted.loudness)
        with closing(it.database):
            parts, hours = len(it.programme.parts), it.programme.seconds / 3600
            print(
                f"{parts} segments, {hours:.2f} h, {len(it.programme.chapters())} chapters, {wanted.workers} threads"
            )
            for kind in wanted.formats:
                measure(it, kind, wanted)


def measure(it: Book, kind: str, wanted: argparse.Namespace) -> None:
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for number in range(wanted.rounds):
        for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            if side == "ours":
                seconds, used, peak = ours(it, kind, wanted.workers, wanted.loudness)
                memory = f", {peak.bytes / MB:.0f} MB at the peak, {peak.own / MB:.0f} of it this process"
            elif wanted.alone:
                continue
            else:
                with tempfile.TemporaryDirectory(dir=it.folder) as folder:
                    seconds, used = theirs(it, kind, Path(folder))
                memory = ""
            times[side].append((seconds, used))
            speed = it.programme.seconds / seconds
            print(
                f"{kind:4} {side:6} {seconds:8.1f} s, {used:7.1f} s of processors, {speed:5.0f} times real time{memory}",
                flush=True,
            )
    for name, at in (("wall", 0), ("processor", 1)) if times["theirs"] else ():
        ratios = [one[at] / two[at] for one, two in zip(times["ours"], times["theirs"], strict=True)]
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{kind} ratios in {name} time: {told}; median {statistics.median(ratios):.2f}")
    print(kind, json.dumps(checked(it, kind, wanted.loudness), ensure_ascii=False, indent=2), flush=True)


if __name__ == "__main__":
    main()
