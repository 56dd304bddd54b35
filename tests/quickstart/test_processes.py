from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quickstart import processes

pytestmark = pytest.mark.slow

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""
SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[str]:
    """A mark of this test's own processes; they are ended whatever happens."""
    name = f"test:{tmp_path}"
    yield name
    for process in processes.running(name):
        process.kill()


def _start(owner: str, folder: Path, child: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A marked process with a child in a session of its own, as Airflow's scheduler has."""
    code = FAMILY.format(child=child)
    parent = processes.start(
        [sys.executable, "-c", code], owner=owner, environment=os.environ, folder=folder, output=subprocess.PIPE
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        return parent, psutil.Process(int(output.readline()))


def test_children_are_found_although_they_have_left_the_session(owner: str, tmp_path: Path) -> None:
    parent, child = _start(owner, tmp_path, SLEEP)
    assert {process.pid for process in processes.running(owner)} == {parent.pid, child.pid}
    assert processes.end(owner) == 2
    parent.wait()
    assert processes.running(owner) == []


def test_an_orphan_of_a_killed_parent_is_ended(owner: str, tmp_path: Path) -> None:
    parent, child = _start(owner, tmp_path, SLEEP)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert child.is_running()
    assert processes.end(owner) == 1
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_ignores_the_request_is_killed(owner: str, tmp_path: Path) -> None:
    parent, _ = _start(owner, tmp_path, STUBBORN)
    time.sleep(0.5)  # until the child ignores SIGTERM
    assert processes.end(owner, patience_seconds=1) == 2
    parent.wait()
    assert processes.running(owner) == []


def test_processes_of_another_owner_are_left_alone(owner: str, tmp_path: Path) -> None:
    parent, _ = _start(owner, tmp_path, SLEEP)
    assert processes.end(f"{owner}/other") == 0
    assert parent.poll() is None
    processes.end(owner)
    parent.wait()
