from __future__ import annotations

import subprocess
import sys
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

TASKS = ["extract_children", "extract_parents", "transform", "validate", "publish", "export", "load_marketo"]


def test_the_project_has_exactly_these_dags_and_no_import_error(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["opportunity_backfill", "opportunity_reconcile", "opportunity_sync"]


def test_file_function_and_dag_have_one_name(dag: DAG) -> None:
    assert Path(dag.fileloc).stem == dag.dag_id == "opportunity_sync"


def test_the_docstring_is_the_runbook(dag: DAG) -> None:
    for heading in ("**What**", "**When**", "**Reads**", "**Writes**", "**If it fails**"):
        assert dag.doc_md is not None
        assert heading in dag.doc_md
    for task in TASKS:
        assert f"`{task}`" in (dag.doc_md or ""), f"the runbook does not say what to do when {task} fails"


def test_it_runs_hourly_on_real_data_intervals_one_at_a_time_without_catching_up(dag: DAG) -> None:
    from airflow.sdk import CronDataIntervalTimetable

    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert dag.timetable.expression == "0 * * * *"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.start_date is not None


def test_children_are_read_before_parents_and_only_the_warehouse_needs_all_of_them(dag: DAG) -> None:
    from airflow.sdk import TriggerRule

    assert dag.task_ids == TASKS
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream == {
        "extract_children": set(),
        "extract_parents": {"extract_children"},
        "transform": {"extract_children", "extract_parents"},
        "validate": {"transform"},
        "publish": {"validate"},
        "export": {"validate", "publish"},
        "load_marketo": {"publish"},
    }
    rules = {task.task_id: TriggerRule(task.trigger_rule).value for task in dag.tasks}
    assert rules == dict.fromkeys(TASKS, "all_success") | {"extract_parents": "all_done"}


def test_the_mapped_tasks_cover_every_table_once(dag: DAG) -> None:
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    mapped: list[Any] = [task for task in dag.tasks if isinstance(task, MappedOperator)]
    read = [table for task in mapped for table in task._get_specified_expand_input().value["table"]]
    assert read == [*CHILDREN, *PARENTS] == list(READ_ORDER)


def test_every_task_has_a_pool_a_timeout_retries_a_policy_and_a_notifier(dag: DAG) -> None:
    from opportunity_sync.alerts import report_failure
    from opportunity_sync.retries import RetryTransientErrors

    pools = {task.task_id: task.pool for task in dag.tasks}
    others = {"extract_children": "dataverse", "extract_parents": "dataverse", "load_marketo": "marketo"}
    assert pools == dict.fromkeys(TASKS, "warehouse") | others
    for task in dag.tasks:
        assert task.retries == 3
        assert task.execution_timeout is not None
        assert timedelta(minutes=5) < task.execution_timeout <= timedelta(hours=6)
        policy = task.partial_kwargs["retry_policy"] if task.is_mapped else task.retry_policy  # type: ignore[union-attr]
        assert isinstance(policy, RetryTransientErrors)
        callbacks: Any = task.on_failure_callback
        assert callbacks in (report_failure, [report_failure])


def test_publishing_updates_the_asset(dag: DAG) -> None:
    from opportunity_sync.assets import PUBLISHED

    assert {task.task_id: task.outlets for task in dag.tasks if task.outlets} == {"publish": [PUBLISHED]}


def test_the_dag_survives_serialization_with_its_deadline(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    assert dag.deadline is not None
    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert restored.task_ids == TASKS
    assert all(task.has_retry_policy for task in restored.tasks)
    assert restored.deadline


PARSE = """
import socket, sys

def refuse(*_):
    raise AssertionError("the network was touched while parsing")

socket.socket.connect = refuse
import airflow.sdk
import airflow.sdk.definitions.deadline
from airflow.sdk import Connection, Variable

def no_variable(*_, **__):
    raise AssertionError("a variable or connection was read while parsing")

Variable.get = Connection.get = no_variable
before = set(sys.modules)
import runpy
runpy.run_path(sys.argv[1], run_name="unusual_prefix_opportunity_sync")
print(",".join(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
HEAVY = {"duckdb", "great_expectations", "msal", "numpy", "pandas", "pyarrow", "requests", "sqlalchemy", "sqlglot"}


@pytest.mark.parametrize("path", sorted((PROJECT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_parsing_imports_nothing_heavy_and_touches_neither_network_nor_variables(path: Path) -> None:
    parsed = subprocess.run(
        [sys.executable, "-c", PARSE, str(path)],
        env={"PYTHONPATH": str(PROJECT / "plugins"), "AIRFLOW_HOME": "/nonexistent", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stderr
    imported = set(parsed.stdout.strip().split(","))
    assert "opportunity_sync" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("name", ["OPPORTUNITY_SYNC_SCHEDULE", "OPPORTUNITY_SYNC_DEADLINE_MINUTES"])
def test_schedule_and_deadline_can_be_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    monkeypatch.setenv(name, "*/5 * * * *" if name.endswith("SCHEDULE") else "7.5")
    dag = runpy.run_path(str(PROJECT / "dags" / "opportunity_sync.py"))["opportunity_sync"]()
    found = dag.timetable.expression if name.endswith("SCHEDULE") else dag.deadline[0].interval
    assert found == ("*/5 * * * *" if name.endswith("SCHEDULE") else timedelta(minutes=7.5))


def test_without_a_deadline_only_under_dags_test(monkeypatch: pytest.MonkeyPatch) -> None:
    from opportunity_sync.alerts import freshness_deadline

    assert freshness_deadline(timedelta(hours=1)) is not None
    monkeypatch.setattr(sys, "argv", ["airflow", "dags", "test", "opportunity_sync"])
    assert freshness_deadline(timedelta(hours=1)) is None
