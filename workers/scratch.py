"""A folder for work in hand, named after its process: what a killed process left there, the next one removes."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage import owners

MARK = "voicemill@"
ABANDONED = 24 * 3600  # seconds after which what was left before the machine started anew is nobody's


@contextmanager
def folder(root: Path | None = None) -> Iterator[Path]:
    """A folder of this process under `root` (the system's temporary folder where none is given), gone at the end."""
    root = Path(tempfile.gettempdir()) if root is None else root
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(MARK + "*"):
        if _is_nobodys(left):
            shutil.rmtree(left, ignore_errors=True)
    mine = Path(tempfile.mkdtemp(prefix=f"{MARK}{owners.this_process()}@", dir=root))
    try:
        yield mine
    finally:
        shutil.rmtree(mine, ignore_errors=True)


def _is_nobodys(left: Path) -> bool:
    owner = left.name.removeprefix(MARK).rpartition("@")[0]
    if owners.is_of_earlier_boot(owner):  # or of a machine that is called the same and shares this folder
        with suppress(OSError):
            return left.stat().st_mtime < time.time() - ABANDONED
    return owners.is_gone(owner)
