"""What a run through Airflow does when only a person can help."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import requests
from rich.console import Console
from ruamel.yaml import YAML

from opportunity_sync.data_root import open_data_root
from opportunity_sync.lake import Lake
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER
from quickstart import processes
from quickstart.environment import airflow_home
from quickstart.run import run_dag
from quickstart.settings_file import SETTINGS_FILE
from quickstart.stand_in import SAMPLE_DATA, stand_in
from tests.mail_server import body, mail_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]

SECRET = "not-the-secret-of-this-application"


def test_a_wrong_secret_fails_at_once_says_so_by_mail_and_is_in_no_log(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    open_data_root(settings.data)
    objects = tmp_path / "airflow_settings.yaml"
    log = tmp_path / "data" / "run.log"
    with mail_server() as (inbox, smtp):
        _write_objects(objects, smtp)
        owner = f"run:{settings.data}"
        with stand_in(settings, SAMPLE_DATA, owner=owner) as service:
            errors, code = run_dag(settings, service, log, Console(quiet=True), owner=owner, objects=objects)
    assert code == 1
    assert set(errors) == {f"extract {table}" for table in ("opportunity", "connection", "contact", "account")} | {
        "extract connectionrole"
    }
    for error in errors.values():
        assert "the client secret is wrong" in error
        assert "AADSTS7000215" in error
    assert len(inbox.messages) == 5
    assert all("failed with AuthenticationError" in subject for subject in inbox.subjects)
    assert "Set the connection's password" in body(inbox.messages[0][1])
    assert _states(settings) == {
        "extract_children": {("failed", 1)},
        "extract_parents": {("failed", 1)},
        "transform": {("upstream_failed", 0)},
        "validate": {("upstream_failed", 0)},
        "publish": {("upstream_failed", 0)},
        "export": {("upstream_failed", 0)},
        "load_marketo": {("upstream_failed", 0)},
    }
    for path in settings.data.rglob("*"):
        if path.is_file() and path.parent != airflow_home(settings) / "import":
            assert SECRET.encode() not in path.read_bytes(), path
    for _, message in inbox.messages:
        assert SECRET not in body(message)
    assert processes.running(owner) == []


def test_a_table_that_cannot_be_read_does_not_lose_the_work_on_the_others(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    open_data_root(settings.data)
    log = tmp_path / "data" / "run.log"
    owner = f"run:{settings.data}"
    with stand_in(settings, SAMPLE_DATA, owner=owner) as service:
        requests.post(
            f"{service.url}/_control/privileges",
            json={"read": {"opportunity": "None"}},
            verify=service.ca_bundle,
            timeout=10,
        ).raise_for_status()
        errors, code = run_dag(settings, service, log, Console(quiet=True), owner=owner)
    assert code == 1
    (failed,) = errors.items()
    assert failed[0] == "extract opportunity"
    assert "prvReadOpportunity" in failed[1]
    lake = Lake(settings.data / "raw")
    assert {table: len(lake.batches(table)) for table in READ_ORDER} == dict.fromkeys(READ_ORDER, 1) | {
        "opportunity": 0
    }
    states = _states(settings)
    assert states["extract_parents"] == {("success", 1)}
    assert states["transform"] == {("upstream_failed", 0)}
    assert not (settings.data / "published" / "opportunities.duckdb").exists()


def _states(settings: Settings) -> dict[str, set[tuple[str, int]]]:
    """State and number of tries of each task's instances."""
    with closing(sqlite3.connect(airflow_home(settings) / "airflow.db")) as database:
        rows = database.execute("select task_id, state, try_number from task_instance").fetchall()
    return {task: {(state, tries) for name, state, tries in rows if name == task} for task, *_ in rows}


def _write_objects(file: Path, smtp: dict[str, object]) -> None:
    """The project's `airflow_settings.yaml` with a wrong secret, a mail server and somebody to write to."""
    yaml = YAML()
    document = yaml.load(SETTINGS_FILE.read_text(encoding="utf-8"))
    objects = document["airflow"]
    objects["connections"][0]["conn_password"] = SECRET
    names = {"host": "conn_host", "port": "conn_port", "extra": "conn_extra"}
    mail = {names.get(key, key): value for key, value in smtp.items()}
    objects["connections"].append({"conn_id": "smtp_default", **mail})
    objects["variables"][0]["variable_value"] = "ops@example.com"
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
