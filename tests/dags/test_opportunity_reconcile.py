from __future__ import annotations

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

SWEEPS = ["sweep_children", "sweep_parents"]
AFTER = ["transform", "validate", "publish", "export"]


@pytest.fixture
def dag(bag: DagBag) -> DAG:
    return bag.dags["opportunity_reconcile"]


def test_file_function_and_dag_have_one_name(dag: DAG) -> None:
    assert Path(dag.fileloc).stem == dag.dag_id == "opportunity_reconcile"


def test_the_docstring_is_the_runbook(dag: DAG) -> None:
    for heading in ("**What**", "**When**", "**Reads**", "**Writes**", "**If it fails**"):
        assert heading in (dag.doc_md or "")
    for task in dag.task_ids:
        assert f"`{task}`" in (dag.doc_md or ""), f"the runbook does not say what to do when {task} fails"


def test_it_runs_daily_one_at_a_time_without_catching_up(dag: DAG) -> None:
    from airflow.sdk import CronDataIntervalTimetable

    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert dag.timetable.expression == "30 3 * * *"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.start_date is not None


def test_the_schedule_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    monkeypatch.setenv("OPPORTUNITY_SYNC_RECONCILE_SCHEDULE", "0 1 * * 0")
    dag = runpy.run_path(str(PROJECT / "dags" / "opportunity_reconcile.py"))["opportunity_reconcile"]()
    assert dag.timetable.expression == "0 1 * * 0"


def test_children_are_swept_before_parents_and_the_report_comes_after_the_release(dag: DAG) -> None:
    from airflow.sdk import TriggerRule

    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream == {
        "sweep_children": set(),
        "sweep_parents": {"sweep_children"},
        "transform": set(SWEEPS),
        "validate": {"transform"},
        "publish": {"validate"},
        "export": {"validate", "publish"},
        "report": {"export", *SWEEPS},
        "compact": {"export"},
    }
    rules = {task.task_id: TriggerRule(task.trigger_rule).value for task in dag.tasks}
    assert {name: rule for name, rule in rules.items() if rule != "all_success"} == {"sweep_parents": "all_done"}


def test_the_mapped_tasks_cover_every_table_once(dag: DAG) -> None:
    mapped: list[Any] = [dag.get_task(name) for name in SWEEPS]
    swept = [table for task in mapped for table in task._get_specified_expand_input().value["table"]]
    assert swept == [*CHILDREN, *PARENTS] == list(READ_ORDER)


def test_every_task_has_a_pool_a_timeout_retries_a_policy_and_a_notifier(dag: DAG) -> None:
    from opportunity_sync.alerts import report_failure
    from opportunity_sync.retries import RetryTransientErrors

    pools = {task.task_id: task.pool for task in dag.tasks}
    assert pools == (
        dict.fromkeys(SWEEPS, "dataverse")
        | dict.fromkeys([*AFTER, "compact"], "warehouse")
        | {"report": "default_pool"}
    )
    for task in dag.tasks:
        assert task.retries == 3
        assert task.execution_timeout is not None
        assert timedelta(minutes=5) < task.execution_timeout <= timedelta(hours=6)
        policy = task.partial_kwargs["retry_policy"] if task.is_mapped else task.retry_policy  # type: ignore[union-attr]
        assert isinstance(policy, RetryTransientErrors)
        callbacks: Any = task.on_failure_callback
        assert callbacks in (report_failure, [report_failure])


def test_the_hourly_runs_tables_go_first_in_the_pool(dag: DAG, bag: DagBag) -> None:
    for name, hourly in zip(SWEEPS, ("extract_children", "extract_parents"), strict=True):
        task: Any = dag.get_task(name)
        assert (task.partial_kwargs["weight_rule"], task.partial_kwargs["priority_weight"]) == ("absolute", 1)
        weighing: Any = bag.dags["opportunity_sync"].get_task(hourly)
        assert weighing.pool == task.pool
        assert weighing.partial_kwargs.get("weight_rule", "downstream") == "downstream"
        assert weighing.downstream_task_ids


def test_only_publishing_updates_the_asset(dag: DAG) -> None:
    from opportunity_sync.assets import PUBLISHED

    assert {task.task_id: task.outlets for task in dag.tasks if task.outlets} == {"publish": [PUBLISHED]}


def test_accept_gone_is_a_switch_that_is_off(dag: DAG) -> None:
    param = dag.params.get_param("accept_gone")
    assert (param.schema["type"], param.resolve()) == ("boolean", False)


def test_the_dag_survives_serialization(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert restored.task_ids == dag.task_ids
    assert all(task.has_retry_policy for task in restored.tasks)
