"""`make up` and `make down` for real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from opportunity_sync.settings import PROJECT
from quickstart import processes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data root; what runs on it is ended whatever happens."""
    yield tmp_path / "data"
    processes.end(f"up:{tmp_path / 'data'}", patience_seconds=1)
    processes.end(f"run:{tmp_path / 'data'}", patience_seconds=1)


def _quickstart(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quickstart", *arguments],
        cwd=PROJECT,
        env=_environment(data),
        capture_output=True,
        text=True,
        check=False,
    )


def _dag(address: str, authorization: dict[str, str]) -> requests.Response:
    return requests.get(f"{address}/api/v2/dags/opportunity_sync", headers=authorization, timeout=30)


def _environment(data: Path) -> dict[str, str]:
    return {
        **os.environ,
        "OPPORTUNITY_SYNC_DATA": str(data),
        "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}",
        "OPPORTUNITY_SYNC_SCHEDULE": "0 0 1 1 *",  # nothing is due while the test runs
    }


def test_up_listens_on_loopback_only_and_down_ends_it_all_although_the_scheduler_was_killed(data: Path) -> None:
    started = _quickstart(data, "up", "--port", "0")
    assert started.returncode == 0, started.stdout + started.stderr
    owner = f"up:{data}"
    running = processes.running(owner)
    listening = [
        connection.laddr
        for process in running
        for connection in _ask(partial(process.net_connections, "inet"), [])
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2, "neither the UI nor the stand-in is listening"
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}

    found = re.search(r"Airflow: (http://127\.0\.0\.1:\d+) +\(user (\w+), password (\w+)\)", started.stdout)
    assert found, started.stdout
    address, user, password = found.groups()
    token = requests.post(f"{address}/auth/token", json={"username": user, "password": password}, timeout=30)
    assert token.ok, token.text
    authorization = {"Authorization": f"Bearer {token.json()['access_token']}"}
    deadline = time.monotonic() + 120  # the DAG processor is still reading the file when `up` returns
    while not (dag := _dag(address, authorization)).ok and time.monotonic() < deadline:
        time.sleep(1)
    assert dag.ok, dag.text
    assert dag.json()["is_paused"] is False

    again = _quickstart(data, "up", "--port", "0")
    assert again.returncode == 1
    assert "running already" in again.stdout
    meanwhile = _quickstart(data, "run")
    assert meanwhile.returncode == 1
    assert "make down" in meanwhile.stdout

    schedulers = [process for process in running if "scheduler" in _ask(process.cmdline, [])]
    parents = {scheduler.pid for scheduler in schedulers}
    workers = [process for process in running if _ask(process.ppid, None) in parents]
    assert schedulers
    assert workers, "the scheduler has no local workers: this test shows nothing"
    for scheduler in schedulers:
        scheduler.kill()
    psutil.wait_procs(schedulers, timeout=10)
    assert any(worker.is_running() for worker in workers), "the workers ended by themselves"

    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ended = _quickstart(data, "down")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert processes.running(owner) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert "Nothing was running" in _quickstart(data, "down").stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_what_it_has_started(data: Path, number: signal.Signals, code: int) -> None:
    run = subprocess.Popen(
        [sys.executable, "-u", "-m", "quickstart", "run"],
        cwd=PROJECT,
        env=_environment(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert run.stdout is not None
        with run.stdout as output:
            for line in output:
                if line.startswith("DAG opportunity_sync"):
                    break
            assert processes.running(f"run:{data}")
            run.send_signal(number)
            output.read()
        assert run.wait(60) == code
    finally:
        run.kill()
        run.wait()
    assert processes.running(f"run:{data}") == []


def test_a_run_after_a_killed_one_ends_its_orphans_first(data: Path) -> None:
    processes_of_run = f"run:{data}"
    run = subprocess.Popen(
        [sys.executable, "-u", "-m", "quickstart", "run"],
        cwd=PROJECT,
        env=_environment(data),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    with run.stdout as output:
        for line in output:
            if line.startswith("DAG opportunity_sync"):
                break
        run.kill()
        run.wait()
    orphans = processes.running(processes_of_run)
    assert orphans
    again = _quickstart(data, "run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not any(orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE for orphan in orphans)


def _ask(question: Callable[[], Any], if_ended: Any) -> Any:
    """What a process says of itself; Airflow's short-lived children end between being listed and being asked."""
    try:
        return question()
    except psutil.NoSuchProcess:
        return if_ended
