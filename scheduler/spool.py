"""Temporary files in which an input waits until all of it is checked."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from storage import errors


class SpoolError(errors.VoicemillError):
    """The temporary folder {folder} cannot take the input: {reason}. Free some space there, or name another in TMPDIR."""


@contextmanager
def writing() -> Iterator[None]:
    """Around whatever touches such a file: its faults in words. Raises SpoolError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        folder = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - named, not used
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise SpoolError(folder=folder, reason=reason) from error
