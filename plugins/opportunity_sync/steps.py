"""The tasks of the DAG, one function each: an Airflow run on one side, the plain function of a stage on the other.

What these functions return travels in XCom: names of batches and releases with counts, never rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from opportunity_sync.release import Run

if TYPE_CHECKING:
    from opportunity_sync.lake import Manifest


class DagRun(Protocol):
    """What is needed of Airflow's DAG run."""

    run_id: str
    run_type: str
    run_after: datetime
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
        `table`, `batch`, `mode`, `rows` and `deletes` of the batch written, and the URL of the `organization`.
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
    return _pointer(batch, client.organization_url)


def plan_backfill(params: Mapping[str, Any], tables: Collection[str], *, most: int) -> list[dict[str, Any]]:
    """Check what a backfill is asked to read, and cut it into windows.

    Args:
        params: `start`, `end`, `tables`, `chunk`, `by`, see `backfill.Request`.
        tables: the stage: only windows of these tables are returned.
        most: how many windows one mapped task may have.

    Returns:
        `backfill.Window` per window, as plain values.
    """
    import msgspec

    from opportunity_sync.backfill import plan, read_request

    windows = plan(read_request(params), most=most)
    return [msgspec.to_builtins(window) for window in windows if window.table in tables]


def extract_window(window: Mapping[str, Any], dag_run: DagRun) -> dict[str, Any]:
    """Read one window of a backfill into the lake, unless this run has it already.

    Returns:
        The same as `extract`.
    """
    import msgspec

    from opportunity_sync.backfill import Window, read_window
    from opportunity_sync.data_root import open_data_root
    from opportunity_sync.dataverse.hook import DataverseHook
    from opportunity_sync.settings import load_settings
    from opportunity_sync.tables import load_tables

    settings = load_settings()
    wanted = msgspec.convert(window, type=Window)
    selection = load_tables(settings.tables_file)[wanted.table]
    root = open_data_root(settings.data)
    with DataverseHook().client(settings) as client:
        batch = read_window(client, selection, root, settings, dag_run.run_id, wanted, since=dag_run.run_after)
    return _pointer(batch, client.organization_url)


def sweep(table: str, dag_run: DagRun, params: Mapping[str, Any]) -> dict[str, Any]:
    """Compare one table with Dynamics by key and version, and write the repairs as a raw batch.

    Args:
        table: Dataverse logical name.
        dag_run: who asked.
        params: `accept_gone` allows any number of rows to be gone.

    Returns:
        `table`, `batch` and `organization` as of `extract`, and `report`: the fields of `lake.Reconciliation` as plain
        values.
    """
    import msgspec

    from opportunity_sync.dataverse.hook import DataverseHook
    from opportunity_sync.reconcile import reconcile
    from opportunity_sync.settings import load_settings
    from opportunity_sync.tables import load_tables

    settings = load_settings()
    selection = load_tables(settings.tables_file)[table]
    accept_gone = bool(params.get("accept_gone"))
    with DataverseHook().client(settings) as client:
        batch = reconcile(client, selection, settings, dag_run.run_id, accept_gone=accept_gone)
    report = msgspec.to_builtins(batch.reconciliation)
    return {"table": table, "batch": batch.batch, "organization": client.organization_url, "report": report}


def report_drift(swept: Iterable[Mapping[str, Any]]) -> None:
    """Fail when the sweeps of this run had to repair more than is normal.

    Args:
        swept: what `sweep` returned, of every table.
    """
    import msgspec

    from opportunity_sync.lake import Reconciliation
    from opportunity_sync.reconcile import check_drift
    from opportunity_sync.settings import load_settings

    found = {each["table"]: msgspec.convert(each["report"], type=Reconciliation) for each in swept}
    check_drift(found, load_settings().drift_share)


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


def load_marketo(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Load the live release into Marketo, where there is a connection to an instance.

    Args:
        params: `accept_marketo_deletes` lets any number of records be deleted; `marketo_dry_run` only writes the plan.

    Returns:
        `release_id`, counts `planned` and `sent` per Marketo object, `calls`, why it `stopped` early, and where a dry
        run's `plan` is; None without a connection.
    """
    from dataclasses import asdict

    from opportunity_sync import marketo_load as stage
    from opportunity_sync.marketo.hook import MarketoHook
    from opportunity_sync.settings import load_settings

    hook, settings = MarketoHook(), load_settings()
    if not hook.is_configured():
        return None
    with hook.client(settings) as client:
        if params.get("marketo_dry_run"):
            done = stage.dry_run(client, settings)
        else:
            done = stage.load(client, settings, accept_deletes=bool(params.get("accept_marketo_deletes")))
    return asdict(done) | {"plan": done.plan and str(done.plan)}


def compact(dag_run: DagRun) -> dict[str, dict[str, int]]:
    """Merge old raw batches; no release changes.

    Returns:
        Per table the number of batches and their bytes, before and after.
    """
    from dataclasses import asdict

    from opportunity_sync import compact as stage
    from opportunity_sync.settings import load_settings

    done = [asdict(each) for each in stage.compact(load_settings(), dag_run.run_id)]
    return {each.pop("table"): each for each in done}


def _pointer(batch: Manifest, organization: str) -> dict[str, Any]:
    return {
        "table": batch.table,
        "batch": batch.batch,
        "mode": batch.mode,
        "rows": batch.rows,
        "deletes": batch.deletes,
        "organization": organization,
    }
