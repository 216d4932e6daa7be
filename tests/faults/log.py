"""What the engines of the fault harness write down before anybody else knows of it.

Times are of the machine's monotonic clock, which no jump of the clock on the wall moves.
"""

import json
import os
import time
from pathlib import Path
from typing import Any


class Log:
    """Lines of JSON that any number of processes append to one file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, call: str, **told: Any) -> None:
        """One line, whole: it is one write."""
        line = {"t": round(time.monotonic(), 3), "pid": os.getpid(), "call": call, **told}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")
