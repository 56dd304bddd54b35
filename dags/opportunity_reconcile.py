"""### Opportunity reconcile: prove every day that nothing has drifted from Dynamics, and repair what has

**What**: lists only the key and `versionnumber` of every row of the five tables, compares that with what is known
here, and repairs the difference: rows missing here and rows here in an older version are read again by key, rows that
Dynamics does not have any more are taken out. Change tracking can lapse, deletes happen meanwhile, and tables without
it are read by `modifiedon`, which can be set back: this run finds all of that. It never writes to Dynamics.

**When**: daily at 03:30 UTC, one run at a time, no catch-up; beside the hourly run, which it neither waits for nor
holds up. `OPPORTUNITY_SYNC_RECONCILE_SCHEDULE` (a cron expression) replaces the time. A row that is created, changed,
deleted or restored meanwhile is never taken out by mistake: `docs/decisions/0010-reconciliation.md` says why.
Triggering with `accept_gone` takes rows out however many are gone.

**Reads**: the same as `opportunity_sync`, through the connection `dataverse_default`: per table the keys and
versions, the changes since the last run, and by key the rows that differ.

**Writes**, all below `OPPORTUNITY_SYNC_DATA`: per table a raw batch of mode `changes` (as every hour), one of mode
`reconcile`, and a release. The release's table `reconciliations` says per table how many rows were checked, missing,
gone, stale and repaired; the event of the asset `published_opportunities` says the same.

**If it fails**: nothing is lost and the last release stays live. A sweep that failed or was killed has changed
nothing and is simply repeated.

- `sweep_children`, `sweep_parents`: as the extract tasks of `opportunity_sync`. `TooManyGoneError`: more than
  `OPPORTUNITY_SYNC_GONE_SHARE` of a table is gone, which looks like lost read rights. Check them; if the rows were
  deleted on purpose, trigger the DAG with `accept_gone`. The other tables' repairs are kept and published by the next
  hourly run.
- `transform`, `validate`, `publish`, `export`: as in `opportunity_sync`.
- `report`: fails with `DriftError` when more than `OPPORTUNITY_SYNC_DRIFT_SHARE` of a table had drifted. Everything
  is repaired and published by then; find out why changes get lost (*Drift* in `docs/runbook.md`). There is nothing to
  clear.
- `compact`: merges raw batches older than `OPPORTUNITY_SYNC_RAW_DAYS`, beside `report`. The disk is full, or a batch is
  damaged: nothing was merged. Do what the message says, then clear the task.

Failures go to the log, and by mail to the addresses in the variable `opportunity_sync_alert_emails`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag

from opportunity_sync import steps
from opportunity_sync.lineage_events import lineage_task
from opportunity_sync.release_tasks import DEFAULT_ARGS, release_after
from opportunity_sync.tables import CHILDREN, PARENTS


@dag(
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable(
        os.environ.get("OPPORTUNITY_SYNC_RECONCILE_SCHEDULE", "30 3 * * *"), timezone="UTC"
    ),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "accept_gone": Param(
            False, type="boolean", description="Take rows out even if a large share of a table is gone from Dynamics"
        )
    },
    default_args=DEFAULT_ARGS,
    tags=["dynamics", "duckdb"],
)
def opportunity_reconcile() -> None:
    """Wire the tasks; the module's docstring is the runbook."""

    @lineage_task(
        "extract",
        pool="dataverse",
        priority_weight=1,
        weight_rule="absolute",  # in the pool, the hourly run's tables go first: they weigh what waits behind them
        execution_timeout=timedelta(hours=6),
        map_index_template="{{ task.op_kwargs['table'] }}",
    )
    def sweep(table: str, **context: Any) -> dict[str, Any]:
        return steps.sweep(table, context["dag_run"], context["params"])

    @lineage_task(execution_timeout=timedelta(minutes=10))
    def report(children: Any, parents: Any) -> None:
        steps.report_drift([*children, *parents])

    @lineage_task(pool="warehouse", execution_timeout=timedelta(hours=2))
    def compact(**context: Any) -> dict[str, dict[str, int]]:
        return steps.compact(context["dag_run"])

    children = sweep.override(task_id="sweep_children").expand(table=CHILDREN)
    # The parents are swept even if a child has failed: what they bring is not lost. Only `transform` needs them all.
    parents = sweep.override(task_id="sweep_parents", trigger_rule="all_done").expand(table=PARENTS)
    children >> parents
    released = release_after(children, parents)
    released >> report(children, parents)
    released >> compact()


opportunity_reconcile()
