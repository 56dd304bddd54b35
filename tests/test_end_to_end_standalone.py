"""`airflow standalone`: runs on schedule, tells somebody when a run is late, and backfills past intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from ruamel.yaml import YAML

from opportunity_sync import publish
from opportunity_sync.data_root import open_data_root
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.tables import PARENTS, READ_ORDER
from quickstart import processes, stack
from quickstart.environment import airflow_home, logs
from quickstart.settings_file import SETTINGS_FILE
from quickstart.stand_in import SAMPLE_DATA, StandIn, start
from tests.mail_server import Inbox, mail_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(900)]


class Airflow:
    """A running `airflow standalone`, asked through its REST API."""

    def __init__(self, address: str, password: str, dynamics: StandIn) -> None:
        self.address, self.dynamics = address, dynamics
        answer = requests.post(f"{address}/auth/token", json={"username": "admin", "password": password}, timeout=60)
        answer.raise_for_status()
        self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def runs(self, run_type: str) -> list[dict[str, Any]]:
        answer = requests.get(
            f"{self.address}/api/v2/dags/opportunity_sync/dagRuns",
            params={"run_type": run_type, "limit": "100"},
            headers=self._headers,
            timeout=60,
        )
        answer.raise_for_status()
        return list(answer.json()["dag_runs"])

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        address = f"{self.address}/api/v2/dags/opportunity_backfill/{path}"
        answer = requests.request(method, address, json=document, headers=self._headers, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def control(self, switch: str, document: Any) -> None:
        with requests.Session() as session:
            session.trust_env = False  # CA variables of the environment would win over `verify`
            address = f"{self.dynamics.url}/_control/{switch}"
            session.post(address, json=document, verify=self.dynamics.ca_bundle, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data = tmp_path_factory.mktemp("standalone") / "data"
    open_data_root(data)
    return Settings(data=data)


@pytest.fixture(scope="module")
def inbox() -> Iterator[tuple[Inbox, dict[str, Any]]]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def variables(settings: Settings) -> dict[str, str]:
    """Environment of everything Airflow in this module; every run is late after three seconds."""
    return {
        **stack.stack_environment(settings, stack.free_port()),
        "OPPORTUNITY_SYNC_DEADLINE_MINUTES": "0.05",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(stack.free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(stack.free_port()),
    }


@pytest.fixture(scope="module")
def airflow(settings: Settings, variables: dict[str, str], inbox: tuple[Inbox, dict[str, Any]]) -> Iterator[Airflow]:
    owner = f"up:{settings.data}"
    started = []
    try:
        process, service = start(settings, SAMPLE_DATA, owner=owner)
        started.append(process)
        objects = settings.data / "airflow_settings.yaml"
        _write_objects(objects, inbox[1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stack, "SETTINGS_FILE", objects)
            stack.prepare(settings, service.url, service.ca_bundle, variables)
        with (logs(settings) / "standalone.log").open("wb") as output:
            command = [sys.executable, "-m", "airflow", "standalone"]
            started.append(processes.start(command, owner=owner, environment=variables, folder=PROJECT, output=output))
        address = variables["AIRFLOW__API__BASE_URL"]
        _wait_for(lambda: (airflow_home(settings) / stack.PASSWORDS).exists(), 120)
        _wait_for(lambda: _answers(address), 120)
        passwords = msgspec.json.decode((airflow_home(settings) / stack.PASSWORDS).read_bytes())
        yield Airflow(address, passwords["admin"], service)
    finally:
        processes.end(owner)
        for process in started:
            process.wait(10)
    assert processes.running(owner) == []


def test_it_runs_on_schedule_and_publishes(airflow: Airflow, settings: Settings) -> None:
    _wait_for(lambda: any(run["state"] == "success" for run in airflow.runs("scheduled")), 300)
    (run, *_) = [run for run in airflow.runs("scheduled") if run["state"] == "success"]
    start, end = (datetime.fromisoformat(run[name]) for name in ("data_interval_start", "data_interval_end"))
    assert end - start == timedelta(hours=1)
    release = publish.live(settings)
    assert release is not None
    assert release.rows["opportunities"] == 40
    assert release.run_id.startswith("scheduled__")


def test_a_late_run_is_told_by_mail(airflow: Airflow, inbox: tuple[Inbox, dict[str, Any]]) -> None:
    _wait_for(lambda: "opportunity_sync: no new release in time" in inbox[0].subjects, 120)


def test_a_backfill_reads_the_window_of_each_interval_and_succeeds(
    airflow: Airflow, settings: Settings, variables: dict[str, str]
) -> None:
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    wanted = {first, first + timedelta(hours=1)}
    command = ["backfill", "create", "--dag-id", "opportunity_sync", "--max-active-runs", "2"]
    between = ["--from-date", first.isoformat(), "--to-date", max(wanted).isoformat()]
    with (logs(settings) / "backfill.log").open("wb") as output:
        created = processes.start(
            [sys.executable, "-m", "airflow", *command, *between],
            owner=f"up:{settings.data}",
            environment=variables,
            folder=PROJECT,
            output=output,
        )
        assert created.wait(120) == 0, (logs(settings) / "backfill.log").read_text(encoding="utf-8")

    def finished() -> bool:
        runs = airflow.runs("backfill")
        assert "failed" not in {run["state"] for run in runs}
        return len(runs) == len(wanted) and {run["state"] for run in runs} == {"success"}

    _wait_for(finished, 400)
    runs = {run["dag_run_id"]: run for run in airflow.runs("backfill")}
    lake = Lake(settings.data / "raw")
    for table in READ_ORDER:
        windows = {
            (batch.window_start, batch.window_end)
            for batch in lake.batches(table)
            if batch.run_id in runs and batch.mode == "window"
        }
        assert windows == {(start, start + timedelta(hours=1)) for start in wanted}, table
    release = publish.live(settings)
    assert release is not None
    assert release.rows["opportunities"] == 40


def test_a_triggered_backfill_reads_windows_side_by_side_resumes_and_publishes_once(
    airflow: Airflow, settings: Settings
) -> None:
    airflow.control("latency", {"milliseconds": 300})
    airflow.control("faults", [{"action": "status", "status": 400, "table": "account"}])
    conf = {
        "start": "2024-01-01T00:00:00Z",
        "end": "2024-04-01T00:00:00Z",
        "chunk": "month",
        "by": "createdon",
        "tables": ["contact", "account"],
    }
    run_id = airflow.ask("POST", "dagRuns", {"conf": conf, "logical_date": None})["dag_run_id"]

    def ended() -> bool:
        return airflow.ask("GET", f"dagRuns/{run_id}")["state"] in ("success", "failed")

    def windows() -> dict[str, list[Manifest]]:
        lake = Lake(settings.data / "raw")
        return {table: [each for each in lake.batches(table) if each.run_id == run_id] for table in PARENTS}

    _wait_for(ended, 300)
    assert airflow.ask("GET", f"dagRuns/{run_id}")["state"] == "failed"
    first = windows()
    assert {table: len(found) for table, found in first.items()} == {"contact": 3, "account": 0, "connectionrole": 0}

    airflow.control("faults", [])
    airflow.ask("POST", "clearTaskInstances", {"dag_run_id": run_id, "dry_run": False, "only_failed": False})
    _wait_for(ended, 300)
    assert airflow.ask("GET", f"dagRuns/{run_id}")["state"] == "success"
    second = windows()
    assert second["contact"] == first["contact"], "a finished window was read again"
    assert len(second["account"]) == 3
    tasks = airflow.ask("GET", f"dagRuns/{run_id}/taskInstances")["task_instances"]
    spans = [(task["start_date"], task["end_date"]) for task in tasks if task["task_id"] == "extract_parents"]
    assert len(spans) == 6
    at_once = [sum(start <= begun < end for start, end in spans) for begun, _ in spans]
    assert max(at_once) >= 2, "windows were read one after another"
    published = [task for task in tasks if task["task_id"] == "publish"]
    assert [(task["state"], task["try_number"]) for task in published] == [("success", 1)]
    # A run of another DAG may have published the same rows and more in the meantime: then its release stays live.
    release = publish.live(settings)
    assert release is not None
    assert release.release_id > f"{max(each.finished_at for each in second['account']):%Y%m%dT%H%M%S%fZ}"


def _write_objects(file: Path, smtp: dict[str, Any]) -> None:
    yaml = YAML()
    document = yaml.load(SETTINGS_FILE.read_text(encoding="utf-8"))
    names = {"host": "conn_host", "port": "conn_port", "extra": "conn_extra"}
    mail = {names.get(key, key): value for key, value in smtp.items()}
    document["airflow"]["connections"].append({"conn_id": "smtp_default", **mail})
    document["airflow"]["variables"][0]["variable_value"] = "ops@example.com"
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/api/v2/monitor/health", timeout=10).ok
    except requests.RequestException:
        return False


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)
