"""Runs the real `voicemill` in a process of its own: forked (`tests.warm`) where it runs to its end, else started."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import warm

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 240.0  # seconds
LINE = [sys.executable, "-m", "cli"]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **more}


def run(*arguments: object, cwd: Path, given: str | bytes = b"", **more: str) -> Answer:
    """Run a command to its end."""
    text = given.encode() if isinstance(given, str) else given
    code, out, err = warm.run(list(map(str, arguments)), cwd, environment(**more), TIMEOUT, text)
    return Answer(code, out.decode(), err.decode())


def run_afresh(*arguments: object, cwd: Path, **more: str) -> Answer:
    """Run a command to its end in a new interpreter, which reads its own settings."""
    done = subprocess.run(
        [*LINE, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def start(*arguments: object, cwd: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start a command and leave it running, in a process group of its own."""
    return subprocess.Popen(
        [*LINE, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
