from __future__ import annotations

import asyncio
import json
import logging
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opportunity_sync.data_root import open_data_root
from opportunity_sync.errors import BatchRefusedError, DriftError
from opportunity_sync.publish import publish
from opportunity_sync.settings import load_settings
from tests.mail_server import Inbox, body, mail_server
from tests.small_organisation import build, extract, let_pass, organisation

DAG_IDS = ("opportunity_sync", "opportunity_backfill", "opportunity_reconcile")


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Inbox]:
    """A real mail server that the connection `smtp_default` points at, and an empty data root."""
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(tmp_path / "data"))
    with mail_server() as (inbox, connection):
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield inbox


def _failure(
    error: Exception, dag_id: str = "opportunity_sync", logical_date: datetime | None = NOON
) -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id=dag_id,
        task_id="extract_children",
        map_index=1,
        run_id="scheduled__1",
        try_number=1,
        log_url="http://127.0.0.1/log",
    )
    return {"ti": ti, "exception": error, "dag_run": SimpleNamespace(logical_date=logical_date)}


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
        "dag_run": {
            "dag_id": "opportunity_sync",
            "dag_run_id": "scheduled__1",
            "run_type": run_type,
            "state": "running",
        },
        "deadline": {"deadline_time": "2026-11-22T15:00:00Z"},
    }


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_failure_names_its_dag_and_the_command_that_lets_the_task_run_again(
    dag_id: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opportunity_sync.alerts import report_failure

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    report_failure(_failure(REFUSED, dag_id))
    ((_, message),) = inbox.messages
    assert str(message["Subject"]).startswith(f"{dag_id}: extract_children [1] failed")
    text = body(message)
    assert f"airflow tasks clear {dag_id} --task-regex '^extract_children$' --downstream --only-failed --yes" in text
    assert "--start-date 2026-06-01T12:00:00+00:00 --end-date 2026-06-01T12:00:00+00:00" in text
    assert "opportunity-sync status" in text
    assert "BatchRefusedError in docs/runbook.md" in text


def test_a_failure_of_a_run_without_a_logical_date_still_names_the_command(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opportunity_sync.alerts import report_failure

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    report_failure(_failure(REFUSED, logical_date=None))
    text = body(inbox.messages[0][1])
    assert "airflow tasks clear opportunity_sync" in text
    assert "--start-date" not in text


def test_drift_that_is_already_repaired_gives_no_command_to_clear_anything(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opportunity_sync.alerts import report_failure

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    drift = DriftError("Table contact had drifted", state="It is repaired", action="See *Drift* in docs/runbook.md")
    report_failure(_failure(drift, "opportunity_reconcile"))
    text = body(inbox.messages[0][1])
    assert "airflow tasks clear" not in text
    assert "Nothing to clear" in text


def test_the_command_in_the_mail_is_one_that_airflow_understands() -> None:
    from airflow.cli.cli_parser import get_parser

    from opportunity_sync.alerts import _clear_command

    command = shlex.split(_clear_command(_failure(REFUSED)))
    parsed = get_parser().parse_args(command[1:])
    assert (parsed.dag_id, parsed.task_regex) == ("opportunity_sync", "^extract_children$")
    assert (parsed.start_date, parsed.end_date) == (NOON, NOON)
    assert parsed.only_failed
    assert parsed.downstream


def test_a_failure_says_which_release_readers_see_and_how_old_it_is(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opportunity_sync import alerts

    settings = load_settings()
    extract(settings, organisation())
    release = publish(settings, let_pass(settings, build(settings)).release_id)
    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    alerts.report_failure(_failure(REFUSED))
    alerts._report_late_run(_late("scheduled"))
    for _, message in inbox.messages:
        assert (
            f"Readers see release {release.release_id}, built {release.released_at:%Y-%m-%d %H:%M} UTC, 0.0 hours ago"
            in (" ".join(body(message).split()))
        )


def test_an_alarm_is_sent_also_when_the_live_release_is_damaged(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from opportunity_sync.alerts import report_failure

    live_file = open_data_root(load_settings().data).live_file
    live_file.parent.mkdir(parents=True, exist_ok=True)
    live_file.write_bytes(b"no database")
    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    report_failure(_failure(REFUSED))
    text = " ".join(body(inbox.messages[0][1]).split())
    assert "What readers see is not known" in text
    assert "opportunity-sync rollback" in text
    assert "Correct the row in Dynamics" in text


def test_a_late_run_is_mailed_with_the_age_of_what_is_live(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from opportunity_sync.alerts import report_late_run

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(tmp_path))
    asyncio.run(report_late_run(_late("scheduled")))
    ((_, message),) = inbox.messages
    assert message["Subject"] == "opportunity_sync: no new release in time"
    assert "there is no live release" in body(message)
    assert "airflow dags list-runs opportunity_sync" in body(message)


def test_a_late_backfill_run_is_nobodys_alarm(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from opportunity_sync.alerts import report_late_run

    monkeypatch.setenv("AIRFLOW_VAR_OPPORTUNITY_SYNC_ALERT_EMAILS", "a@example.com")
    asyncio.run(report_late_run(_late("backfill")))
    assert inbox.messages == []
