"""The supervisor and real children: restarts, signals, and nobody left behind."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from storage import settings
from workers import exit_codes, supervisor
from workers.spot.settings import LifeSettings

pytestmark = pytest.mark.timeout(60)  # a process left behind shows as an output that does not end

ROOT = Path(__file__).parents[2]
SUPERVISOR = """
import json, logging, sys, threading
from workers import supervisor

told = json.loads(sys.argv[1])
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
children = [supervisor.Child(name, command) for name, command in told["children"].items()]
backoff = lambda: supervisor.Backoff(first=0.05, limit=0.2)
trust = lambda: supervisor.Trust(allowed=told["faults_allowed"])
supervised = supervisor.Supervisor(children, backoff=backoff, trust=trust, kill_after=told["kill_after"])
if told["stop_on_line"]:
    def wait():
        sys.stdin.readline()
        supervised.stop()
    threading.Thread(target=wait, daemon=True).start()
sys.exit(supervised.run())
"""
DRAINS = r"""
import os, signal, sys, time
def leave(number, frame):
    os.write(1, b"draining\n")
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, leave)
os.write(1, b"up\n")
while True:
    time.sleep(0.05)  # not pause(): a signal just before it would be missed
"""
STUBBORN = r"""
import os, signal, time
def stay(number, frame):
    os.write(1, b"no\n")
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stay)
os.write(1, b"up\n")
while True:
    time.sleep(0.05)  # not pause(): a signal just before it would be missed
"""
LEAVES_SOMEBODY_BEHIND = r"""
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, "-S", "-c", "import os, signal; os.write(1, b'left\\n'); signal.pause()"])
signal.pause()
"""
COUNTS = """
import os, pathlib, sys
path = pathlib.Path(sys.argv[1])
codes = sys.argv[2].split(",")
run = len(path.read_text()) if path.exists() else 0
path.write_text("x" * (run + 1))
code = int(codes[min(run, len(codes) - 1)])
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""

LEAVES_WITH = """
import pathlib, signal, sys, time
def leave(number, frame):
    sys.exit(int(sys.argv[2]))
signal.signal(signal.SIGTERM, leave)
pathlib.Path(sys.argv[1]).touch()
while True:
    time.sleep(0.05)  # not pause(): a signal just before it would be missed
"""
FAILS_WHEN_OTHERS_ARE_UP = """
import pathlib, sys, time
while not all(pathlib.Path(up).exists() for up in sys.argv[1:]):
    time.sleep(0.01)
sys.exit(2)
"""


def child(code, *arguments):
    return [sys.executable, "-S", "-c", code, *arguments]


