"""### Opportunity backfill: read a period of Dynamics again, and publish once

**What**: reads the rows of the chosen tables that were modified (or created) in a period again, as many small windows
beside one another, then transforms, validates and publishes once. It changes nothing in Dynamics, and cannot disturb
the hourly run: rows read twice are one row again, and where the hourly run continues is not touched.

**When**: only when somebody triggers it, in the UI (the form explains each parameter) or by
`airflow dags trigger opportunity_backfill --conf '{"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}'`.
One run at a time, others wait, and all wait while the DAG is paused; beside the hourly run at any time. Windows see no
deletes: `opportunity_reconcile` finds those that change tracking did not report.

**Reads**: of the organisation that the connection `dataverse_default` points at, rows of `tables` whose column `by`
lies in `[start, end)`. Each window lies within one hour, day, week (from Monday) or month of UTC (`chunk`). At most 8
windows are read at once, and no more than Dynamics suggests (`x-ms-dop-hint`); in the pool `dataverse` the hourly run's
tables go first. Children are read before parents, so that a reference read early finds its target read later.

**Writes**, all below `OPPORTUNITY_SYNC_DATA`: one raw batch per window in `raw/`, then what every run of
`opportunity_sync` writes: the `warehouse/`, the live file and its releases, once. Updates the asset
`published_opportunities`.

**If it fails**: nothing is lost and the last release stays live. Finished windows are kept: clear the failed tasks (or
the whole run), and only what is missing is read. The log of each window says how many of all windows are done.

- `plan_children`, `plan_parents`: a parameter is wrong, or the period makes more windows than Airflow maps
  (`[core] max_map_length`). The error says what to give instead; trigger a new run with it.
- `extract_children`, `extract_parents`: as in `opportunity_sync`. One window that fails does not stop the others, but
  nothing is published before all are read. To read a finished window once more, trigger a new run.
- `transform`, `validate`, `publish`, `export`: as in `opportunity_sync`.

Failures go to the log, and by mail to the addresses in the variable `opportunity_sync_alert_emails`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag

from opportunity_sync import steps
from opportunity_sync.lineage_events import lineage_task
from opportunity_sync.release_tasks import DEFAULT_ARGS, release_after
from opportunity_sync.tables import CHILDREN, PARENTS, READ_ORDER

WINDOWS_AT_ONCE = 8
"""The pool `dataverse` has three slots more, for the tables of the hourly run."""


@dag(
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "start": Param(type="string", format="date-time", description="First moment to read; without a zone: UTC"),
        "end": Param(type="string", format="date-time", description="First moment not to read any more"),
        "tables": Param(
            list(READ_ORDER),
            type="array",
            items={"type": "string", "enum": list(READ_ORDER)},
            examples=list(READ_ORDER),
            minItems=1,
            uniqueItems=True,
            description="Tables to read",
        ),
        "chunk": Param(
            "day",
            type="string",
            enum=["hour", "day", "week", "month"],
            description="Length of a window: what is read in one go, and read again after a failure",
        ),
        "by": Param(
            "modifiedon",
            type="string",
            enum=["modifiedon", "createdon"],
            description="Column whose value has to lie in the period",
        ),
    },
    default_args=DEFAULT_ARGS,
    tags=["dynamics", "duckdb"],
)
def opportunity_backfill() -> None:
    """Wire the tasks; the module's docstring is the runbook."""

    @lineage_task(execution_timeout=timedelta(minutes=10))
    def plan(tables: list[str], **context: Any) -> list[dict[str, Any]]:
        from airflow.sdk.configuration import conf

        return steps.plan_backfill(context["params"], tables, most=conf.getint("core", "max_map_length", fallback=1024))

    @lineage_task(
        "extract",
        pool="dataverse",
        max_active_tis_per_dag=WINDOWS_AT_ONCE,
        priority_weight=1,
        weight_rule="absolute",  # in the pool, the hourly run's tables go first: they weigh what waits behind them
        execution_timeout=timedelta(hours=2),
        map_index_template="{{ task.op_kwargs['window']['table'] }} {{ task.op_kwargs['window']['start'] }} .. "
        "{{ task.op_kwargs['window']['end'] }}",
    )
    def extract(window: dict[str, Any], **context: Any) -> dict[str, Any]:
        return steps.extract_window(window, context["dag_run"])

    of_children = plan.override(task_id="plan_children")(list(CHILDREN))
    of_parents = plan.override(task_id="plan_parents")(list(PARENTS))
    children = extract.override(task_id="extract_children").expand(window=of_children)
    # The parents are read even if a child has failed: what they bring is not lost. Only `transform` needs them all.
    parents = extract.override(task_id="extract_parents", trigger_rule="all_done").expand(window=of_parents)
    children >> parents
    # A stage none of whose tables was chosen has no windows, and Airflow calls it skipped.
    release_after(children, parents, trigger_rule="none_failed_min_one_success")


opportunity_backfill()
