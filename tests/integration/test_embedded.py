"""The loop that does everything in one process, beside others that share its database."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from cli import work
from cli.exit_codes import ExitCode
from cli.place import Place
from scheduler import embedded, planner
from storage import batches, states
from storage.objects import open_store
from tests import corpus_maker, tones
from workers import assemble, render
from workers.engines.engine import DeviceFaultError

ROOT = Path(__file__).parents[2]
PEER = "import sys; from storage import owners; print(owners.this_process(), flush=True); sys.stdin.read()"


@pytest.fixture
def database(sqlite):
    return sqlite


@pytest.fixture
def peer():
    """Another process that may hold leases, and its name."""
    process = subprocess.Popen(
        [sys.executable, "-c", PEER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process, process.stdout.readline().strip()
        process.kill()


def test_the_work_of_a_peer_that_is_killed_is_gone_on_with(database, peer, tmp_path, monkeypatch):
    """Its lease would hold for an hour; what ends the wait is that its process is gone."""
    monkeypatch.setattr(embedded, "SWEEP_EVERY", 0.2)
    process, owner = peer
    accepted = corpus_maker.accepted(database, ["The first text.", "The second text."])
    (batch_id,) = planner.plan(database, "tones", planner.Plan(workers=1, linger_seconds=0))
    with database.write() as connection:
        assert batches.claim(connection, batch_id, owner, 3600) is not None
    store, stop, ended = open_store(str(tmp_path / "store")), Event(), []
    (tmp_path / "scratch").mkdir()
    mill = render.Mill(database, store, tones.Spec(), tones.Tones(), "me")
    bench = assemble.Bench(database, store, "me", tmp_path / "scratch")
    loop = embedded.Loop(mill, bench, accepted.id, stop)
    thread = Thread(target=lambda: ended.append(loop.run()))
    thread.start()
    try:
        thread.join(1)
        assert thread.is_alive()  # it waits: the peer lives
        process.kill()
        process.wait()
        thread.join(30)
        assert ended == [states.Corpus.COMPLETED]
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("text, code", [("A text.", ExitCode.OK), ("SLOW text.", ExitCode.INTERRUPTED)])
def test_a_signal_when_all_is_done_changes_nothing(tmp_path, monkeypatch, text, code):
    """Ctrl-C in the last moment: the outcome counts, and where there is none yet, the signal."""
    place = Place(tmp_path / "home")
    database = place.database(create=True)
    accepted = corpus_maker.accepted(database, [text])
    run = embedded.Loop.run

    def interrupted(loop: embedded.Loop) -> states.Corpus:
        if code == ExitCode.INTERRUPTED:
            Thread(target=signal_when, args=(loop.mill.engine.waiting,)).start()
            return run(loop)
        state = run(loop)
        os.kill(os.getpid(), signal.SIGINT)
        return state

    def signal_when(waiting: Event) -> None:
        waiting.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(embedded.Loop, "run", interrupted)
    store, name = place.store(), accepted.name
    assert work.work(place, database, store, tones.Spec(), name, going_on=False, quiet=True) == code
    database.close()


def test_a_device_fault_ends_the_loop_and_the_next_process_goes_on(database, tmp_path):
    class Faulty(tones.Tones):
        def render(self, requests, stop):
            yield from super().render(list(requests)[:1], stop)
            raise DeviceFaultError(reason="an illegal memory access.")

    accepted = corpus_maker.accepted(database, ["The first text.", "The second text.", "The third text."])
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "scratch").mkdir()
    bench = assemble.Bench(database, store, "me", tmp_path / "scratch")
    mill = render.Mill(database, store, tones.Spec(), Faulty(), "me")
    with pytest.raises(embedded.DeviceGoneError, match=r"illegal memory access.* run the same command again"):
        embedded.Loop(mill, bench, accepted.id, Event()).run()
    mill = render.Mill(database, store, tones.Spec(), tones.Tones(), "me")
    assert embedded.Loop(mill, bench, accepted.id, Event()).run() == states.Corpus.COMPLETED
