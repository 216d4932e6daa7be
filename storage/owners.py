"""Who holds a lease: a process, named so that no later process is taken for it."""

import os
import socket
from functools import cache
from pathlib import Path


def this_process() -> str:
    """Host, process number and the process' start."""
    return _name(os.getpid())


@cache  # every put asks; a child process after a fork asks with a number of its own
def _name(pid: int) -> str:
    return f"{_machine()}:{pid}:{_started(pid)}"


def is_gone(owner: str) -> bool:
    """Whether an owner was a process of this very machine and is no more. Of other machines nothing can be said."""
    host, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    if host != _machine() or not pid.isdigit():
        return False
    return _started(int(pid)) != started


def _machine() -> str:
    """The host, and the name space of process numbers: containers may share the one and not the other."""
    try:
        space = f"+{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        space = ""
    return socket.gethostname() + space


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks since boot; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        pass
    try:  # no /proc (macOS): alive or not is all that can be told
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "" if Path("/proc").is_dir() else "alive"
