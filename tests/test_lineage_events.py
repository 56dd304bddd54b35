"""OpenLineage events, sent by real Airflow to a real HTTP receiver, against what is really in the files."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from opportunity_sync.data_root import open_data_root
from opportunity_sync.lake import Lake
from opportunity_sync.lineage import column_sources
from opportunity_sync.release import PUBLISHED_TABLES
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER
from opportunity_sync.warehouse.models import load_models
from quickstart import processes
from quickstart.run import run_dag
from quickstart.stand_in import SAMPLE_DATA, StandIn, stand_in
from tests.airflow_runs import airflow
from tests.lineage_receiver import Answer, Event, Receiver, check, receiving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]

DAG = "opportunity_sync"
TASKS = {
    "extract_children": 2,
    "extract_parents": 3,
    "transform": 1,
    "validate": 1,
    "publish": 1,
    "export": 1,
    "load_marketo": 1,
}
"""How many task instances a run has of each task."""

TINY_DAG = """
from datetime import datetime

import duckdb
from airflow.sdk import dag
from opportunity_sync.lineage_events import lineage_task

@dag(schedule=None, start_date=datetime(2024, 1, 1))
def tiny():
    @lineage_task()
    def note():
        import sys
        from datetime import datetime
        with open("{notes}", "a") as file:
            print(datetime.now().timestamp(), "openlineage.client" in sys.modules, file=file)

    @lineage_task(trigger_rule="all_done")
    def fail():
        raise duckdb.ConversionException("Could not convert string 'jane@example.com' to INT32")

    tasks = [note.override(task_id=name)() for name in ("taken", "refused", "dropped", "unanswered", "last")]
    tasks.append(fail())
    for before, after in zip(tasks, tasks[1:]):
        before >> after

