"""From a notice to the end of every worker on the machine, and only then the acknowledgement."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage import settings
from tests.metadata_servers import PATIENCE, AwsServer, AzureServer, Heard
from workers.spot import door, leave
from workers.spot.aws import Aws
from workers.spot.settings import LifeSettings

ROOT = Path(__file__).parents[2]
SUPERVISOR = r"""
import logging, sys
from cli import worker
from storage import settings
from workers import supervisor
from workers.spot import door
from workers.spot.settings import LifeSettings

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
life = settings.load(LifeSettings)
command = [sys.executable, "-S", "-c", '''
import os, signal, sys, urllib.request
def drain(number, frame):
    os.write(1, b"draining\\n")
    urllib.request.urlopen(os.environ["VOICEMILL_SPOT_ENDPOINT"] + "/drained/" + os.environ["CUDA_VISIBLE_DEVICES"])
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
os.write(1, b"up, spot " + os.environ["VOICEMILL_SPOT"].encode() + b"\\n")
signal.pause()
''']
at_door = door.Door(life.spot_lock) if sys.argv[1] == "worker" else None
sys.exit(worker.supervised(supervisor.for_gpus(command, sys.argv[2:], life), life, at_door))
"""


class Azure(AzureServer):
    """Also takes down when a worker has drained, at once or when it is let."""

    def __init__(self):
        self.slow = set()  # workers that drain when `patience` is over
        self.patience = threading.Event()
        super().__init__()

    def answer(self, seen):
        if not seen.path.startswith("/drained"):
            return super().answer(seen)
        if seen.path.rpartition("/")[2] in self.slow:
            assert self.patience.wait(PATIENCE)
        return self.text("")

    def done(self):
        """What has drained, and the acknowledgement."""
        return [
            seen.path
            for seen in list(self.requests.said)
            if seen.path.startswith("/drained") or seen.method == "POST"
        ]


@pytest.fixture
def server():
    with Azure() as server:
        yield server


@pytest.fixture
def start(server, tmp_path):
    """Starts a command on the machine, with a process for each GPU, and waits until they are up."""
    started = []

    def start(command, *gpus, cloud="azure"):
        chosen = {
            "VOICEMILL_SPOT": cloud,
            "VOICEMILL_SPOT_ENDPOINT": server.url,
            "VOICEMILL_SPOT_LOCK": str(tmp_path / "lock"),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, command, *gpus],
            cwd=ROOT,
            env={**os.environ, **chosen},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        up = (line for line in iter(process.stdout.readline, "") if line == "up, spot off\n")
        for _ in gpus:
            next(up)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_cloud_is_told_to_go_ahead_when_the_last_worker_has_drained(server, start):
    process = start("worker", "0", "1", cloud="auto")
    server.preempt()
    said = process.stdout.read()
    assert process.wait() == 0
    assert said.count("draining") == 2
    assert sorted(server.done()[:2]) == ["/drained/0", "/drained/1"]
    assert server.done()[2:] == ["/metadata/scheduledevents"]


def test_of_several_commands_on_a_machine_only_the_last_to_leave_tells_the_cloud(server, start):
    """A worker that only assembles has soon left; to release the machine then would cut short what its GPU does."""
    server.slow = {"0"}
    gpu, assembly = start("worker", "0"), start("worker", "assembly")
    server.preempt()
    assembly.stdout.read()
    assert assembly.wait() == 0
    assert sorted(server.done()) == ["/drained/0", "/drained/assembly"]
    server.patience.set()
    gpu.stdout.read()
    assert gpu.wait() == 0
    assert server.done()[2:] == ["/metadata/scheduledevents"]


def test_a_scheduler_does_not_tell_the_cloud(server, start):
    server.slow = {"0"}
    gpu, scheduler = start("worker", "0"), start("scheduler", "plan")
    server.preempt()
    scheduler.stdout.read()
    assert scheduler.wait() == 0
    assert sorted(server.done()) == ["/drained/0", "/drained/plan"]
    server.patience.set()
    gpu.stdout.read()
    assert server.done()[2:] == ["/metadata/scheduledevents"]


def test_nor_does_a_scheduler_keep_others_from_it(server, start):
    server.slow = {"plan"}
    gpu, scheduler = start("worker", "0"), start("scheduler", "plan")
    server.preempt()
    gpu.stdout.read()
    assert "/metadata/scheduledevents" in server.done()
    assert scheduler.poll() is None
    server.patience.set()
    scheduler.stdout.read()


def test_who_was_killed_holds_no_door_open(server, start):
    start("worker", "0").kill()
    process = start("worker", "1")
    server.preempt()
    process.stdout.read()
    assert server.done()[-1] == "/metadata/scheduledevents"


def test_of_two_who_leave_at_once_one_is_the_last(tmp_path):
    first, second = door.Door(tmp_path / "lock"), door.Door(tmp_path / "lock")
    assert not first.is_last()
    assert second.is_last()  # the first has given up its part in asking
    for each in (first, second):
        each.close()
        each.close()
    alone = door.Door(tmp_path / "lock")
    assert alone.is_last()
    alone.close()


def test_without_a_lock_nobody_is_the_last(tmp_path, caplog):
    shut = door.Door(tmp_path / "nowhere" / "lock")
    assert not shut.is_last()
    assert "no cloud will be told" in caplog.text
    assert "No such file" in caplog.text
    shut.close()


@pytest.mark.parametrize(("choice", "reasons"), [("ignore", 1), ("drain", 2)])
def test_whether_a_rebalance_recommendation_is_a_reason_is_a_setting(monkeypatch, choice, reasons):
    told = Heard()
    monkeypatch.setitem(Aws.__init__.__kwdefaults__, "every", 0.01)
    with AwsServer() as server:
        monkeypatch.setenv("VOICEMILL_SPOT", "aws")
        monkeypatch.setenv("VOICEMILL_SPOT_ENDPOINT", server.url)
        monkeypatch.setenv("VOICEMILL_SPOT_REBALANCE", choice)
        server.rebalance = {"noticeTime": "2026-01-01T00:00:00Z"}
        server.preempt()  # both come with the first poll
        watcher = leave.watch(settings.load(LifeSettings), lambda: told("leave"))
        server.requests.wait(4)  # the second poll has begun
        watcher.close()
    assert len(told.said) == reasons
