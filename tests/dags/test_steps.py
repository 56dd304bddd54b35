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
    assert sorted(pointer) == ["batch", "deletes", "mode", "rows", "table"]
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
