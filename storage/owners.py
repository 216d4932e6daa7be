"""Who holds a lease: a process, named so that no later process is taken for it."""

import os
import socket
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # made anew by each kernel that starts
PROCESS_NUMBERS = Path("/proc/self/ns/pid")


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


def is_of_earlier_boot(owner: str) -> bool:
    """Whether an owner was a process of this machine before it started anew; or of another one made from its image."""
    host, boot, space = _parts(owner.partition(":")[0])
    here, now, our_space = _parts(_machine())
    return (host, space) == (here, our_space) and boot not in ("", now)


def _parts(machine: str) -> tuple[str, str, str]:
    host, _, rest = machine.partition("+")
    boot, _, space = rest.partition("+")
    return host, boot, space


def _machine() -> str:
    """The host, the boot of its kernel, and the name space of process numbers.

    Containers may share the first two and not the last. Machines made from one image may all have the same host name,
    and outside of containers the name space has the same number everywhere.
    """
    parts = [socket.gethostname()]
    try:
        parts.append(BOOT_ID.read_text().strip())
        parts.append(str(PROCESS_NUMBERS.stat().st_ino))
    except OSError:  # no Linux: the name is all that there is
        pass
    return "+".join(parts)


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
