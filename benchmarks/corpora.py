"""Whole corpora through a fleet, held against one process: the same bytes, how long, what was rendered twice.

    python benchmarks/corpora.py [FILE ...] [--broker rabbitmq redis] [--workers 2] [--kill] [--baseline FOLDER]

Each file is rendered by `voicemill render` first (or was: --baseline holds a folder a file that one has written), then
submitted to a scheduler and workers on a Postgres, a broker and an S3 server of its own, all files at once, fetched, and
compared file by file. With --kill one worker is killed (-9) and started again every twenty seconds, and the broker is
restarted in the middle. Without a file it takes the examples. The engine is espeak.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlencode

import boto3
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from storage.database import Database  # noqa: E402
from tests import databases, fleet, servers  # noqa: E402

BROKERS = {"rabbitmq": servers.RabbitMQ, "redis": servers.Redis}
REGION = "eu-central-1"
KILL_EVERY = 20.0  # seconds
FORMATS = {".epub": "m4b"}  # books become one file with chapters


def main() -> int:
    """0 where every file is the same to the byte."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=sorted((ROOT / "examples").glob("*.md")))
    parser.add_argument("--broker", nargs="+", choices=list(BROKERS), default=list(BROKERS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--baseline", type=Path)
    given = parser.parse_args()
    files = [file.resolve() for file in given.files]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        baseline = given.baseline or folder / "embedded"
        for file in files:
            if not (baseline / file.stem / "results.jsonl").is_file():
                begun = time.monotonic()
                alone(file, baseline / file.stem)
                print(f"{file.name}: one process, {time.monotonic() - begun:.0f} s", flush=True)
        same = [
            through(folder / broker, broker, files, baseline, given.workers, given.kill)
            for broker in given.broker
        ]
    return 0 if all(same) else 1


def alone(file: Path, out: Path) -> None:
    """Render a file in one process."""
    line = [str(fleet.VOICEMILL), "render", str(file), "--engine", "espeak", *how(file), "-o", str(out)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def how(file: Path) -> list[str]:
    return ["--format", FORMATS.get(file.suffix, "mp3")]


def through(folder: Path, broker: str, files: Sequence[Path], baseline: Path, workers: int, kill: bool) -> bool:
    """All files through a fleet: whether they came out as they did in one process."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        postgres = stack.enter_context(servers.Postgres())
        bell = stack.enter_context(BROKERS[broker]())
        bucket = stack.enter_context(servers.S3())
        databases.migrate(postgres.url)
        os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
        options = {"endpoint_url": bucket.url, "region": REGION}
        with closing(boto3.client("s3", endpoint_url=bucket.url, region_name=REGION)) as client:
            client.create_bucket(Bucket="corpora", CreateBucketConfiguration={"LocationConstraint": REGION})
        mill = stack.enter_context(
            fleet.Fleet(
                folder / "fleet",
                database_url=postgres.url,
                broker_url=bell.url,
                store_url=f"s3://corpora?{urlencode(options)}",
                settings={"VOICEMILL_LEASE_SECONDS": "30"},
            )
        )
        mill.start("scheduler")
        begun = time.monotonic()
        for file in files:
            mill.run("submit", "--engine", "espeak", str(file), "--name", file.stem, *how(file))
        print(f"{broker}: accepted in {time.monotonic() - begun:.1f} s", flush=True)
        running = [mill.start("worker", "--engine", "espeak") for _ in range(workers)]
        kills = 0
        next_kill = time.monotonic() + KILL_EVERY
        while any(mill.state(file.stem) == "running" for file in files):
            time.sleep(0.5)
            if kill and time.monotonic() > next_kill:
                running[kills % workers].signal(signal.SIGKILL)
                running[kills % workers].wait()
                running[kills % workers] = mill.start("worker", "--engine", "espeak")
                kills += 1
                next_kill = time.monotonic() + KILL_EVERY
                if kills == 2:
                    bell.restart()
        seconds = time.monotonic() - begun
        same = [compare(mill, file, folder / "out" / file.stem, baseline / file.stem) for file in files]
        told = f", {kills} workers killed, the broker restarted" if kills else ""
        print(
            f"{broker}: {workers} workers, {seconds:.0f} s, {audio(postgres.url):.1f} h of audio{told}",
            flush=True,
        )
        return all(same)


def compare(mill: fleet.Fleet, file: Path, out: Path, baseline: Path) -> bool:
    """Fetch a corpus and hold every file against the one that one process made."""
    subprocess.run(
        [fleet.VOICEMILL, "fetch", file.stem, "-o", out],
        check=True,
        env=mill.environment,
        stdout=subprocess.DEVNULL,
    )
    ours, theirs = dict(digests(out)), dict(digests(baseline))
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    word = "the same to the byte" if not differing else f"{len(differing)} DIFFER, {differing[:3]}"
    print(
        f"  {file.name}: {mill.state(file.stem)}, {len(lines)} results, {len(ours)} files, {word}", flush=True
    )
    return not differing and mill.state(file.stem) == "completed"


def digests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".jsonl":
            with path.open("rb") as file:
                yield path.name, hashlib.file_digest(file, "sha256").hexdigest()


def audio(url: str) -> float:
    """Hours."""
    with closing(Database(url)) as database, database.read() as connection:
        query = sa.text("SELECT sum(samples / sample_rate::float) / 3600 FROM jobs")
        return float(connection.execute(query).scalar_one())


if __name__ == "__main__":
    sys.exit(main())
