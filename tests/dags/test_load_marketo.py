"""The task `load_marketo`; what it does is tested in tests/test_marketo_cli.py and tests/marketo_load/."""

from __future__ import annotations

from typing import Any

import pytest

from opportunity_sync import steps


def test_without_a_connection_the_task_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from opportunity_sync.release_tasks import load_marketo

    monkeypatch.setattr(steps, "load_marketo", lambda params: None)
    with pytest.raises(AirflowSkipException, match="no connection marketo_default"):
        load_marketo.function(params={})


def test_with_one_the_runs_parameters_reach_the_stage_and_the_counts_the_xcom(monkeypatch: pytest.MonkeyPatch) -> None:
    from opportunity_sync.release_tasks import load_marketo

    asked: list[Any] = []

    def load(params: Any) -> dict[str, int]:
        asked.append(params)
        return {"calls": 7}

    monkeypatch.setattr(steps, "load_marketo", load)
    assert load_marketo.function(params={"accept_marketo_deletes": True}) == {"calls": 7}
    assert asked == [{"accept_marketo_deletes": True}]


def test_only_the_hourly_dag_loads_into_marketo(bag: Any) -> None:
    loading = [dag_id for dag_id, dag in bag.dags.items() if "load_marketo" in dag.task_ids]
    assert loading == ["opportunity_sync"]
    params = bag.dags["opportunity_sync"].params
    assert (params["accept_marketo_deletes"], params["marketo_dry_run"]) == (False, False)
