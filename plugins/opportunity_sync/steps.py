"""The tasks of the DAG, one function each: an Airflow run on one side, the plain function of a stage on the other.

What these functions return travels in XCom: names of batches and releases with counts, never rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from opportunity_sync.release import Run


class DagRun(Protocol):
    """What is needed of Airflow's DAG run."""

    run_id: str
    run_type: str
    start_date: datetime
    data_interval_start: datetime | None
    data_interval_end: datetime | None


def extract(table: str, dag_run: DagRun, params: Mapping[str, Any]) -> dict[str, Any]:
    """Read one table into the lake: a window in a backfill, all rows on request, else what has changed.

    Args:
        table: Dataverse logical name.
        dag_run: a backfill's run reads rows whose `modifiedon` is in its data interval.
        params: `full_read` asks for all rows, which also finds deletes that change tracking did not report.

    Returns:
        `table`, `batch`, `mode`, `rows` and `deletes` of the batch written.
    """
    from opportunity_sync.data_root import open_data_root
    from opportunity_sync.dataverse.hook import DataverseHook
    from opportunity_sync.extract import extract_full, extract_scheduled, extract_window
    from opportunity_sync.lake import Lake
    from opportunity_sync.settings import load_settings
    from opportunity_sync.tables import load_tables

    settings = load_settings()
    lake = Lake(open_data_root(settings.data).raw)
    selection = load_tables(settings.tables_file)[table]
    with DataverseHook().client(settings) as client:
        if dag_run.run_type == "backfill" and dag_run.data_interval_start and dag_run.data_interval_end:
            start, end = dag_run.data_interval_start, dag_run.data_interval_end
            batch = extract_window(client, selection, lake, settings, dag_run.run_id, start=start, end=end)
        elif params.get("full_read"):
            batch = extract_full(client, selection, lake, settings, dag_run.run_id)
        else:
            batch = extract_scheduled(client, selection, lake, settings, dag_run.run_id)
    return {
        "table": table,
        "batch": batch.batch,
        "mode": batch.mode,
        "rows": batch.rows,
        "deletes": batch.deletes,
    }


def transform(dag_run: DagRun) -> str:
    """Apply new batches and build a candidate.

    Returns:
        The candidate's release id.
    """
    from opportunity_sync import warehouse
    from opportunity_sync.settings import load_settings

    run = Run(run_id=dag_run.run_id, started_at=dag_run.start_date.astimezone(UTC))
    return warehouse.transform(load_settings(), run).release_id


def validate(release_id: str) -> str:
    """Validate a candidate.

    Returns:
        The same release id, for the next task.
    """
    from opportunity_sync import validate as stage
    from opportunity_sync.settings import load_settings

    return stage.validate(load_settings(), release_id).release_id


def publish(release_id: str) -> dict[str, Any]:
    """Make a validated candidate the live release.

    Returns:
        What the asset event says, see `assets.event_extra`.
    """
    from opportunity_sync import publish as stage
    from opportunity_sync.assets import event_extra
    from opportunity_sync.settings import load_settings

    settings = load_settings()
    return event_extra(settings, stage.publish(settings, release_id))


def export(release_id: str) -> None:
    """Write a published release as Parquet."""
    from opportunity_sync import export as stage
    from opportunity_sync.settings import load_settings

    stage.export(load_settings(), release_id)
