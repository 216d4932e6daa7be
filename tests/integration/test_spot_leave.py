"""From a notice to the end of every worker on the machine, and only then the acknowledgement."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import settings
from tests.metadata_servers import AwsServer, AzureServer, Heard
from workers.spot import leave
from workers.spot.aws import Aws
from workers.spot.settings import LifeSettings

ROOT = Path(__file__).parents[2]
SUPERVISOR = r"""
import logging, sys
from storage import settings
from workers import supervisor
from workers.spot import leave
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
supervised = supervisor.Supervisor(supervisor.for_gpus(command, ["0", "1"], life))
watcher = leave.watch(life, supervised.stop)
code = supervised.run()
watcher.acknowledge()
watcher.close()
sys.exit(code)
"""


class Azure(AzureServer):
    """Also takes down when a worker has drained."""

    def answer(self, seen):
        return self.text("") if seen.path.startswith("/drained") else super().answer(seen)


def test_the_cloud_is_told_to_go_ahead_when_the_last_worker_has_drained():
    with Azure() as server:
        chosen = {"VOICEMILL_SPOT": "auto", "VOICEMILL_SPOT_ENDPOINT": server.url}
        with subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR],
            cwd=ROOT,
            env={**os.environ, **chosen},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            up = (line for line in iter(process.stdout.readline, "") if line == "up, spot off\n")
            next(up), next(up)
            server.preempt()
            said = process.stdout.read()
        assert process.returncode == 0
        assert said.count("draining") == 2
        done = [
            seen.path
            for seen in server.requests.said
            if seen.path.startswith("/drained") or seen.method == "POST"
        ]
        assert sorted(done[:2]) == ["/drained/0", "/drained/1"]
        assert done[2:] == ["/metadata/scheduledevents"]


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
