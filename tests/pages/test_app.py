"""Addresses, states and headers; who is let in is decided by the guard, see `test_airflow.py` for the real one."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pytest
from fastapi import HTTPException
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.pages.app import MOUNT, create_app
from opportunity_sync.settings import PROJECT, Settings
from tests.lakes import identity
from tests.pages.conftest import ODD_NAMES, Open, opportunity
from tests.small_organisation import settings_for

pytestmark = pytest.mark.slow

ADDRESSES = ["", "releases", "opportunities", "opportunities?q=deal", "quality", opportunity("o1"), opportunity("o5")]


def routes() -> list[str]:
    """Every address of the app, with something for each parameter."""
    app = create_app(lambda: None, lambda run_id, at: None)
    paths = [route.path for route in app.routes if isinstance(route, APIRoute)]
    assert len(paths) == len(app.routes), "a route that no guard was asked for"
    return [re.sub(r"\{[^}]*\}", str(identity("o1")), path).removeprefix("/") for path in paths]


def title(text: str) -> str:
    found = re.search(r"<title>(.*?)</title>", text, flags=re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("address", [*routes(), "anything/else"])
def test_every_route_asks_the_guard_first(published_template: Settings, open_pages: Open, address: str) -> None:
    def nobody() -> None:
        raise HTTPException(401, "Not authenticated")

    pages = open_pages(published_template, guard=nobody)
    program = pages.get(address, headers={"Accept": "*/*"})
    assert (program.status_code, program.json()) == (401, {"detail": "Not authenticated"})
    browser = pages.get(address, follow_redirects=False)
    assert browser.status_code == 302
    assert browser.headers["location"] == f"/api/v2/auth/login?next={quote(f'{MOUNT}/{address}', safe='')}"
    assert browser.text == ""


def test_after_the_login_the_browser_comes_back_to_the_same_search(published: Settings, open_pages: Open) -> None:
    def nobody() -> None:
        raise HTTPException(401)

    pages = open_pages(published, guard=nobody)
    location = pages.get("opportunities?q=a%26b", follow_redirects=False).headers["location"]
    assert location == "/api/v2/auth/login?next=%2Fopportunity-sync%2Fopportunities%3Fq%3Da%2526b"


@pytest.mark.parametrize("address", [*routes(), "anything/else"])
def test_without_the_right_every_route_says_403_and_nothing_else(
    published_template: Settings, open_pages: Open, address: str
) -> None:
    def refused() -> None:
        raise HTTPException(403, "Forbidden")

    pages = open_pages(published_template, guard=refused)
    answer = pages.get(address)
    assert answer.status_code == 403
    assert "the right to read the DAG opportunity_sync" in answer.text
    assert "Deal" not in answer.text
    assert pages.get(address, headers={"Accept": "*/*"}).json() == {"detail": "Forbidden"}


@pytest.mark.parametrize("address", [*ADDRESSES, "style.css", "icon.svg", "nothing/here", "releases?page=0"])
def test_every_answer_forbids_scripts_framing_by_others_and_storing(pages: TestClient, address: str) -> None:
    headers = pages.get(address).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'self'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_page_has_a_script_an_inline_style_or_an_address_elsewhere(pages: TestClient, address: str) -> None:
    text = pages.get(address).text
    assert re.findall(r"<script|<style|<iframe|\bon\w+=|\bstyle=|javascript:", text) == []
    assert [link for link in re.findall(r'(?:href|src|action)="([^"]*)"', text) if not re.match(r"/|#", link)] == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_link_to_a_page_leads_to_one(pages: TestClient, address: str) -> None:
    links = set(re.findall(rf'(?:href|src)="({MOUNT}[^"#]*)', pages.get(address).text))
    assert len(links) >= 6
    found = {link: pages.get(f"http://testserver{link.replace('&amp;', '&')}").status_code for link in links}
    assert {link: code for link, code in found.items() if code != 200} == {}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "Overview"),
        ("releases", "Releases"),
        ("opportunities", "Opportunities"),
        ("quality", "Quality"),
        (opportunity("o9"), "Deal 9, final"),
        (opportunity("o7"), "(no name)"),
        (opportunity("o1"), "&lt;script&gt;alert(&#39;deal&#39;)&lt;/script&gt;"),
    ],
)
def test_titles_say_which_page_it_is(pages: TestClient, address: str, expected: str) -> None:
    assert title(pages.get(address).text) == f"{expected} - Opportunity sync"


@pytest.mark.parametrize("name", [name for name, text in ODD_NAMES.items() if text])
def test_names_are_text_wherever_they_stand(pages: TestClient, name: str) -> None:
    text = str(ODD_NAMES[name])
    shown = escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    for address in (opportunity(name), f"opportunities?q={quote(text)}"):
        page = pages.get(address).text
        assert f"<bdi>{shown}</bdi>" in page
        if shown != text:
            assert text not in page


def test_what_is_searched_for_is_text_too(pages: TestClient) -> None:
    page = pages.get("opportunities", params={"q": '"><script>alert(1)</script>'}).text
    assert "<script" not in page
    assert 'value="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"' in page


@pytest.mark.parametrize(
    "address",
    [
        "opportunities/rubbish",
        f"opportunities/{identity('o999')}",
        f"opportunities/{{{identity('o1')}}}",
        f"opportunities/{identity('o1').hex}",
        "opportunities/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "opportunities/' or 1=1 --",
        "releases/20260101T000000000000Z",
        "releases/..%2f..%2fwarehouse",
        "releases/%00",
        "releases/x?table=release_changes",
        "quality/expectation?suite=marts",
        "quality/expectation?suite='&relation=x&expectation=y",
        "releases?page=-1",
        "releases?page=x",
        "style.css/%2e%2e/%2e%2e/format.json",
        "nothing",
    ],
)
def test_what_does_not_exist_is_a_page_that_says_so(pages: TestClient, address: str) -> None:
    answer = pages.get(address)
    assert answer.status_code == 404
    assert "There is no such" in answer.text
    assert "Traceback" not in answer.text


def test_a_run_is_linked_where_airflow_knows_it_with_its_id_encoded(published: Settings, open_pages: Open) -> None:
    first = first_release(published)
    known = open_pages(published, dag_of_run=lambda run_id, at: "opportunity_backfill")
    link = "/dags/opportunity_backfill/runs/manual__first%20run%2B1"
    assert f'href="{link}" target="_top"' in known.get(f"releases/{first}").text
    unknown = open_pages(published, dag_of_run=lambda run_id, at: None).get(f"releases/{first}").text
    assert "manual__first run+1" in unknown
    assert "/dags/" not in unknown


def test_airflow_is_asked_for_the_run_at_the_moment_the_release_was_built(
    published: Settings, open_pages: Open
) -> None:
    asked: list[tuple[str, Any]] = []
    open_pages(published, dag_of_run=lambda *question: asked.append(question)).get(
        f"releases/{first_release(published)}"
    )
    ((run_id, at),) = asked
    assert run_id == "manual__first run+1"
    assert at.utcoffset() == timedelta(0)
    assert f"{at:%Y%m%dT%H%M%S}" == first_release(published)[:15]


def test_behind_a_prefix_every_address_has_it(published_template: Settings, open_pages: Open) -> None:
    pages = open_pages(published_template, prefix="/team/airflow")
    for address in ADDRESSES:
        answer = pages.get(address)
        assert answer.status_code == 200
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', answer.text)
        assert [link for link in links if not link.startswith("/team/airflow/")] == []

    def nobody() -> None:
        raise HTTPException(401)

    guarded = open_pages(published_template, guard=nobody, prefix="/team/airflow")
    wanted = quote(f"/team/airflow{MOUNT}/releases?page=2", safe="")
    location = guarded.get("releases?page=2", follow_redirects=False).headers["location"]
    assert location == f"/team/airflow/api/v2/auth/login?next={wanted}"


def test_before_the_first_release_every_page_says_so(tmp_path: Path, open_pages: Open) -> None:
    pages = open_pages(settings_for(tmp_path / "data"))
    overview = pages.get("")
    assert (overview.status_code, title(overview.text)) == (200, "Overview - Opportunity sync")
    assert "No release yet: it appears with the first successful run" in overview.text
    for address in ("releases", "opportunities?q=x", opportunity("o1"), "quality", "releases/20260101T000000000000Z"):
        assert "No release yet" in pages.get(address).text
    assert not (tmp_path / "data").exists(), "looking must not create a data root"


@pytest.mark.parametrize("damage", ["rubbish", "short", "empty"])
def test_a_damaged_live_file_is_said_and_a_repaired_one_is_read(
    published: Settings, open_pages: Open, damage: str
) -> None:
    file = DataRoot(published.data).live_file
    good = file.read_bytes()
    bad = {"rubbish": b"rubbish" * 5000, "short": good[: len(good) // 3], "empty": b""}[damage]
    pages = open_pages(published)
    replace(file, bad)
    overview = pages.get("")
    assert overview.status_code == 503
    assert "Not healthy:" in overview.text
    assert "cannot be read" in overview.text
    for address in ("releases", "opportunities", opportunity("o1"), "quality"):
        answer = pages.get(address)
        assert answer.status_code == 503
        assert "opportunity-sync rollback" in answer.text
        assert "Traceback" not in answer.text
    replace(file, good)
    assert "Healthy" in pages.get("").text


def test_a_data_root_that_cannot_be_reached_is_said(tmp_path: Path, open_pages: Open) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    answer = open_pages(settings_for(tmp_path / "data")).get("releases")
    assert answer.status_code == 503
    assert "NotADirectoryError" in answer.text
    assert "Check that the API server may read it" in answer.text


def test_a_release_of_an_earlier_version_is_said(published: Settings, open_pages: Open) -> None:
    file = DataRoot(published.data).live_file
    older = file.with_name("older.duckdb")
    shutil.copyfile(file, older)
    with duckdb.connect(str(older)) as connection:
        connection.execute("drop view expectation_results_history")
    older.replace(file)
    answer = open_pages(published).get("releases")
    assert answer.status_code == 503
    assert "of an earlier version: it has no expectation_results_history" in answer.text


def test_wrong_settings_are_said_and_do_not_stop_the_app(open_pages: Open) -> None:
    def wrong() -> Settings:
        raise ConfigurationError("Settings are wrong", state="Nothing was read", action="Correct the environment")

    answer = open_pages(wrong).get("")
    assert answer.status_code == 500
    assert answer.text == "Settings are wrong. Nothing was read. Correct the environment."


def test_an_unforeseen_failure_is_a_page_and_a_log_entry(
    published: Settings, open_pages: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(run_id: str, at: object) -> str:
        raise ZeroDivisionError("secret detail")

    answer = open_pages(published, dag_of_run=broken).get("")
    assert answer.status_code == 500
    assert "This page could not be made" in answer.text
    assert "secret detail" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_the_stylesheet_is_the_one_of_the_project(pages: TestClient) -> None:
    answer = pages.get("style.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.text == (PROJECT / "include" / "pages" / "style.css").read_text(encoding="utf-8")
    assert "url(" not in answer.text
    assert "@import" not in answer.text


def first_release(settings: Settings) -> str:
    with duckdb.connect(str(DataRoot(settings.data).live_file), read_only=True) as connection:
        ((found,),) = connection.execute("select min(release_id) from releases").fetchall()
    return str(found)


def replace(file: Path, content: bytes) -> None:
    aside = file.with_suffix(".new")
    aside.write_bytes(content)
    aside.replace(file)
