"""Runs the real `voicemill` in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
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


def run(*arguments: object, cwd: Path, given: str | bytes | None = None, **more: str) -> Answer:
    """Run a command to its end."""
    text = given.encode() if isinstance(given, str) else given
    done = subprocess.run(
        [*LINE, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        input=text,
        capture_output=True,
        timeout=240,
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
