from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from opportunity_sync.errors import BatchRefusedError
from tests.mail_server import Inbox, body, mail_server


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """A real mail server that the connection `smtp_default` points at."""
    with mail_server() as (inbox, connection):
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield inbox


def _failure(error: Exception) -> dict[str, Any]:
    ti = SimpleNamespace(
        task_id="extract_children", map_index=1, run_id="scheduled__1", try_number=1, log_url="http://127.0.0.1/log"
    )
    return {"ti": ti, "exception": error}


REFUSED = BatchRefusedError(
    "Table contact, page 3: <b>not</b> a number", state="Nothing was kept", action="Correct the row in Dynamics"
)


def test_a_failure_is_mailed_to_everyone_in_the_variable(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from opportunity_sync.alerts import report_failure

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com, b@example.com")
    report_failure(_failure(REFUSED))
    ((recipients, message),) = inbox.messages
    assert recipients == ["a@example.com", "b@example.com"]
    assert message["Subject"] == "opportunity_sync: extract_children [1] failed with BatchRefusedError"
    text = body(message)
    assert "Correct the row in Dynamics" in text
    assert "&lt;b&gt;not&lt;/b&gt;" in text
    assert "http://127.0.0.1/log" in text


@pytest.mark.parametrize("addresses", [None, "", " , "])
def test_without_addresses_a_failure_goes_to_the_log_only(
    addresses: str | None, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from opportunity_sync.alerts import report_failure

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", addresses or "")
    with caplog.at_level(logging.ERROR, logger="opportunity_sync.alerts"):
        report_failure(_failure(REFUSED))
    assert inbox.messages == []
    assert "Table contact, page 3" in caplog.text


def test_an_error_that_is_not_ours_is_not_quoted_because_it_may_hold_personal_data(inbox: Inbox) -> None:
    from opportunity_sync import alerts

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
        alerts.report_failure(_failure(ValueError("jane.doe@example.com")))
    text = body(inbox.messages[0][1])
    assert "jane.doe" not in text
    assert "ValueError" in str(inbox.messages[0][1]["Subject"])


def _late(run_type: str) -> dict[str, Any]:
    return {
        "dag_run": {"dag_run_id": "scheduled__1", "run_type": run_type, "state": "running"},
        "deadline": {"deadline_time": "2026-11-22T15:00:00Z"},
    }


def test_a_late_run_is_mailed_with_the_age_of_what_is_live(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from opportunity_sync.alerts import report_late_run

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(tmp_path))
    asyncio.run(report_late_run(_late("scheduled")))
    ((_, message),) = inbox.messages
    assert message["Subject"] == "opportunity_sync: no new release in time"
    assert "There is no live release yet" in body(message)


def test_a_late_backfill_run_is_nobodys_alarm(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from opportunity_sync.alerts import report_late_run

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    asyncio.run(report_late_run(_late("backfill")))
    assert inbox.messages == []
