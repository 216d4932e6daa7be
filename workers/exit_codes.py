"""What a worker's process says with its exit code, and what its supervisor makes of it."""

import signal
from enum import IntEnum


class WorkerExit(IntEnum):
    """Why a worker's process ended."""

    DRAINED = 0  # told to leave, or idle for long enough: all is stored
    BAD_INPUT = 2  # its settings or its call are wrong
    MODEL_FAILED = 3  # its engine could not be loaded, several times over
    DEVICE_FAULT = 70  # its GPU or engine cannot be trusted any more in this process
    WATCHDOG = 75  # a thread hung, at work or in a drain


FINAL = frozenset({WorkerExit.BAD_INPUT, WorkerExit.MODEL_FAILED})
"""A new process would end in the same way. After every other code, and after a signal, it is started again.

Also after 0, where its supervisor has not told it to leave: somebody did so through Flower, say, and its GPU would idle.
"""


def of_signal(code: int) -> int:
    """An exit code as a shell would say it: 128 + n where signal n ended the process (`subprocess` says -n)."""
    return code if code >= 0 else 128 - code


def meaning(code: int) -> str:
    """An exit code of `subprocess` in words, for the log."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"signal {-code}"
    known = {
        WorkerExit.DRAINED: "done",
        WorkerExit.BAD_INPUT: "bad settings",
        WorkerExit.MODEL_FAILED: "the engine could not be loaded",
        WorkerExit.DEVICE_FAULT: "a fault of the device or a defect",
        WorkerExit.WATCHDOG: "the watchdog ended it",
    }
    return f"code {code}" + (f", {known[WorkerExit(code)]}" if code in known else "")
