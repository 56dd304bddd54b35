from __future__ import annotations

from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from opportunity_sync.settings import PROJECT
from opportunity_sync.tables import CHILDREN, PARENTS, READ_ORDER

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Airflow's own
]

PLANS = ["plan_children", "plan_parents"]
EXTRACTS = ["extract_children", "extract_parents"]
AFTER = ["transform", "validate", "publish", "export"]
GIVEN = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}


@pytest.fixture
def dag(bag: DagBag) -> DAG:
    return bag.dags["opportunity_backfill"]


def test_file_function_and_dag_have_one_name(dag: DAG) -> None:
    assert Path(dag.fileloc).stem == dag.dag_id == "opportunity_backfill"


def test_the_docstring_is_the_runbook(dag: DAG) -> None:
    for heading in ("**What**", "**When**", "**Reads**", "**Writes**", "**If it fails**"):
        assert heading in (dag.doc_md or "")
    for task in dag.task_ids:
        assert f"`{task}`" in (dag.doc_md or ""), f"the runbook does not say what to do when {task} fails"


def test_it_runs_only_when_triggered_and_one_run_at_a_time(dag: DAG) -> None:
    assert dag.schedule is None
    assert (dag.catchup, dag.max_active_runs, dag.deadline) == (False, 1, None)
    assert dag.start_date is not None


def test_windows_of_children_are_read_before_those_of_parents_and_one_release_follows(dag: DAG) -> None:
    from airflow.sdk import TriggerRule

    assert sorted(dag.task_ids) == sorted([*PLANS, *EXTRACTS, *AFTER])
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream == {
        "plan_children": set(),
        "plan_parents": set(),
        "extract_children": {"plan_children"},
        "extract_parents": {"plan_parents", "extract_children"},
        "transform": {"extract_children", "extract_parents"},
        "validate": {"transform"},
        "publish": {"validate"},
        "export": {"validate", "publish"},
    }
    rules = {task.task_id: TriggerRule(task.trigger_rule).value for task in dag.tasks}
    assert {name: rule for name, rule in rules.items() if rule != "all_success"} == {
        "extract_parents": "all_done",
        "transform": "none_failed_min_one_success",
    }


def test_each_stage_plans_its_own_tables(dag: DAG) -> None:
    plans: list[Any] = [dag.get_task(name) for name in PLANS]
    assert [plan.op_args for plan in plans] == [(list(CHILDREN),), (list(PARENTS),)]


def test_eight_windows_at_once_leave_the_hourly_run_its_slots_and_its_turn(dag: DAG, bag: DagBag) -> None:
    from ruamel.yaml import YAML

    objects = YAML(typ="safe").load((PROJECT / "airflow_settings.yaml").read_text(encoding="utf-8"))["airflow"]
    slots = {pool["pool_name"]: pool["pool_slot"] for pool in objects["pools"]}
    hourly = bag.dags["opportunity_sync"]
    for name in EXTRACTS:
        task: Any = dag.get_task(name)
        assert (task.pool, task.partial_kwargs["max_active_tis_per_dag"]) == ("dataverse", 8)
        assert slots["dataverse"] >= 8 + max(len(CHILDREN), len(PARENTS))
        assert slots["dataverse"] < 52
        assert (task.partial_kwargs["weight_rule"], task.partial_kwargs["priority_weight"]) == ("absolute", 1)
        weighing: Any = hourly.get_task(name)
        assert weighing.partial_kwargs.get("weight_rule", "downstream") == "downstream"
        assert weighing.downstream_task_ids


def test_every_task_has_a_pool_a_timeout_retries_a_policy_and_a_notifier(dag: DAG) -> None:
    from opportunity_sync.alerts import report_failure
    from opportunity_sync.retries import RetryTransientErrors

    pools = {task.task_id: task.pool for task in dag.tasks}
    assert pools == dict.fromkeys(PLANS, "default_pool") | dict.fromkeys(EXTRACTS, "dataverse") | dict.fromkeys(
        AFTER, "warehouse"
    )
    for task in dag.tasks:
        assert task.retries == 3
        assert task.execution_timeout is not None
        assert timedelta(minutes=5) < task.execution_timeout <= timedelta(hours=6)
        policy = task.partial_kwargs["retry_policy"] if task.is_mapped else task.retry_policy  # type: ignore[union-attr]
        assert isinstance(policy, RetryTransientErrors)
        callbacks: Any = task.on_failure_callback
        assert callbacks in (report_failure, [report_failure])


def test_only_publishing_updates_the_asset(dag: DAG) -> None:
    from opportunity_sync.assets import PUBLISHED

    assert {task.task_id: task.outlets for task in dag.tasks if task.outlets} == {"publish": [PUBLISHED]}


def test_the_dag_survives_serialization(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert sorted(restored.task_ids) == sorted(dag.task_ids)
    assert all(task.has_retry_policy for task in restored.tasks)
    assert {name: param.schema.get("type") for name, param in restored.params.items()} == {
        "start": "string",
        "end": "string",
        "tables": "array",
        "chunk": "string",
        "by": "string",
    }


def resolve(dag: DAG, conf: dict[str, Any]) -> dict[str, Any]:
    """What Airflow does with `--conf`: defaults filled in, the schema of each parameter checked."""
    params = {name: copy(dag.params.get_param(name)) for name in dag.params}
    return {name: param.resolve(conf[name]) if name in conf else param.resolve() for name, param in params.items()}


def test_start_and_end_are_enough(dag: DAG) -> None:
    from opportunity_sync.backfill import read_request

    request = read_request(resolve(dag, GIVEN))
    assert (request.tables, request.chunk, request.by) == (READ_ORDER, "day", "modifiedon")


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"start": GIVEN["start"]},
        GIVEN | {"start": 5},
        GIVEN | {"tables": ["lead"]},
        GIVEN | {"tables": []},
        GIVEN | {"tables": ["account", "account"]},
        GIVEN | {"tables": "account"},
        GIVEN | {"chunk": "year"},
        GIVEN | {"by": "versionnumber"},
    ],
)
def test_airflow_refuses_wrong_parameters_before_a_run_exists(dag: DAG, conf: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        resolve(dag, conf)
