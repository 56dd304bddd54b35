"""The DAG `opportunity_backfill` through Airflow's own `dags test`: windows into an empty lake, and one publication."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from opportunity_sync import publish
from opportunity_sync.data_root import DataRoot, open_data_root
from opportunity_sync.lake import Lake
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.tables import CHILDREN, PARENTS, READ_ORDER
from quickstart import processes
from quickstart.environment import airflow_home, environment, logs
from quickstart.settings_file import SETTINGS_FILE, import_commands
from quickstart.stand_in import SAMPLE_DATA, stand_in

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]

EXPECTED = json.loads((SAMPLE_DATA / "expected.json").read_text(encoding="utf-8"))
PERIOD = {"start": "2024-01-01T00:00:00Z", "end": "2025-11-01T00:00:00Z", "by": "createdon", "chunk": "month"}
"""Holds every row of the sample: its oldest was created in January 2024, its newest in September 2025."""
MONTHS = 22


def _dags_test(settings: Settings, *runs: list[str]) -> tuple[int, str]:
    """Set a private Airflow up on the stand-in and run DAGs in it; gives exit code and log."""
    owner = f"run:{settings.data}"
    log = logs(settings) / "airflow.log"
    events = os.open(os.devnull, os.O_WRONLY)
    try:
        with stand_in(settings, SAMPLE_DATA, owner=owner) as service, log.open("wb") as output:
            imports = import_commands(
                SETTINGS_FILE, airflow_home(settings) / "import", url=service.url, ca_bundle=service.ca_bundle
            )
            commands = [["db", "migrate"], *imports, *(["dags", "test", *run] for run in runs)]
            process = processes.start(
                [sys.executable, "-m", "quickstart.airflow_cli", str(events), json.dumps(commands)],
                owner=owner,
                environment=environment(settings),
                folder=PROJECT,
                output=output,
                pass_fds=(events,),
            )
            code = process.wait()
    finally:
        os.close(events)
        processes.end(owner)
    return code, log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    open_data_root(tmp_path / "data")
    return Settings(data=tmp_path / "data")


def test_a_backfill_alone_publishes_once_what_dynamics_holds(settings: Settings) -> None:
    code, log = _dags_test(settings, ["opportunity_backfill", "--conf", json.dumps(PERIOD)])
    assert code == 0, log[-8000:]

    lake, root = Lake(settings.data / "raw"), DataRoot(settings.data)
    batches = {table: lake.batches(table) for table in READ_ORDER}
    assert {table: len(found) for table, found in batches.items()} == dict.fromkeys(READ_ORDER, MONTHS)
    assert {(each.mode, each.window_by) for found in batches.values() for each in found} == {("window", "createdon")}
    last_child = max(each.finished_at for table in CHILDREN for each in batches[table])
    assert all(each.started_at > last_child for table in PARENTS for each in batches[table])

    assert len(list(root.releases.iterdir())) == 1
    release = publish.live(settings)
    assert release is not None
    assert {each.run_id for found in batches.values() for each in found} == {release.run_id}
    with duckdb.connect(str(root.live_file), read_only=True) as connection:
        rows = {table: connection.execute(f"select count(*) from {table}").fetchone() for table in EXPECTED["rows"]}
        published = connection.execute(
            "select opportunity_id::text, account_id::text, account_rule, customer_id::text from opportunities"
        ).fetchall()
        roles = connection.execute("select opportunity_id::text from opportunity_contact_roles").fetchall()
    assert rows == {table: (count,) for table, count in EXPECTED["rows"].items()}
    keys = ("opportunity_id", "account_id", "account_rule", "customer_id")
    assert sorted(published) == sorted(tuple(row[key] for key in keys) for row in EXPECTED["opportunities"])
    expected_roles = Counter({row["opportunity_id"]: len(row["roles"]) for row in EXPECTED["opportunities"]})
    assert Counter(key for (key,) in roles) == +expected_roles
    total = MONTHS * len(READ_ORDER)
    assert f"{total} of {total} windows done, {sum(each.rows for f in batches.values() for each in f)} rows" in log


def test_a_backfill_of_one_stage_still_publishes(settings: Settings) -> None:
    parents_only = PERIOD | {"start": "2025-09-15T00:00:00Z", "tables": ["account", "contact"]}
    code, log = _dags_test(settings, ["opportunity_sync"], ["opportunity_backfill", "--conf", json.dumps(parents_only)])
    assert code == 0, log[-8000:]
    lake = Lake(settings.data / "raw")
    assert {table: len(lake.batches(table)) for table in READ_ORDER} == {
        "opportunity": 1,
        "connection": 1,
        "contact": 1 + 2,
        "account": 1 + 2,
        "connectionrole": 1,
    }
    assert len(list(DataRoot(settings.data).releases.iterdir())) == 2


def test_wrong_parameters_fail_at_once_and_say_what_to_give(settings: Settings) -> None:
    reversed_period = PERIOD | {"start": PERIOD["end"], "end": PERIOD["start"]}
    code, log = _dags_test(settings, ["opportunity_backfill", "--conf", json.dumps(reversed_period)])
    assert code != 0
    assert "is not before end 2024-01-01T00:00:00+00:00. Nothing was read." in log
    assert not (settings.data / "raw" / "opportunity").exists()
