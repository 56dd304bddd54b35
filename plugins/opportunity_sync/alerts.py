"""Who is told when a run fails or is late: always the log, and mail when someone has asked for it.

Mail goes out when the Airflow variable `opportunity_sync_alert_emails` holds addresses (separated by commas), through
the connection `smtp_default` of the SMTP provider (host, port, login, password; `from_email` in its extra). Both are
read when there is something to send, never when a DAG file is parsed. A message holds ids and counts, no personal data.
"""

from __future__ import annotations

import html
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from opportunity_sync.errors import DriftError, OpportunitySyncError

log = logging.getLogger(__name__)

RECIPIENTS = "opportunity_sync_alert_emails"
"""Airflow variable: addresses separated by commas; empty or missing = log only."""


def freshness_deadline(after: timedelta) -> DeadlineAlert | None:
    """The deadline of a run: `report_late_run` when it has not succeeded `after` it was queued.

    None under `airflow dags test`: with a deadline that command fails at the end of every successful run
    (https://github.com/apache/airflow/issues/73428, seen with 3.3.2), and its runs are never queued anyway.
    """
    if sys.argv[1:3] == ["dags", "test"]:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=AsyncCallback(report_late_run),
        name="freshness",
    )


def report_failure(context: Mapping[str, Any]) -> None:
    """Say that a task has failed for good (`on_failure_callback` of every task)."""
    ti = context["ti"]
    error = context.get("exception")
    map_index = f" [{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    # Only our own errors promise to hold no personal data; of others the type is told and the rest is in the log.
    reason = str(error) if isinstance(error, OpportunitySyncError) else "See the task's log."
    _send(
        f"{ti.dag_id}: {ti.task_id}{map_index} failed with {type(error).__name__}",
        f"Run {ti.run_id} of DAG {ti.dag_id}, task {ti.task_id}{map_index}, try {ti.try_number}.\n\n{reason}\n\n"
        f"{_live_release()}\n\n"
        f"Look: opportunity-sync status\n"
        f"{_next_command(context)}\n"
        f"Log: {ti.log_url}\n"
        f"{type(error).__name__} in docs/runbook.md says more.",
    )


async def report_late_run(context: Mapping[str, Any]) -> None:
    """Say that a run has not succeeded in time, so that the live release is getting old (callback of the deadline).

    Backfill runs are not reported: they wait for one another by design, and freshness is not their purpose.
    """
    from asgiref.sync import sync_to_async

    if context["dag_run"]["run_type"] != "backfill":
        await sync_to_async(_report_late_run)(context)


def _report_late_run(context: Mapping[str, Any]) -> None:
    run = context["dag_run"]
    _send(
        f"{run['dag_id']}: no new release in time",
        f"Run {run['dag_run_id']} of DAG {run['dag_id']} (state {run['state']}) has published nothing until its "
        f"deadline, {context['deadline']['deadline_time']}.\n\n{_live_release()}\n\n"
        "Look: opportunity-sync status\n"
        f"Look: airflow dags list-runs {run['dag_id']}\n"
        '"The deadline alarm" in docs/runbook.md says more.',
    )


def _next_command(context: Mapping[str, Any]) -> str:
    if isinstance(context.get("exception"), DriftError):
        return "Nothing to clear: all of it is repaired and published, and the next run looks again."
    return f"Once the cause is gone: {_clear_command(context)}"


def _clear_command(context: Mapping[str, Any]) -> str:
    """The command that lets the failed task of this run, and what waits for it, run again."""
    ti, run = context["ti"], context.get("dag_run")
    command = f"airflow tasks clear {ti.dag_id} --task-regex '^{ti.task_id}$' --downstream --only-failed --yes"
    at = getattr(run, "logical_date", None)
    return f"{command} --start-date {at.isoformat()} --end-date {at.isoformat()}" if at else command


def _live_release() -> str:
    """What readers see now; an alarm is sent also when that cannot be found out."""
    from opportunity_sync.publish import live
    from opportunity_sync.settings import load_settings

    try:
        release = live(load_settings())
    except OpportunitySyncError as error:
        return f"What readers see is not known: {error}"
    if release is None:
        return "Readers see nothing yet: there is no live release."
    hours = (datetime.now(UTC) - release.released_at).total_seconds() / 3600
    return (
        f"Readers see release {release.release_id}, built {release.released_at:%Y-%m-%d %H:%M} UTC, "
        f"{hours:.1f} hours ago."
    )


def _send(subject: str, text: str) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook
    from airflow.sdk import Variable

    log.error("%s\n%s", subject, text)
    recipients = [address.strip() for address in Variable.get(RECIPIENTS, default="").split(",") if address.strip()]
    if not recipients:
        return
    with SmtpHook() as smtp:
        smtp.send_email_smtp(
            to=recipients, subject=subject, html_content=f"<pre>{html.escape(text, quote=False)}</pre>"
        )
    log.info("Mailed to %d recipients", len(recipients))
