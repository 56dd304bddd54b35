from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.server import Emulator
from opportunity_sync import steps

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def organisation(
    start_organisation: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Emulator:
    """The sample organisation, as the connection and the settings of a run."""
    organisation = start_organisation()
    extra = {"tenant": organisation.tenant, "authority": organisation.url, "ca_bundle": organisation.ca_bundle}
    connection = {
        "conn_type": "generic",
        "host": organisation.url,
        "login": organisation.client_id,
        "password": organisation.client_secret,
        "extra": extra,
    }
    monkeypatch.setenv("AIRFLOW_CONN_DATAVERSE_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(tmp_path / "data"))
    return organisation


def _dag_run(run_type: str, run_id: str = "run") -> Any:
    return SimpleNamespace(
        run_id=run_id,
        run_type=run_type,
        run_after=datetime(2025, 6, 1, 12, tzinfo=UTC),
        start_date=NOON,
        data_interval_start=NOON.replace(hour=10),
        data_interval_end=NOON.replace(hour=11),
    )


@pytest.mark.usefixtures("organisation")
@pytest.mark.parametrize(
    ("run_type", "params", "first", "then"),
    [
        ("scheduled", {}, "full", "changes"),
        ("manual", {}, "full", "changes"),
        ("manual", {"full_read": True}, "full", "full"),
        ("backfill", {}, "window", "window"),
        ("backfill", {"full_read": True}, "window", "window"),
    ],
)
def test_the_kind_of_run_decides_how_a_table_is_read(
    run_type: str, params: dict[str, Any], first: str, then: str
) -> None:
    modes = [steps.extract("account", _dag_run(run_type, f"run{n}"), params)["mode"] for n in (1, 2)]
    assert modes == [first, then]


@pytest.mark.usefixtures("organisation")
def test_what_travels_between_tasks_is_small_and_plain() -> None:
    pointer = steps.extract("account", _dag_run("scheduled"), {})
    assert sorted(pointer) == ["batch", "deletes", "mode", "organization", "rows", "table"]
    assert (pointer["table"], pointer["rows"], pointer["deletes"]) == ("account", 16, 0)
    assert len(json.dumps(pointer)) < 500


@pytest.mark.slow
@pytest.mark.usefixtures("organisation")
def test_the_steps_one_after_another_publish_and_describe_a_release(tmp_path: Path) -> None:
    from opportunity_sync.tables import READ_ORDER

    run = _dag_run("manual")
    for table in READ_ORDER:
        steps.extract(table, run, {})
    told = steps.publish(steps.validate(steps.transform(run)))
    assert told["file"] == str(tmp_path / "data" / "published" / "opportunities.duckdb")
    assert told["rows"]["opportunities"] == 40
    assert sorted(told["as_of"]) == sorted(READ_ORDER)
    assert all(moment.endswith("Z") for moment in told["as_of"].values())
    assert told["expectations_passed"] > 100
    assert json.loads(json.dumps(told)) == told


@pytest.mark.slow
def test_a_sweep_travels_to_the_asset_event_and_to_the_report(organisation: Emulator) -> None:
    from opportunity_sync.errors import DriftError
    from opportunity_sync.tables import READ_ORDER

    run = _dag_run("scheduled")
    for table in READ_ORDER:
        steps.extract(table, run, {})
    rows = organisation.store.rows("account")
    lost = {
        "op": "update",
        "table": "account",
        "id": rows[0]["accountid"],
        "values": {"name": "New"},
        "reported": False,
    }
    organisation.store.apply([lost])
    swept = [steps.sweep(table, run, {}) for table in ("account", "contact")]
    assert json.loads(json.dumps(swept)) == swept
    assert [sorted(each) for each in swept] == [["batch", "organization", "report", "table"]] * 2
    told = steps.publish(steps.validate(steps.transform(run)))
    reports = {each["table"]: each["report"] for each in swept}
    counts = ("checked", "missing", "gone", "stale", "repaired")
    assert {table: [found[name] for name in counts] for table, found in told["reconciliations"].items()} == {
        "account": [16, 0, 0, 1, 1],
        "contact": [reports["contact"]["checked"], 0, 0, 0, 0],
    }
    assert told["reconciliations"]["account"]["swept_at"] == reports["account"]["swept_at"]
    assert json.loads(json.dumps(told)) == told
    with pytest.raises(DriftError, match="account: 0 missing, 0 gone and 1 stale of 16 rows"):
        steps.report_drift(swept)
    steps.report_drift(swept[1:])


def test_accept_gone_reaches_the_sweep(organisation: Emulator) -> None:
    from opportunity_sync.errors import TooManyGoneError

    run = _dag_run("manual")
    steps.extract("opportunity", run, {})
    everything = [
        {"op": "delete", "table": "opportunity", "id": row["opportunityid"], "reported": False}
        for row in organisation.store.rows("opportunity")
    ]
    organisation.store.apply(everything)
    with pytest.raises(TooManyGoneError):
        steps.sweep("opportunity", run, {"accept_gone": False})
    assert steps.sweep("opportunity", run, {"accept_gone": True})["report"]["gone"] == 40


@pytest.mark.slow
@pytest.mark.usefixtures("organisation")
def test_a_backfill_plans_its_stage_and_reads_each_window_once() -> None:
    params = {
        "start": "2025-01-01T00:00:00Z",
        "end": "2025-04-01T00:00:00Z",
        "tables": ["opportunity", "account"],
        "chunk": "month",
        "by": "createdon",
    }
    windows = steps.plan_backfill(params, ("contact", "account"), most=6)
    assert json.loads(json.dumps(windows)) == windows
    assert windows[0] == {
        "table": "account",
        "start": "2025-01-01T00:00:00Z",
        "end": "2025-02-01T00:00:00Z",
        "by": "createdon",
        "number": 4,
        "total": 6,
    }
    run = _dag_run("manual")
    first, second = ([steps.extract_window(window, run) for window in windows] for _ in range(2))
    assert [sorted(pointer) for pointer in first] == [["batch", "deletes", "mode", "organization", "rows", "table"]] * 3
    assert {(pointer["table"], pointer["mode"]) for pointer in first} == {("account", "window")}
    assert second == first