tiny()
"""


BOUNDED = {"type": "http", "timeout": 1, "retry": {"total": 1, "backoff_factor": 0.1}}
"""A transport as docs/lineage.md recommends it: with defaults, a receiver that is down costs ten seconds an event."""


@dataclass(frozen=True)
class Told:
    """A run that published and one whose validation failed, and what was told about each."""

    settings: Settings
    service: StandIn
    published: Receiver
    failed: Receiver


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    settings = Settings(data=tmp_path_factory.mktemp("lineage") / "data")
    open_data_root(settings.data)
    owner = f"run:{settings.data}"
    with stand_in(settings, SAMPLE_DATA, owner=owner) as service, pytest.MonkeyPatch.context() as patch:

        def run(receiver: Receiver) -> int:
            patch.setenv("OPENLINEAGE_URL", receiver.url)
            return run_dag(settings, service, settings.data / "run.log", Console(quiet=True), owner=owner)[1]

        with receiving() as published:
            assert run(published) == 0
        opportunities = json.loads((SAMPLE_DATA / "opportunities.json").read_text(encoding="utf-8"))
        gone = [{"op": "delete", "table": "opportunity", "id": row["opportunityid"]} for row in opportunities[:35]]
        service.apply(gone)
        with receiving() as failed:
            assert run(failed) == 1
        yield Told(settings, service, published, failed)
    assert processes.running(owner) == []


def _release(told: Told) -> Path:
    """The file of the release that the first run published."""
    (event,) = told.published.of("COMPLETE", f"{DAG}.publish")
    return told.settings.data / "published" / "releases" / _facet(event["outputs"][0], "version", "datasetVersion")


def _query(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _facet(dataset: Event, name: str, key: str) -> Any:
    return dataset["facets"][name][key]


def _by_name(datasets: list[Event]) -> dict[str, Event]:
    """Datasets by table name."""
    found = {dataset["name"].rpartition(".")[2].rpartition("/")[2]: dataset for dataset in datasets}
    assert len(found) == len(datasets)
    return found


def test_every_task_tells_when_it_starts_and_when_it_is_done_as_a_part_of_the_run(told: Told) -> None:
    (run,) = told.published.of("COMPLETE", DAG)
    for task, instances in TASKS.items():
        started, done = (told.published.of(kind, f"{DAG}.{task}") for kind in ("START", "COMPLETE"))
        assert len(started) == len(done) == instances, task
        assert {each["run"]["runId"] for each in started} == {each["run"]["runId"] for each in done}
        parents = [each["run"]["facets"]["parent"] for each in (*started, *done)]
        assert {parent["run"]["runId"] for parent in parents} == {run["run"]["runId"]}
        assert {parent["job"]["name"] for parent in parents} == {DAG}


def test_every_event_is_what_the_clients_classes_say(told: Told) -> None:
    for event in (*told.published.events, *told.failed.events):
        check(event)


def test_extract_tells_the_table_the_batch_and_its_exact_rows_and_columns(told: Told) -> None:
    lake = Lake(told.settings.data / "raw")
    events = [
        event
        for task in ("extract_children", "extract_parents")
        for event in told.published.of("COMPLETE", f"{DAG}.{task}")
    ]
    read = [(event["inputs"][0]["namespace"], event["inputs"][0]["name"]) for event in events]
    assert sorted(read) == sorted((told.service.url, table) for table in READ_ORDER)
    for event in events:
        (table,), (batch,) = event["inputs"], event["outputs"]
        manifest = lake.batches(table["name"])[0]
        assert (batch["namespace"], batch["name"]) == ("file", str(lake.path / table["name"]))
        assert _facet(batch, "version", "datasetVersion") == manifest.batch
        (rows_file,) = lake.files(manifest, "rows")
        rows = duckdb.read_parquet(str(rows_file))
        counted = batch["outputFacets"]["outputStatistics"]
        assert (counted["rowCount"], counted["fileCount"]) == (len(rows), len(manifest.files))
        assert len(rows) > 0
        types = zip(rows.columns, map(str, rows.types), strict=True)
        described = {name: kind for name, kind in types if not name.startswith("_")}
        fields = _facet(batch, "schema", "fields")
        assert {field["name"]: field["type"] for field in fields} == described
        sources = {
            name: {(each["namespace"], each["name"]) for each in lineage["inputFields"]}
            for name, lineage in _facet(batch, "columnLineage", "fields").items()
        }
        assert sources == {name: {(told.service.url, table["name"])} for name in described}


@pytest.mark.parametrize("task", ["transform", "publish"])
def test_tables_are_told_with_exact_rows_types_and_descriptions(told: Told, task: str) -> None:
    (event,) = told.published.of("COMPLETE", f"{DAG}.{task}")
    root, file = told.settings.data / "published", _release(told) / "opportunities.duckdb"
    namespace = f"duckdb://{root / 'candidates' if task == 'transform' else root / 'opportunities.duckdb'}"
    tables = _by_name([dataset for dataset in event["outputs"] if dataset["namespace"] == namespace])
    assert set(tables) == set(PUBLISHED_TABLES)
    for name, dataset in tables.items():
        assert dataset["name"] == f"opportunities.main.{name}"
        is_filled_later = task == "transform" and name == "expectation_results"
        (rows,) = _query(file, f"select count(*) from {name}")[0]
        assert dataset["outputFacets"]["outputStatistics"]["rowCount"] == (0 if is_filled_later else rows)
        columns = _query(
            file,
            "select column_name, data_type, comment from duckdb_columns() "
            f"where schema_name = 'main' and table_name = '{name}' order by column_index",
        )
        fields = _facet(dataset, "schema", "fields")
        assert [(field["name"], field["type"], field.get("description")) for field in fields] == columns
        assert _facet(dataset, "version", "datasetVersion") == _release(told).name


def test_published_columns_lead_back_to_the_columns_of_dataverse(told: Told) -> None:
    lineage: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for event in told.published.events:
        for dataset in event["outputs"]:
            for column, origin in dataset["facets"].get("columnLineage", {"fields": {}})["fields"].items():
                lineage[dataset["namespace"], dataset["name"], column] = [
                    (each["namespace"], each["name"], each["field"])
                    for each in origin["inputFields"]
                    if each["transformations"][0]["type"] == "DIRECT"
                ]

    def followed(column: tuple[str, str, str]) -> set[tuple[str, str]]:
        if column[0] == told.service.url:
            return {column[1:]}
        return {found for each in lineage.get(column, []) for found in followed(each)}

    namespace = f"duckdb://{told.settings.data / 'published' / 'opportunities.duckdb'}"
    expected = column_sources(load_models(told.settings.sql))
    for table in PUBLISHED_TABLES:
        for column, sources in expected[table].items():
            assert followed((namespace, f"opportunities.main.{table}", column)) == set(sources), f"{table}.{column}"
    assert set(expected["opportunities"]["amount"]) == {
        ("opportunity", "actualvalue"),
        ("opportunity", "estimatedvalue"),
        ("opportunity", "statecode"),
    }


def test_every_input_of_a_task_is_an_output_of_one_before_it_or_a_table_of_dynamics(told: Told) -> None:
    written = {(told.service.url, table) for table in READ_ORDER}
    for event in told.published.events:
        assert {(each["namespace"], each["name"]) for each in event["inputs"]} <= written, event["job"]["name"]
        written |= {(each["namespace"], each["name"]) for each in event["outputs"]}


def _assertions(event: Event) -> Counter[tuple[Any, ...]]:
    return Counter(
        (
            dataset["name"].rpartition(".")[2],
            each["assertion"],
            each.get("column"),
            each["severity"],
            each["success"],
            each.get("actual"),
        )
        for dataset in event["inputs"]
        for each in dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
    )


def _results(file: Path) -> Counter[tuple[Any, ...]]:
    return Counter(
        _query(
            file,
            """
            select relation, expectation, column_name, if(severity = 'critical', 'error', 'warn'), success,
                unexpected_count::varchar
            from expectation_results
            """,
        )
    )


def test_validation_tells_every_result(told: Told) -> None:
    (event,) = told.published.of("COMPLETE", f"{DAG}.validate")
    results = _results(_release(told) / "opportunities.duckdb")
    assert _assertions(event) == results
    assert results.total() > 100
    assert {success for *_, success, _ in results} == {True, False}


def test_a_failed_validation_is_told_with_its_results_and_publishes_nothing(told: Told) -> None:
    (event,) = told.failed.of("FAIL", f"{DAG}.validate")
    (folder,) = (told.settings.data / "published" / "failed").iterdir()
    assert _assertions(event) == _results(folder / "opportunities.duckdb")
    stopped = [each for each in _assertions(event) if each[3] == "error" and not each[4]]
    assert ("opportunities", "expect_table_row_count_to_be_between") in [each[:2] for each in stopped]
    assert f"Release {folder.name}: " in event["run"]["facets"]["errorMessage"]["message"]
    assert told.failed.of("COMPLETE", f"{DAG}.validate") == []
    assert [each for each in told.failed.events if each["job"]["name"] == f"{DAG}.publish"] == []


def test_neither_people_nor_secrets_are_told(told: Told) -> None:
    people = _query(
        _release(told) / "opportunities.duckdb",
        "select unnest([full_name, email]) from contacts union select name from accounts union select name from "
        "opportunities",
    )
    hidden = {text for (text,) in people if text and " " in text.strip()} | {
        text for (text,) in people if "@" in str(text)
    }
    assert len(hidden) > 60
    hidden |= {"stand-in-secret"}
    said = json.dumps([*told.published.events, *told.failed.events], ensure_ascii=False).lower()
    assert [text for text in hidden if text.lower() in said] == []


def _run_tiny(told: Told, folder: Path, variables: dict[str, str]) -> tuple[list[float], set[str], str]:
    """Run the small DAG; gives when its tasks ran, whether they had OpenLineage's client imported, and the log."""
    notes, dags = folder / "notes", folder / "dags"
    dags.mkdir()
    (dags / "tiny.py").write_text(TINY_DAG.replace("{notes}", str(notes)), encoding="utf-8")
    variables |= {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    owner = f"run:{told.settings.data}"
    code, log = airflow(told.settings, told.service, ["dags", "test", "tiny"], owner=owner, variables=variables)
    assert code == 1, "the last task fails on purpose"
    lines = [line.split() for line in notes.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 5, log
    return [float(time) for time, _ in lines], {imported for _, imported in lines}, log


def test_without_a_transport_nothing_of_openlineage_is_imported_or_said(told: Told, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENLINEAGE_URL", raising=False)
        _, imported, log = _run_tiny(told, tmp_path, {})
    assert imported == {"False"}
    assert "openlineage" not in log.lower()


def test_a_receiver_that_refuses_drops_or_never_answers_neither_fails_nor_holds_up_a_task(
    told: Told, tmp_path: Path
) -> None:
    answers: dict[str, Answer] = {"tiny.refused": "refuse", "tiny.dropped": "drop", "tiny.unanswered": "hang"}
    with receiving(lambda event: answers.get(event["job"]["name"], "take")) as receiver:
        transport = json.dumps(BOUNDED | {"url": receiver.url})
        times, imported, log = _run_tiny(told, tmp_path, {"AIRFLOW__OPENLINEAGE__TRANSPORT": transport})
    taken = [(event["eventType"], event["job"]["name"]) for event in receiver.events]
    for task in ("taken", "last"):
        assert taken.count(("START", f"tiny.{task}")) == taken.count(("COMPLETE", f"tiny.{task}")) == 1
    assert {job for _, job in taken} == {"tiny", "tiny.taken", "tiny.last", "tiny.fail"}, log
    assert imported == {"True"}
    # Two events lie between two tasks: each is tried twice, for a second.
    assert max(after - before for before, after in itertools.pairwise(times)) < 8

    # Of an error that is not ours, whose text may hold data, only the type is told.
    (failure,) = receiver.of("FAIL", "tiny.fail")
    assert failure["run"]["facets"]["errorMessage"]["message"] == "ConversionException: see the task's log"
    assert "jane@example.com" not in json.dumps(receiver.events)
    assert "jane@example.com" in log
