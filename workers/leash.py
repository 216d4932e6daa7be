"""Becomes a command that dies with its parent: `python leash.py PARENT_PID COMMAND ARGUMENT...`.

A script for `workers.supervisor`, in a process of its own because what it asks of Linux (PR_SET_PDEATHSIG) must be asked
between fork and exec, where a program with threads may run no Python. Imports nothing of ours, so that it is quick.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
BAD_INPUT = 2  # workers.exit_codes.WorkerExit.BAD_INPUT


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of ours, should it come now
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(BAD_INPUT)
    try:
        os.execvp(command[0], command)  # noqa: S606 - ours
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
