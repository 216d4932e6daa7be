"""The ffmpeg program: where it is, and one run of it that is fed through a pipe and never hangs."""

import subprocess
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Thread

import imageio_ffmpeg

from storage import errors, settings
from workers.settings import WorkerSettings

LAST_LINES = 5  # of its complaints, kept for the message


class FfmpegMissingError(errors.InputError):
    """No ffmpeg can be run: {reason}. Install imageio-ffmpeg, or name one with VOICEMILL_FFMPEG."""


class FfmpegFailedError(Exception):
    """ffmpeg did not do its work. The message is the last line it wrote."""


def find() -> Path:
    """The ffmpeg to use: the one that the settings name, else the one of the imageio-ffmpeg wheel."""
    named = settings.load(WorkerSettings).ffmpeg
    return _bundled() if named is None else named


@cache
def _bundled() -> Path:
    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise FfmpegMissingError(reason=error) from error


class Run:
    """One running ffmpeg. Write to it, then `finish` or `kill` it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Start it. Raises FfmpegMissingError."""
        quiet = ["-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
        program = find()
        try:
            self._process = subprocess.Popen(
                [program, *quiet, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a Ctrl-C at the terminal is for its parent
            )
        except OSError as error:
            raise FfmpegMissingError(reason=f"{program}: {error.strerror}") from error
        self._complaints: deque[str] = deque(maxlen=LAST_LINES)
        self._reader = Thread(target=self._listen, name="ffmpeg", daemon=True)  # a full pipe would halt it
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id, for tests and logs."""
        return self._process.pid

    def write(self, data: bytes) -> None:
        """Feed it. Raises FfmpegFailedError once it is gone."""
        assert self._process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except OSError as error:
            raise self._failure() from error

    def finish(self) -> None:
        """End its input and wait for it. Raises FfmpegFailedError."""
        self._end_input()
        if self._process.wait() != 0:
            raise self._failure()
        self._end_output()

    def kill(self) -> None:
        """End it at once, whatever it has done. Safe to call at any time."""
        self._process.kill()
        self._end_input()
        self._process.wait()
        self._end_output()

    def _failure(self) -> FfmpegFailedError:
        self._end_input()
        code = self._process.wait()
        self._end_output()
        how = f"ffmpeg was ended by signal {-code}" if code < 0 else f"ffmpeg ended with exit status {code}"
        return FfmpegFailedError(self._complaints[-1] if self._complaints else how)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text := line.decode(errors="replace").strip():
                self._complaints.append(text)

    def _end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _end_output(self) -> None:
        assert self._process.stderr is not None
        self._reader.join()
        self._process.stderr.close()


def version() -> str:
    """What it says of itself, such as `ffmpeg version 7.1`: part of every assembly key. Raises FfmpegMissingError."""
    return _version(find())


@cache
def _version(program: Path) -> str:
    try:
        answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise FfmpegMissingError(reason=f"{program}: {error.strerror}") from error
    return " ".join(answer.stdout.split("\n", 1)[0].split()[:3])
