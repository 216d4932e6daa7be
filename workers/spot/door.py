"""Who leaves a machine last: of all its workers that one alone tells the cloud that it may go ahead.

Each holds a shared lock on one file for as long as it lives; the kernel takes it back however that ends. Who can make it an
exclusive one is alone. A worker that leaves first says nothing, and costs nothing by that: a machine that nobody has
released is taken when its notice said.
"""

import fcntl
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

NAME = "voicemill-spot.lock"
FOLDER = Path("/run/lock")  # of a whole machine, where services may each have a /tmp of their own


class Door:
    """A process' part in the lock. `path` is the file; None takes one that every process of the machine takes."""

    def __init__(self, path: Path | None) -> None:
        """Come in. Where that cannot be, it is said once, and this process is never the last."""
        places = [path] if path is not None else [FOLDER / NAME, Path(tempfile.gettempdir()) / NAME]
        self._file: int | None = None
        for place in places:
            try:
                self._file = _opened(place)
                break
            except OSError as error:
                reason = f"{place}: {error.strerror}"
        else:
            log.warning("spot: no cloud will be told when this machine may go (%s)", reason)
            return
        fcntl.flock(self._file, fcntl.LOCK_SH)  # for a moment nobody gets it: while the cloud is being told

    def is_last(self) -> bool:
        """Whether every other worker of this machine has left. To be asked once all of ours is stored."""
        if self._file is None:
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Leave. Safe to call twice."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


def _opened(path: Path) -> int:
    """The file, for reading alone: that is enough for a lock, and of another user's no more may be had."""
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
