"""The DAG `opportunity_reconcile` through Airflow's own `dags test`: what got lost is found and repaired."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests

from emulator.authority import CLIENT_ID, CLIENT_SECRET, TENANT
from opportunity_sync.data_root import DataRoot, open_data_root
from opportunity_sync.dataverse.auth import Credentials
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER
from quickstart import processes
from quickstart.environment import airflow_home
from quickstart.stand_in import SAMPLE_DATA, StandIn, stand_in
from tests.airflow_runs import airflow
from tests.pipeline import run_once

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]

TABLES = ("opportunities", "opportunity_contact_roles", "contacts", "accounts", "unresolved_references")
NAMES = ("checked", "missing", "gone", "stale", "repaired")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    open_data_root(tmp_path / "data")
    return Settings(data=tmp_path / "data")


@pytest.fixture
def service(settings: Settings) -> Iterator[StandIn]:
    owner = f"run:{settings.data}"
    try:
        with stand_in(settings, SAMPLE_DATA, owner=owner) as running:
            yield running
    finally:
        processes.end(owner)


def dags_test(settings: Settings, service: StandIn, dag: str, **conf: Any) -> tuple[int, str]:
    command = ["dags", "test", dag, *(["--conf", json.dumps(conf)] if conf else [])]
    return airflow(settings, service, command, owner=f"run:{settings.data}")


def query(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(DataRoot(settings.data).live_file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def content(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(query(settings, f"select * from {table}"), key=repr) for table in TABLES}


def states(settings: Settings) -> dict[str, set[str]]:
    """States of the reconcile run's task instances."""
    with closing(sqlite3.connect(airflow_home(settings) / "airflow.db")) as database:
        found = database.execute("select task_id, state from task_instance where dag_id = 'opportunity_reconcile'")
        result: dict[str, set[str]] = {}
        for task, state in found.fetchall():
            result.setdefault(task, set()).add(state)
        return result


def rows(service: StandIn, table: str) -> list[dict[str, Any]]:
    """What the stand-in has."""
    answer = requests.post(
        f"{service.url}/_control/rows", json={"table": table}, verify=service.ca_bundle, timeout=30
    ).json()
    return list(answer["rows"])


def test_what_was_lost_is_repaired_reported_published_and_told(
    settings: Settings, service: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    code, log = dags_test(settings, service, "opportunity_sync")
    assert code == 0, log[-8000:]
    assert query(settings, "select * from reconciliations") == []

    present = {table: [row[f"{table}id"] for row in rows(service, table)] for table in READ_ORDER}
    deals, people, links = present["opportunity"], present["contact"], present["connection"]
    customer = {"customerid_account@odata.bind": f"/accounts({present['account'][0]})"}
    lost: list[dict[str, Any]] = [
        {"op": "delete", "table": "opportunity", "id": deals[0], "cascade": False},
        {"op": "delete", "table": "opportunity", "id": deals[1], "cascade": False},
        {"op": "update", "table": "opportunity", "id": deals[2], "values": {"name": "a change that was lost"}},
        {"op": "create", "table": "opportunity", "values": {"name": "never reported", **customer}},
        {"op": "update", "table": "contact", "id": people[0], "values": {"fullname": "Somebody Else"}},
        {"op": "delete", "table": "connection", "id": links[0], "cascade": False},
    ]
    reported = [{"op": "update", "table": "opportunity", "id": deals[3], "values": {"name": "an ordinary change"}}]
    service.apply([*({**operation, "reported": False} for operation in lost), *reported])
    after = {table: len(rows(service, table)) for table in READ_ORDER}

    code, log = dags_test(settings, service, "opportunity_reconcile")
    assert code != 0, "drift past the threshold fails the run's last task"
    assert "More than 1.00% of a table had drifted from Dynamics: opportunity: 1 missing, 2 gone and 1 stale" in log
    assert "All of it is repaired, and published by this run" in log
    assert states(settings)["report"] == {"failed"}
    assert {state for task, found in states(settings).items() if task != "report" for state in found} == {"success"}

    found = query(settings, f"select table_name, {', '.join(NAMES)} from reconciliations")
    connection_gone = len(present["connection"]) - after["connection"]
    assert {table: dict(zip(NAMES, counts, strict=True)) for table, *counts in found} == {
        "opportunity": {"checked": after["opportunity"], "missing": 1, "gone": 2, "stale": 1, "repaired": 4},
        "contact": {"checked": after["contact"], "missing": 0, "gone": 0, "stale": 1, "repaired": 1},
        "connection": {
            "checked": after["connection"],
            "missing": 0,
            "gone": connection_gone,
            "stale": 0,
            "repaired": connection_gone,
        },
        "account": {"checked": after["account"], "missing": 0, "gone": 0, "stale": 0, "repaired": 0},
        "connectionrole": {"checked": after["connectionrole"], "missing": 0, "gone": 0, "stale": 0, "repaired": 0},
    }
    assert connection_gone >= 1
    with closing(sqlite3.connect(airflow_home(settings) / "airflow.db")) as database:
        ((extra,),) = database.execute("select extra from asset_event order by id desc limit 1").fetchall()
    told = json.loads(extra)["reconciliations"]
    assert {name: told["opportunity"][name] for name in NAMES} == dict(zip(NAMES, (39, 1, 2, 1, 4), strict=True))

    repaired = content(settings)
    anew = Settings(data=tmp_path / "anew")
    credentials = Credentials(
        kind="secret",
        organization_url=service.url,
        authority=f"{service.url}/{TENANT}",
        client_id=CLIENT_ID,
        secret=CLIENT_SECRET,
        ca_bundle=service.ca_bundle,
    )
    run_once(anew.data, credentials, at=datetime.now(UTC))
    assert repaired == content(anew)

    code, log = dags_test(settings, service, "opportunity_reconcile")
    assert code == 0, log[-8000:]
    assert query(settings, "select sum(repaired) from reconciliations") == [(0,)]
    assert content(settings) == repaired
