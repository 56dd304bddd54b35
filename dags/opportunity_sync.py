"""### Opportunity sync: Dynamics 365 to a validated DuckDB release, every hour

**What**: reads the changes of five Dataverse tables, derives each opportunity's account and contact roles in SQL,
validates the result and swaps it in as one file that analysts can open at any moment; then writes the same as Parquet
and, where there is a connection `marketo_default`, loads the differences into Marketo. It never writes to Dynamics.

**When**: hourly, one run at a time, no catch-up: a missed hour needs none, because the next run continues from the last
change-tracking link. A backfill (`airflow backfill create --dag-id opportunity_sync --from-date ... --to-date ...`)
reads the rows modified in each hour again; it waits while the DAG is paused. Triggering with `full_read` reads every
table in full, which also finds deletes that change tracking could not report. `OPPORTUNITY_SYNC_SCHEDULE` (a cron
expression) replaces the hour; `OPPORTUNITY_SYNC_DEADLINE_MINUTES` (60) is how long a run may take from being queued
until somebody is told.

**Reads**: opportunity, connection, contact, account, connectionrole of the organisation that the connection
`dataverse_default` points at (its fields: `plugins/opportunity_sync/dataverse/hook.py`); columns from
`include/tables.yaml`; meaning from `include/sql/`. Children are read before parents, so that a reference read early
finds its target read later. What goes into Marketo: `include/marketo.yaml`.

**Writes**, all below `OPPORTUNITY_SYNC_DATA`: raw batches in `raw/`, the private `warehouse/`, and
`published/opportunities.duckdb` with its releases. Updates the asset `published_opportunities` with row counts, how
fresh each table is, and the release id. In Marketo: opportunities, their roles and, if so configured, companies and
leads; `marketo/` holds what it has confirmed. With `marketo_dry_run` the run only writes what it would send there.

**If it fails**: nothing is lost and the last release stays live; the next run picks up where this one stopped. The
error's three sentences say what was wrong, what happened to the data, and what to do. Errors that only a person can
resolve fail at once, others are retried, after the pause the service asked for.

- `extract_children`, `extract_parents`: the secret has expired, a right is missing, the service is down. Correct the
  connection or the rights, or wait; then clear the failed task. One table that fails does not lose the others' work.
- `transform`: a raw batch is damaged, or the disk is full. Do what the message says, then clear the task;
  `opportunity-sync rebuild` builds everything after `raw/` anew.
- `validate`: a critical expectation failed. Look at the rows whose keys the error names; correct them in Dynamics, or
  the rule in `include/sql/`; then clear `transform`.
- `load_marketo`: readers have the release; the next run sends what is missing. `opportunity-sync marketo status` says
  what that is. Where it would delete too much, look at the plan of `opportunity-sync marketo dry-run`, then trigger
  the DAG with `accept_marketo_deletes`. Without a connection `marketo_default` it is skipped.
- `publish`, `export`: the disk is full. Make room, then clear the task. When only `export` failed, the release is live
  and lacks its Parquet files.
- the deadline is missed: any of these, or a task that cannot start. `opportunity-sync status` shows how old the data
  is; the pools `dataverse` and `warehouse` have to exist and be free.

Failures and late runs go to the log, and by mail to the addresses in the variable `opportunity_sync_alert_emails`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag

from opportunity_sync import steps
from opportunity_sync.alerts import freshness_deadline
from opportunity_sync.lineage_events import lineage_task
from opportunity_sync.release_tasks import DEFAULT_ARGS, load_marketo, release_after
from opportunity_sync.tables import CHILDREN, PARENTS


@dag(
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable(os.environ.get("OPPORTUNITY_SYNC_SCHEDULE", "0 * * * *"), timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "full_read": Param(False, type="boolean", description="Read every table in full, to find lost deletes"),
        "accept_marketo_deletes": Param(False, type="boolean", description="Delete in Marketo however much it is"),
        "marketo_dry_run": Param(False, type="boolean", description="Only write what would be sent to Marketo"),
    },
    default_args=DEFAULT_ARGS,
    deadline=freshness_deadline(timedelta(minutes=float(os.environ.get("OPPORTUNITY_SYNC_DEADLINE_MINUTES", "60")))),
    tags=["dynamics", "duckdb"],
)
def opportunity_sync() -> None:
    """Wire the tasks; the module's docstring is the runbook."""

    @lineage_task(
        "extract",
        pool="dataverse",
        execution_timeout=timedelta(hours=6),
        map_index_template="{{ task.op_kwargs['table'] }}",
    )
    def extract(table: str, **context: Any) -> dict[str, Any]:
        return steps.extract(table, context["dag_run"], context["params"])

    children = extract.override(task_id="extract_children").expand(table=CHILDREN)
    # The parents are read even if a child has failed: what they bring is not lost. Only `transform` needs them all.
    parents = extract.override(task_id="extract_parents", trigger_rule="all_done").expand(table=PARENTS)
    children >> parents
    release_after(children, parents, then=load_marketo)


opportunity_sync()
