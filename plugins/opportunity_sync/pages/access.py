"""Who may see the pages, decided by Airflow: whoever may read the DAG `opportunity_sync`.

Airflow does not protect the FastAPI app of a plugin. Every route of ours depends on `may_read_the_dag`, so each request
needs a session (or an API token) and that right, whichever auth manager is in use.
"""

from __future__ import annotations

from datetime import datetime

from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
from fastapi import Depends, HTTPException, Request, status
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials

DAG_ID = "opportunity_sync"
PUBLISHING_DAGS = (DAG_ID, "opportunity_backfill", "opportunity_reconcile")

_require_dag = requires_access_dag("GET", param_dag_id=DAG_ID)


async def may_read_the_dag(
    request: Request,
    bearer: HTTPAuthorizationCredentials | None = Depends(bearer_scheme),  # noqa: B008 (FastAPI's way)
) -> None:
    """Let a request pass that Airflow knows and allows.

    Raises:
        HTTPException: 401 when Airflow does not accept who asks, 403 when the right is missing.
    """
    try:
        user = await get_user(request, None, bearer)
    except HTTPException as error:  # Airflow says 403 to a token that it cannot read; to us that is no session
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, error.detail) from error
    await run_in_threadpool(_require_dag, request, user)  # asks Airflow's database


def dag_of_run(run_id: str, at: datetime) -> str | None:
    """Which of our DAGs a run belongs to; None when Airflow does not know the run (any more).

    Args:
        run_id: two DAGs may have runs of the same name.
        at: when the run built its release.
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = (
        select(DagRun.dag_id)
        .where(DagRun.dag_id.in_(PUBLISHING_DAGS), DagRun.run_id == run_id, DagRun.start_date <= at)
        .order_by(DagRun.start_date.desc())
        .limit(1)
    )
    with create_session() as session:
        return session.scalar(query)
