"""Writing a local file whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream to write to: the file takes its place at `path` when the block ends well, and is gone otherwise."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
        os.replace(temporary, path)  # noqa: PTH105 - says that it replaces
    finally:
        with suppress(OSError):  # gone after a good end, never there where the folder refuses us
            temporary.unlink()
