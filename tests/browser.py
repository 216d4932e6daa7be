"""A headless browser, to see pages as a person's does. Skips where there is none, unless servers are required."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def run(page: Path, *arguments: str) -> str:
    """Open a page of this machine, with no network, and return its document as it is after loading."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        if os.environ.get("VOICEMILL_TEST_REQUIRE_SERVERS") == "1":
            raise AssertionError("no Chromium is installed (Debian and Ubuntu: apt install chromium)")
        pytest.skip("no Chromium is installed")
    line = [
        found,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        f"--user-data-dir={page.parent / 'browser'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing can be reached, whatever is asked for
        "--timeout=60000",
        *arguments,
        page.as_uri(),
    ]
    done = subprocess.run(line, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()
