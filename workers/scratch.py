"""A folder for work in hand, named after its process: what a killed process left there, the next one removes."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage import owners

MARK = "voicemill@"


@contextmanager
def folder(root: Path | None = None) -> Iterator[Path]:
    """A folder of this process under `root` (the system's temporary folder where none is given), gone at the end."""
    root = Path(tempfile.gettempdir()) if root is None else root
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(MARK + "*"):
        if owners.is_gone(left.name.removeprefix(MARK).rpartition("@")[0]):
            shutil.rmtree(left, ignore_errors=True)
    mine = Path(tempfile.mkdtemp(prefix=f"{MARK}{owners.this_process()}@", dir=root))
    try:
        yield mine
    finally:
        shutil.rmtree(mine, ignore_errors=True)
