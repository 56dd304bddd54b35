"""The pages in a real Airflow API server: who is let in, and the way there."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import pytest
import requests

from opportunity_sync.data_root import DataRoot
from opportunity_sync.pages.app import MOUNT
from opportunity_sync.pages.live import LiveFile
from opportunity_sync.settings import PROJECT, Settings
from quickstart import processes, stack
from quickstart.environment import airflow_home, logs
from tests.pages.conftest import opportunity
from tests.pages.test_app import routes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(300)]

USERS = {"ada": "admin", "vera": "viewer", "nora": ""}
"""A user without a role has no right at all."""
PREFIX = "/team/airflow"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@dataclass(frozen=True)
class Airflow:
    """A running API server behind a prefix."""

    address: str
    passwords: dict[str, str]

    def get(self, path: str, user: str | None = None, **options: object) -> requests.Response:
        options = {"headers": BROWSER, "allow_redirects": False} | options
        cookies = {"_token": self.token(user)} if user else None
        return requests.get(f"{self.address}{path}", cookies=cookies, timeout=60, **options)  # type: ignore[arg-type]

    def token(self, user: str) -> str:
        login = {"username": user, "password": self.passwords[user]}
        answer = requests.post(f"{self.address}/auth/token", json=login, timeout=60)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def airflow(published_template: Settings) -> Iterator[Airflow]:
    settings, owner = published_template, f"pages:{published_template.data}"
    port = stack.free_port()
    variables = {
        **stack.stack_environment(settings, port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}{PREFIX}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
    }
    commands = {
        "migrate": ["-m", "quickstart.airflow_cli", "1", json.dumps([["db", "migrate"]])],
        "api-server": ["-m", "airflow", "api-server"],
    }
    try:
        for name, command in commands.items():
            with (logs(settings) / f"{name}.log").open("wb") as output:
                process = processes.start(
                    [sys.executable, *command], owner=owner, environment=variables, folder=PROJECT, output=output
                )
            if name == "migrate":
                assert process.wait() == 0, (logs(settings) / "migrate.log").read_text(encoding="utf-8")
        address = f"http://127.0.0.1:{port}{PREFIX}"
        _wait_for(address)
        yield Airflow(address, msgspec.json.decode((airflow_home(settings) / stack.PASSWORDS).read_bytes()))
    finally:
        processes.end(owner)
        process.wait(20)


@pytest.mark.parametrize("route", [*routes(), "docs", "openapi.json", "no/such/page"])
def test_no_page_and_no_data_without_a_session(airflow: Airflow, route: str) -> None:
    browser = airflow.get(f"{MOUNT}/{route}")
    assert (browser.status_code, browser.content) == (302, b"")
    assert browser.headers["location"].startswith(f"{PREFIX}/api/v2/auth/login?next=")
    for headers in ({"Accept": "application/json"}, {"Authorization": "Bearer forged"}, {"Cookie": "_token=forged"}):
        program = airflow.get(f"{MOUNT}/{route}", headers=headers)
        assert program.status_code == 401
        assert program.json().keys() == {"detail"}


@pytest.mark.parametrize("route", [*routes(), "no/such/page"])
def test_a_session_without_the_right_to_read_the_dag_sees_nothing(airflow: Airflow, route: str) -> None:
    answer = airflow.get(f"{MOUNT}/{route}", user="nora")
    assert answer.status_code == 403
    assert "Deal" not in answer.text
    assert "the right to read the DAG opportunity_sync" in answer.text


@pytest.mark.parametrize("user", ["ada", "vera"])
def test_whoever_may_read_the_dag_sees_the_pages(airflow: Airflow, user: str) -> None:
    for address in ("", "releases", "opportunities?q=deal", opportunity("o9"), "quality", "style.css", "icon.svg"):
        assert airflow.get(f"{MOUNT}/{address}", user=user).status_code == 200
    assert "Deal 9, final" in airflow.get(f"{MOUNT}/{opportunity('o9')}", user=user).text


def test_an_api_token_opens_them_too(airflow: Airflow) -> None:
    headers = {"Authorization": f"Bearer {airflow.token('vera')}"}
    assert airflow.get(f"{MOUNT}/releases", headers=headers).status_code == 200


def test_the_login_leads_back_to_the_page_that_was_asked_for(airflow: Airflow) -> None:
    to_login = airflow.get(f"{MOUNT}/opportunities?q=a%26b")
    host = airflow.address.removesuffix(PREFIX)
    login = requests.get(f"{host}{to_login.headers['location']}", allow_redirects=False, timeout=60)
    assert login.status_code == 307
    wanted = quote(f"{PREFIX}{MOUNT}/opportunities?q=a%26b", safe="")
    assert login.headers["location"] == f"{PREFIX}/auth/login?next={wanted}"


def test_the_navigation_has_the_entry_and_no_plugin_failed(airflow: Airflow) -> None:
    headers = {"Authorization": f"Bearer {airflow.token('ada')}"}
    plugins = airflow.get("/api/v2/plugins", headers=headers).json()["plugins"]
    (ours,) = [plugin for plugin in plugins if plugin["source"].startswith("$PLUGINS_FOLDER")]
    assert [view["name"] for view in ours["external_views"]] == ["Opportunity sync"]
    assert airflow.get("/api/v2/plugins/importErrors", headers=headers).json()["import_errors"] == []


def test_a_run_that_airflow_does_not_know_is_named_without_a_link(airflow: Airflow) -> None:
    page = airflow.get(f"{MOUNT}/", user="vera").text
    assert "manual__third" in page
    assert "/runs/" not in page


def test_a_run_is_linked_to_the_dag_that_was_running_when_the_release_was_built(
    airflow: Airflow, published_template: Settings
) -> None:
    """Two DAGs have a run of that name; the page of the release links to the one that had begun last, but before it."""
    begun = {
        "opportunity_sync": "2026-01-01",
        "opportunity_reconcile": "2026-01-02",
        "opportunity_backfill": "2999-01-01",
    }
    with closing(sqlite3.connect(airflow_home(published_template) / "airflow.db")) as database:
        for number, (dag_id, day) in enumerate(begun.items(), 1):
            database.execute(
                "insert into dag_run (id, dag_id, run_id, run_type, run_after, start_date, clear_number, span_status) "
                "values (?, ?, 'manual__second', 'manual', ?, ?, 0, 'not_started')",
                [number, dag_id, f"{day} 00:00:00.000000", f"{day} 00:00:00.000000"],
            )
        database.commit()
    with LiveFile().reading(DataRoot(published_template.data)) as live:
        assert live is not None
        release_id = live.value("select release_id from releases where run_id = 'manual__second'")
    page = airflow.get(f"{MOUNT}/releases/{release_id}", user="vera").text
    assert f'href="{PREFIX}/dags/opportunity_reconcile/runs/manual__second" target="_top"' in page


def test_pages_keep_their_headers_behind_airflows_middleware(airflow: Airflow) -> None:
    headers = airflow.get(f"{MOUNT}/", user="vera").headers
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{address}/api/v2/monitor/health", timeout=10).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    raise AssertionError("the API server does not answer")