class Running:
    """A supervisor in a process of its own. Its output ends when the last process that it began has gone."""

    def __init__(self, children, *, kill_after=None, stop_on_line=False, faults_allowed=20):
        told = {
            "children": children,
            "kill_after": kill_after,
            "stop_on_line": stop_on_line,
            "faults_allowed": faults_allowed,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, json.dumps(told)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines = []

    def until(self, pattern, count=1):
        """The last of so many lines that match."""
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.search(pattern, line):
                count -= 1
                if not count:
                    return match
        pytest.fail(f"{pattern} never came:\n{''.join(self.lines)}")

    def end(self):
        """Its exit code and what it said, once everything it began has ended."""
        self.lines.extend(self.process.stdout)
        return self.process.wait(), "".join(self.lines)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.kill()
        if kind is not None:  # whatever failed may have left somebody behind
            for process in re.findall(r"started, process (\d+)", "".join(self.lines)):
                with suppress(ProcessLookupError):
                    os.killpg(int(process), signal.SIGKILL)
        self.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_passed_on_once_and_everyone_drains(number):
    with Running({"a": child(DRAINS), "b": child(DRAINS)}) as running:
        running.until("^up", count=2)
        running.process.send_signal(number)
        code, said = running.end()
    assert code == 0
    assert said.count("draining") == 2
    assert said.count(number.name) == 1


def test_ctrl_c_reaches_children_through_the_supervisor_alone():
    with Running({"a": child(STUBBORN)}) as running:
        running.until("^up")
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does
        running.until("^no")
        os.killpg(running.process.pid, signal.SIGINT)
        _, said = running.end()
    assert said.count("no\n") == 1


def test_the_second_signal_kills_at_once():
    with Running({"a": child(STUBBORN), "b": child(DRAINS)}) as running:
        running.until("^up", count=2)
        running.process.send_signal(signal.SIGTERM)
        running.until("^b: ended")
        running.process.send_signal(signal.SIGTERM)
        code, said = running.end()
    assert code == 128 + signal.SIGKILL
    assert "killed by SIGKILL" in said


def test_children_that_do_not_leave_in_time_are_killed():
    with Running({"a": child(STUBBORN)}, kill_after=0.1) as running:
        running.until("^up")
        running.process.send_signal(signal.SIGTERM)
        code, said = running.end()
    assert code == 128 + signal.SIGKILL
    assert "within 0.1 s" in said


def test_a_signal_after_a_spot_notice_does_not_cut_the_drain_short():
    with Running({"a": child(STUBBORN), "b": child(DRAINS)}, stop_on_line=True) as running:
        running.until("^up", count=2)
        running.process.stdin.write("\n")
        running.process.stdin.flush()
        running.until("^b: ended")
        running.process.send_signal(signal.SIGTERM)  # what the host sends after the notice
        running.process.send_signal(signal.SIGINT)  # somebody who cannot wait
        code, said = running.end()
    assert code == 128 + signal.SIGKILL
    assert said.count("no\n") == 1
    assert "again: killing every worker" in said


@pytest.mark.parametrize("code", sorted(exit_codes.FINAL))
def test_it_does_not_start_again_who_has_left_for_good(tmp_path, code):
    with Running({"a": child(COUNTS, str(tmp_path / "runs"), str(int(code)))}) as running:
        assert running.end()[0] == code
    assert (tmp_path / "runs").read_text() == "x"


def test_who_leaves_well_but_unasked_is_started_again(tmp_path):
    """Somebody ends one of several processes through Flower: its GPU must not idle from then on."""
    with Running({"a": child(DRAINS), "b": child(COUNTS, str(tmp_path / "runs"), "0,0,2")}) as running:
        code, said = running.end()
    assert code == 2
    assert (tmp_path / "runs").read_text() == "xxx"
    assert said.count("b: ended (code 0, done), next start in") == 2


def test_a_device_that_fails_again_and_again_is_given_up(tmp_path):
    """Others end with it: none works on in silence beside it, and whoever keeps this command sees it end."""
    failing = child(COUNTS, str(tmp_path / "runs"), "1,70,-9,70,70,0")
    with Running({"a": child(DRAINS), "b": failing}, faults_allowed=3) as running:
        code, said = running.end()
    assert code == exit_codes.WorkerExit.DEVICE_FAULT
    assert (tmp_path / "runs").read_text() == "x" * 5
    assert "b: ended (code 70, a fault of the device or a defect), 3 times in a row: given up" in said
    assert "a: ended" in said


def test_a_run_that_was_long_enough_shows_that_a_device_works():
    trust = supervisor.Trust(allowed=3, healthy=300.0)
    fault = exit_codes.WorkerExit.DEVICE_FAULT
    assert [trust.is_lost(fault, ran) for ran in (0, 299, 300, 0)] == [False] * 4
    assert not trust.is_lost(1, 0)  # another way to end is no fault of the device, and no sign that it works
    assert trust.is_lost(fault, 0)


def test_the_worst_exit_code_counts(tmp_path):
    up = [str(tmp_path / name) for name in ("a", "b")]
    children = {
        "a": child(LEAVES_WITH, up[0], "0"),
        "b": child(LEAVES_WITH, up[1], "3"),
        "c": child(
            FAILS_WHEN_OTHERS_ARE_UP, *up
        ),  # with it all end: one that has failed for good is never alone
    }
    with Running(children) as running:
        assert running.end()[0] == 3


def test_it_starts_again_who_failed_and_waits_longer_each_time(tmp_path):
    runs = tmp_path / "runs"
    with Running({"a": child(COUNTS, str(runs), "70,75,1,-9,-11,2")}) as running:
        code, said = running.end()
    assert code == 2
    assert runs.read_text() == "x" * 6
    waits = [float(wait) for wait in re.findall(r"next start in ([\d.]+) s", said)]
    assert waits == [0.05, 0.1, 0.2, 0.2, 0.2]
    for why in ("code 70, a fault of the device", "the watchdog", "code 1)", "SIGKILL", "SIGSEGV"):
        assert why in said


def test_one_that_waits_for_its_next_start_is_not_started_when_all_shall_leave(tmp_path):
    failing = child(COUNTS, str(tmp_path / "runs"), "70")
    with Running({"a": child(DRAINS), "b": failing}) as running:
        running.until("^up")
        running.until("next start in 0.2 s")
        running.process.send_signal(signal.SIGTERM)
        code, said = running.end()
    stopped = said.index("telling every worker to leave")
    assert code in (0, 70)  # 70 where it had just been started
    assert "next start" not in said[stopped:]


def test_children_die_with_a_supervisor_that_is_killed():
    with Running({"a": child(STUBBORN), "b": child(DRAINS)}) as running:
        running.until("^up", count=2)
        running.process.kill()
        code, _ = running.end()  # the output ends only when they have
    assert code == -signal.SIGKILL


def test_a_child_takes_what_it_has_started_with_it(tmp_path):
    with Running({"a": child(LEAVES_SOMEBODY_BEHIND)}) as running:
        process = int(running.until(r"^a: started, process (\d+)")[1])
        running.until("^left")
        os.kill(process, signal.SIGKILL)
        running.until("^left")  # the next run's
        running.process.send_signal(signal.SIGTERM)
        code, _ = running.end()
    assert code == 0


def test_a_command_that_is_not_there_is_bad_input():
    with Running({"a": ["/no/such/command"]}) as running:
        code, said = running.end()
    assert code == exit_codes.WorkerExit.BAD_INPUT
    assert "cannot run /no/such/command: No such file or directory" in said


def test_every_gpu_gets_a_child_with_its_own_ports_and_files(monkeypatch):
    monkeypatch.setenv("VOICEMILL_HEALTH_PORT", "9000")
    monkeypatch.setenv("VOICEMILL_HEARTBEAT_FILE", "/run/voicemill/alive")
    life = settings.load(LifeSettings)
    first, second = supervisor.for_gpus(["voicemill", "worker"], ["0", "2"], life)
    assert (first.name, second.name) == ("gpu 0", "gpu 2")
    assert second.environment == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "2",
        "VOICEMILL_HEALTH_PORT": "9001",
        "VOICEMILL_HEARTBEAT_FILE": "/run/voicemill/alive.1",
        "VOICEMILL_SPOT": "off",
    }
    (only,) = supervisor.for_gpus(["voicemill", "worker"], [], life)
    assert only.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert "VOICEMILL_HEARTBEAT_FILE" not in only.environment  # ours is its


def test_the_wait_before_a_start_doubles_until_a_run_was_long_enough():
    backoff = supervisor.Backoff(first=1.0, limit=5.0, healthy=60.0)
    assert [backoff.after(ran) for ran in (0, 1, 59.9, 3)] == [1, 2, 4, 5]
    assert [backoff.after(ran) for ran in (60, 0, 0, 1000)] == [1, 2, 4, 1]
    assert [backoff.after(0) for _ in range(5000)][-1] == 5
