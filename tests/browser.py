"""A headless browser, to see pages as a person's does. Skips where there is none, unless servers are required."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SCRIPTS = 10_000  # ms of a page's own time for its scripts; while it waits for a server, that stands still


def run(page: Path, *arguments: str) -> str:
    """Open a page of this machine, with no network, and return its document as it is after loading."""
    return _open(page.as_uri(), page.parent, "MAP * ~NOTFOUND", *arguments)  # whatever is asked for


def visit(url: str, folder: Path, *arguments: str) -> str:
    """Open a page of a server on 127.0.0.1, with no other network, and return its document once its scripts are done."""
    rules = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    return _open(url, folder, rules, f"--virtual-time-budget={SCRIPTS}", *arguments)


def _open(address: str, folder: Path, rules: str, *arguments: str) -> str:
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
        f"--user-data-dir={folder / 'browser'}",
        f"--host-resolver-rules={rules}",
        "--timeout=60000",
        *arguments,
        address,
    ]
    done = subprocess.run(line, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()
