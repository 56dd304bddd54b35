"""`make run` as a user types it: the stand-in, Airflow's own `dags test`, and what is published."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opportunity_sync.settings import PROJECT
from quickstart import processes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]

EXPECTED: dict[str, Any] = json.loads((PROJECT / "sample_data" / "expected.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Run:
    """One `make run`: what it printed, and a copy of what it published."""

    output: str
    data: Path
    published: Path


def _run(data: Path, copy: Path, *arguments: str) -> Run:
    finished = subprocess.run(
        [sys.executable, "-m", "quickstart", "run", *arguments],
        cwd=PROJECT,
        env={
            **os.environ,
            "OPPORTUNITY_SYNC_DATA": str(data),
            "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}",
            # An environment's own CA and its own Airflow must not get in the way.
            "REQUESTS_CA_BUNDLE": "/nonexistent/ca.pem",
            "CURL_CA_BUNDLE": "/nonexistent/ca.pem",
            "AIRFLOW__CORE__EXECUTOR": "nonsense",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    copy.write_bytes((data / "published" / "opportunities.duckdb").read_bytes())
    return Run(finished.stdout, data, copy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def first(folder: Path) -> Run:
    return _run(folder / "data", folder / "first.duckdb")


@pytest.fixture(scope="module")
def second(folder: Path, first: Run) -> Run:
    return _run(first.data, folder / "second.duckdb")


def _query(run: Run, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(run.published), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _opportunities(run: Run) -> dict[str, dict[str, Any]]:
    """What is published, in the shape of `expected.json`."""
    columns = ("contact_id", "role", "role_source", "is_primary")
    found: dict[str, dict[str, Any]] = {
        key: {"account_id": account, "account_rule": rule, "customer_id": customer, "roles": []}
        for key, account, rule, customer in _query(
            run, "select opportunity_id::text, account_id::text, account_rule, customer_id::text from opportunities"
        )
    }
    for key, *values in _query(
        run, f"select opportunity_id::text, contact_id::text, {', '.join(columns[1:])} from opportunity_contact_roles"
    ):
        found[key]["roles"].append(dict(zip(columns, values, strict=True)))
    return found


def _assert_as_expected(run: Run, expected: list[dict[str, Any]]) -> None:
    published = _opportunities(run)
    for row in expected:
        wanted = {key: row[key] for key in ("account_id", "account_rule", "customer_id", "roles")}
        found = published[row["opportunity_id"]]
        for roles in (wanted["roles"], found["roles"]):
            roles.sort(key=lambda role: (role["contact_id"], role["role"]))
        assert found == wanted, row["opportunity_id"]


def test_a_first_run_publishes_what_the_rules_say(first: Run) -> None:
    rows = {table: _query(first, f"select count(*) from {table}")[0][0] for table in EXPECTED["rows"]}
    assert rows == EXPECTED["rows"]
    rules = dict(_query(first, "select account_rule, count(*) from opportunities group by all"))
    assert rules == EXPECTED["account_rules"]
    assert {row["opportunity_id"] for row in EXPECTED["opportunities"]} == set(_opportunities(first))
    _assert_as_expected(first, EXPECTED["opportunities"])


def test_a_first_run_shows_its_steps_and_a_summary(first: Run) -> None:
    steps = (
        "extract opportunity",
        "extract connection",
        "extract contact",
        "transform",
        "validate",
        "publish",
        "export",
        "load_marketo",
    )
    for text in (
        *steps,
        "full read: 40 rows",
        "customer_is_account",
        "Potential Customer",
        "Expectations",
        str(first.data / "published" / "opportunities.duckdb"),
        "select ",
        "In Marketo",
        "opportunities/roles",
    ):
        assert text in first.output, text


def test_a_second_run_changes_the_organisation_first_and_syncs_only_the_changes(second: Run) -> None:
    after = EXPECTED["after_changes"]
    rows = {table: _query(second, f"select count(*) from {table}")[0][0] for table in after["rows"]}
    assert rows == after["rows"]
    _assert_as_expected(second, after["opportunities"])
    names = dict(_query(second, "select opportunity_id::text, name from opportunities"))
    assert {key: names[key] for key in after["names"]} == after["names"]
    assert set(names) & set(after["gone"]["opportunities"]) == set()
    assert "changes read:" in second.output
    assert "full read:" not in second.output
    assert "Changed in the release by this run" in second.output


def test_a_third_run_still_has_something_to_show(folder: Path, second: Run) -> None:
    third = _run(second.data, folder / "third.duckdb")
    assert " is won" in third.output
    assert " is renamed" in third.output
    won = "select count(*) from opportunities where is_won"
    assert _query(third, won)[0][0] == _query(second, won)[0][0] + 1


def test_marketo_holds_what_is_published_and_roles_of_everybody_with_one_lead(second: Run, tmp_path: Path) -> None:
    from emulator.marketo.instance import Instance

    shutil.copytree(second.data / "marketo-emulator", tmp_path / "instance")
    instance = Instance(tmp_path / "instance")
    live = Run(second.output, second.data, second.data / "published" / "opportunities.duckdb")
    published = {
        key: (name, state, amount)
        for key, name, state, amount in _query(
            live, "select opportunity_id::text, name, state, amount_base::double from opportunities"
        )
    }
    held = {
        each["externalOpportunityId"]: (each["name"], each["stage"], each.get("amount"))
        for each in instance.table("opportunities")
    }
    assert held.keys() == published.keys()
    for key, (name, state, amount) in published.items():
        assert held[key] == (name if len(name) <= 255 else f"{name[:254]}…", state, amount)
    leads: dict[str, list[int]] = {}
    for lead in instance.table("leads"):
        leads.setdefault(str(lead.get("email")).lower(), []).append(lead["id"])
    wanted = {
        (key, *leads[email.lower()], role[:42], is_primary)
        for key, email, role, is_primary in _query(
            live,
            "select r.opportunity_id::text, c.email, r.role, r.is_primary "
            "from opportunity_contact_roles r join contacts c using (contact_id) where c.email is not null",
        )
        if len(leads.get(email.lower(), [])) == 1
    }
    roles = list(instance.table("opportunities/roles"))
    instance.close()
    assert len(wanted) > 20
    assert {(e["externalOpportunityId"], e["leadId"], e["role"][:42], e["isPrimary"]) for e in roles} == wanted
    assert len({(e["externalOpportunityId"], e["leadId"], e["role"]) for e in roles}) == len(roles)


def test_a_run_leaves_no_process_and_nothing_outside_its_data_root(second: Run) -> None:
    assert processes.running(f"run:{second.data}") == []
    beside = {path.name for path in second.data.parent.iterdir()} - {"first.duckdb", "second.duckdb", "third.duckdb"}
    assert beside == {second.data.name}


def test_another_seed_on_the_same_data_root_is_refused(second: Run, tmp_path: Path) -> None:
    before = (second.data / "published" / "opportunities.duckdb").read_bytes()
    finished = subprocess.run(
        [sys.executable, "-m", "quickstart", "run", "--seed", str(tmp_path)],
        cwd=PROJECT,
        env={
            **os.environ,
            "OPPORTUNITY_SYNC_DATA": str(second.data),
            "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    said = " ".join(finished.stdout.split())
    assert "Set OPPORTUNITY_SYNC_DATA to another folder" in said
    assert "Traceback" not in finished.stdout + finished.stderr
    assert (second.data / "published" / "opportunities.duckdb").read_bytes() == before
