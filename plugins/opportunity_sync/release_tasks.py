"""What the DAGs share: how tasks are retried and reported, and the tasks from raw batches to a live release."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import Metadata
from airflow.sdk.exceptions import AirflowSkipException

from opportunity_sync import steps
from opportunity_sync.alerts import report_failure
from opportunity_sync.assets import PUBLISHED
from opportunity_sync.lineage_events import lineage_task
from opportunity_sync.retries import RetryTransientErrors

DEFAULT_ARGS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "retry_policy": RetryTransientErrors(),
    "on_failure_callback": report_failure,
}
"""`default_args` of every DAG."""


@lineage_task("transform", pool="warehouse", execution_timeout=timedelta(hours=2))
def transform(**context: Any) -> str:
    """Apply new batches and build a candidate; returns its release id."""
    return steps.transform(context["dag_run"])


@lineage_task("validate", pool="warehouse", execution_timeout=timedelta(hours=1))
def validate(release_id: Any) -> str:
    """Validate a candidate; returns the same release id."""
    return steps.validate(release_id)


@lineage_task("publish", pool="warehouse", execution_timeout=timedelta(minutes=30), outlets=[PUBLISHED])
def publish(release_id: Any) -> Any:
    """Make a validated candidate the live release, and tell Airflow about it."""
    yield Metadata(PUBLISHED, steps.publish(release_id))


@lineage_task(pool="warehouse", execution_timeout=timedelta(minutes=30))
def export(release_id: Any) -> None:
    """Write a published release as Parquet."""
    steps.export(release_id)


@lineage_task(pool="marketo", execution_timeout=timedelta(hours=2))
def load_marketo(**context: Any) -> Any:
    """Load the live release into Marketo; skipped without a connection to an instance."""
    loaded = steps.load_marketo(context["params"])
    if loaded is None:
        raise AirflowSkipException("There is no connection marketo_default: nothing is loaded into Marketo")
    return loaded


def release_after(*upstream: Any, trigger_rule: str = "all_success", then: Callable[[], Any] | None = None) -> Any:
    """Wire `transform`, `validate`, `publish` and `export` behind other tasks.

    Args:
        upstream: the tasks that bring the batches.
        trigger_rule: what has to be true of them before `transform` runs.
        then: a further task behind `publish`.

    Returns:
        The last task.
    """
    transformed = transform.override(trigger_rule=trigger_rule)()
    for each in upstream:
        each >> transformed
    validated = validate(transformed)
    published = publish(validated)
    exported = export(validated)
    published >> exported
    if then is not None:
        published >> then()
    return exported
