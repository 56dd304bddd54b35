"""`opportunity-sync marketo` and the DAG's step, through an Airflow connection to the stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from emulator.marketo.server import MarketoEmulator, running
from opportunity_sync import steps
from opportunity_sync.cli import app
from opportunity_sync.settings import load_settings
from tests.marketo_load.instances import ROLES
from tests.marketo_load.releases import contact, opportunity, publish, role

pytestmark = pytest.mark.slow

CLI = CliRunner()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with a live release of two opportunities and two roles, one of a contact without a lead."""
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("AIRFLOW_CONN_MARKETO_DEFAULT", raising=False)
    publish(
        load_settings(),
        opportunities=[opportunity("o1"), opportunity("o2", name="x" * 300)],
        opportunity_contact_roles=[role("o1", "c1"), role("o1", "c2")],
        contacts=[contact("c1"), contact("c2")],
    )
    return tmp_path / "data"


@pytest.fixture
def instance(data: Path, tls_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MarketoEmulator]:
    with running(tls_dir=tls_dir) as emulator:
        emulator.upsert("leads", [{"email": "c1@example.com"}])
        connection = {
            "conn_type": "generic",
            "host": emulator.url,
            "login": emulator.client_id,
            "password": emulator.client_secret,
            "extra": {"ca_bundle": emulator.ca_bundle},
        }
        monkeypatch.setenv("AIRFLOW_CONN_MARKETO_DEFAULT", json.dumps(connection))
        yield emulator


@pytest.fixture
def run() -> Callable[..., str]:
    def call(*arguments: str, code: int = 0) -> str:
        result = CLI.invoke(app, ["marketo", *arguments])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.output

    return call


def test_status_shows_what_is_to_be_sent_then_that_it_is_there(
    run: Callable[..., str], instance: MarketoEmulator
) -> None:
    text = run("status")
    assert f"instance       {instance.url}, " in text
    assert "live release   r1; last loaded to the end: none yet" in text
    assert "opportunities: 0 confirmed, 2 to create, 0 to update, 0 to delete, 1 of them cut" in text
    assert "parked not_looked_up: 2" in text
    assert instance.records("opportunities") == []
    told = steps.load_marketo({})
    assert told is not None
    assert told["sent"] == {"opportunities": {"created": 2}, ROLES: {"created": 1}}
    assert json.loads(json.dumps(told)) == told
    found = json.loads(run("status", "--json"))
    assert found["loaded_release"] == found["release_id"] == "r1"
    assert found["calls_today"] == instance.used_today
    assert found["objects"]["opportunities"]["confirmed"] == 2
    assert found["objects"][ROLES] | {"confirmed": 1, "parked": {"no_lead": 1}} == found["objects"][ROLES]


@pytest.mark.usefixtures("instance")
def test_a_refused_record_is_counted_by_its_code(run: Callable[..., str]) -> None:
    publish(load_settings(), "r2", opportunities=[opportunity("o1", name=None)])
    steps.load_marketo({})
    assert "rejected, code 1002: 1" in run("status")


def test_a_dry_run_names_its_plan_and_sends_nothing(run: Callable[..., str], instance: MarketoEmulator) -> None:
    told_as_json = json.loads(run("dry-run", "--json"))
    text = run("dry-run")
    file = text.rsplit("every intended call: ", 1)[1].strip()
    with duckdb.connect() as connection:
        rows = connection.execute(f"select action, count(*) from '{file}' group by all order by all").fetchall()
    assert rows == [("create", 3), ("parked", 1)]
    assert told_as_json["plan"] == file
    told = steps.load_marketo({"marketo_dry_run": True})
    assert told is not None
    assert (told["sent"], told["plan"]) == ({}, file)
    assert instance.records("opportunities") == instance.records(ROLES) == []


def test_a_rebuilt_ledger_says_what_marketo_holds(run: Callable[..., str], instance: MarketoEmulator) -> None:
    steps.load_marketo({})
    for file in load_settings().data.glob("marketo/*/ledger.duckdb"):
        file.unlink()
    text = run("rebuild-ledger")
    assert "opportunities: Marketo holds 2" in text
    assert f"{ROLES}: Marketo holds 1" in text
    assert len(instance.records(ROLES)) == 1


@pytest.mark.usefixtures("data")
def test_without_a_connection_the_command_says_so_and_the_step_does_nothing(run: Callable[..., str]) -> None:
    assert "There is no Airflow connection marketo_default" in run("status", code=1)
    assert steps.load_marketo({}) is None
