"""Does planning one batch stay as quick however deep the backlog is? And what does accepting a million lines cost?

    python benchmarks/planning.py [--segments 10000 100000 1000000] [--lines 1000000]

A Postgres of its own, from the installed binaries, beside SQLite. All databases are filled first, each by several corpora of
equal priority; then the depths take turns, one `planner.plan_one` and its commit each, so that whatever else the machine does
meets all of them alike. The first rounds are not counted; ratios are of pairs from the same round. Accepting a JSONL runs in a
process of its own, whose peak memory is told.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scheduler import planner  # noqa: E402
from storage import migrate, pools  # noqa: E402
from storage.database import Database  # noqa: E402
from storage.models import Corpus, Job  # noqa: E402
from tests import databases, servers  # noqa: E402

CORPORA = 10
TOKENS = 300  # of one segment
SPEED = 1250.0  # tokens a second: 250 segments in a batch of a minute
WARM_UP, ROUNDS = 4, 25


def fill(database: Database, count: int) -> None:
    """Pending segments of several corpora whose start tags interleave, written as plain rows."""
    with database.write() as connection:
        for corpus in range(1, CORPORA + 1):
            connection.execute(
                sa.insert(Corpus).values(
                    name=f"c{corpus}",
                    fingerprint="",
                    engine="espeak",
                    pool="espeak",
                    options={},
                    source="",
                    created_at=0,
                )
            )
            connection.execute(
                sa.insert(Job).values(
                    corpus_id=corpus,
                    custom_id="j",
                    fingerprint="",
                    position=1,
                    priority=1,
                    options={},
                    characters=0,
                    tokens_estimate=0,
                    segments_total=count // CORPORA,
                    created_at=0,
                )
            )
        each = count // CORPORA
        numbers = (
            f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {each}) SELECT i FROM n"
            if database.is_sqlite
            else f"SELECT generate_series(0, {each - 1}) AS i"
        )
        connection.execute(
            sa.text(
                "INSERT INTO segments (job_id, position, text, pause_ms, state, pool, rank, start_tag, tokens_estimate,"
                " attempts, interruptions) SELECT jobs.id, n.i, 'A sentence of some forty characters or so.', 250,"
                f" 'pending', 'espeak', 3, n.i * {TOKENS}, {TOKENS}, 0, 0 FROM jobs, ({numbers}) AS n"
            )
        )
        pools.measured(connection, "espeak", SPEED)
    settle(database)


def settle(database: Database) -> None:
    """Whatever filling has left to be done, or the first plans would pay for it."""
    with closing(database.engine.raw_connection()) as connection:
        if not database.is_sqlite:
            connection.driver_connection.autocommit = True
        for step in ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)" if database.is_sqlite else "CHECKPOINT"):
            connection.cursor().execute(step)
        if not database.is_sqlite:
            connection.driver_connection.autocommit = False


def plan_seconds(database: Database) -> float:
    how = planner.Plan(workers=WARM_UP + ROUNDS, batches_ahead=1, linger_seconds=0)
    started = time.perf_counter()
    batch_id = database.run(lambda connection: planner.plan_one(connection, "espeak", how))
    seconds = time.perf_counter() - started
    assert batch_id is not None
    return seconds


def compare(kind: str, filled: dict[int, Database]) -> None:
    times: dict[int, list[float]] = {count: [] for count in filled}
    for number in range(WARM_UP + ROUNDS):
        for count in sorted(filled, reverse=number % 2 == 1):
            seconds = plan_seconds(filled[count])
            if number >= WARM_UP:
                times[count].append(seconds * 1000)
    shallowest = times[min(times)]
    for count, taken in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken, shallowest, strict=True))
        low, middle, high = statistics.quantiles(taken, n=4)
        print(f"{kind:10} {count:>10,} {middle:>8.1f} {low:>7.1f} to {high:>6.1f} {ratio:>6.2f}", flush=True)


def accept_lines(count: int, folder: Path, url: str) -> tuple[float, float, int, int]:
    """Seconds to read and cut a JSONL, and to insert it; peak memory in kB and segments; in a process of its own."""
    source = folder / "lines.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(
                json.dumps(
                    {
                        "id": f"line-{number:07}",
                        "text": f"This is line number {number} of many, and it says so.",
                    }
                )
                + "\n"
            )
    code = (
        "import sys, resource, time; from cli import corpus_options; from scheduler import accept, options, readers, planner;"
        "from scheduler.lexicon import Lexicon; from storage import migrate; from storage.database import Database;"
        "from workers import voices; from workers.engines import registry; spec = registry.spec('espeak');"
        "how = accept.How(spec=spec, resolver=options.Resolver(spec, options.CorpusOptions(), voices.load()), lexicon=Lexicon());"
        f"db = Database('{url}'); migrate.upgrade(db); t = time.perf_counter();"
        f"staged = accept.stage(readers.read(['{source}']), how);"
        "cut = time.perf_counter(); accept.accept(db, staged, name='many', source='', corpus_options={}, priority=planner.priority_of('normal'));"
        "print(cut - t, time.perf_counter() - cut, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, staged.totals.segments)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    cut, insert, memory, segments = out.stdout.split()
    return float(cut), float(insert), int(memory), int(segments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--lines", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(servers.Postgres())
        if arguments.segments:
            print(f"{'database':10} {'pending':>10} {'ms':>8} {'quartiles':>17} {'ratio':>6}")
        for kind in ("sqlite", "postgres"):
            filled = {}
            for count in arguments.segments:
                if kind == "sqlite":
                    url = f"sqlite:///{folder}/{count}.db"
                else:
                    url = stack.enter_context(databases.fresh(postgres.url, "template1"))
                database = filled[count] = stack.enter_context(closing(Database(url)))
                migrate.upgrade(database)
                fill(database, count)
            if filled:
                compare(kind, filled)
        for kind in ("sqlite", "postgres") if arguments.lines else ():
            url = f"sqlite:///{folder}/accept.db"
            if kind == "postgres":
                url = stack.enter_context(databases.fresh(postgres.url, "template1"))
            cut, insert, memory, segments = accept_lines(arguments.lines, folder, url)
            print(
                f"accepted {arguments.lines:,} lines, {segments:,} segments ({kind}): read and cut {cut:.0f} s, inserted"
                f" {insert:.0f} s, peak {memory / 1000:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
