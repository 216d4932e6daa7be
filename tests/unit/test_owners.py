"""Owners of leases: whose process is known to be gone, and whose may live on another machine."""

import os
import subprocess
import sys
import time

import pytest

from storage import owners
from workers import scratch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is all there is")


def of_a_process_that_has_ended():
    command = [sys.executable, "-c", "from storage import owners; print(owners.this_process())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def twin(monkeypatch, tmp_path):
    """Have this process be on another machine of the same host name, outside of containers like this one."""

    def become(boot="00000000-0000-4000-8000-000000000000"):
        (tmp_path / "boot_id").write_text(f"{boot}\n")
        monkeypatch.setattr(owners, "BOOT_ID", tmp_path / "boot_id")

    return become


def test_of_this_machine_the_living_and_the_gone_are_told_apart():
    assert not owners.is_gone(owners.this_process())
    assert owners.is_gone(of_a_process_that_has_ended())
    assert not owners.is_gone("another:1:1")


def test_a_process_of_a_machine_with_the_same_host_name_may_live(twin):
    """A thousand machines made from one image: each would take the leases of all the others."""
    living, ended = owners.this_process(), of_a_process_that_has_ended()
    twin()
    assert not owners.is_gone(living)
    assert not owners.is_gone(ended)
    assert owners.is_of_earlier_boot(living)


def test_a_container_on_the_same_machine_has_processes_of_its_own(monkeypatch, tmp_path):
    ended = of_a_process_that_has_ended()
    monkeypatch.setattr(owners, "PROCESS_NUMBERS", tmp_path)
    assert not owners.is_gone(ended)
    assert not owners.is_of_earlier_boot(ended)


def test_what_was_left_before_the_machine_started_anew_is_removed_after_a_day(tmp_path, twin):
    owner = of_a_process_that_has_ended()
    new, old = (tmp_path / f"{scratch.MARK}{owner}@{name}" for name in ("new", "old"))
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (0, time.time() - scratch.ABANDONED - 60))
    twin()
    with scratch.folder(tmp_path):
        assert new.exists()
        assert not old.exists()
