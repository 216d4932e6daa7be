"""Runs `voicemill` in processes forked from one that has imported it already: the same command, most of a second sooner.

What the interpreter reads from the environment when it starts (PYTHON...) has no effect here, but for PYTHONPATH, which
comes before everything. Importing reads no settings, so a command sees the environment that it is given.
"""

import atexit
import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

SERVER = "tests.warm_server"  # imports what commands need

_context = multiprocessing.get_context("forkserver")


class CommandHangsError(Exception):
    """A command did not end in time."""


def prepare() -> None:
    """Let the process start that commands are forked from, unless it runs; it imports for some seconds, and we go on."""
    _context.set_forkserver_preload(["__main__", SERVER])
    forkserver.ensure_running()


def run(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], seconds: float, given: bytes = b""
) -> tuple[int, bytes, bytes]:
    """Run a command to its end, for so long at most: exit code, standard output and error."""
    prepare()
    with tempfile.TemporaryDirectory(prefix="voicemill-command-") as folder:
        streams = [Path(folder, name) for name in ("in", "out", "err")]
        for path in streams:
            path.write_bytes(given if path.name == "in" else b"")
        process = _context.Process(
            target=_command, args=(list(arguments), str(cwd), dict(environment), list(map(str, streams)))
        )
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise CommandHangsError(f"{arguments} did not end within {seconds:.0f} s")
        return process.exitcode or 0, streams[1].read_bytes(), streams[2].read_bytes()


def _command(arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    """In the forked process: become the command."""
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        descriptor = os.open(path, flags | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has closed it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    importlib.invalidate_caches()
    sys.argv = ["voicemill", *arguments]
    from cli import start

    try:
        start.main()
    finally:
        atexit._run_exitfuncs()
