"""Pages over a data root, asked through HTTP as a browser would, but without Airflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from opportunity_sync.pages.app import MOUNT, create_app
from opportunity_sync.publish import publish
from opportunity_sync.settings import Settings
from tests.lakes import identity
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

ODD_NAMES = {
    "o1": "<script>alert('deal')</script>",
    "o2": "\"Quoted\" & 'apostrophised' <b>bold</b>",
    "o3": "\N{RIGHT-TO-LEFT OVERRIDE}עסקה גדולה",
    "o4": "Rocket \N{ROCKET} and flag \N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    "o6": "x" * 300,
    "o7": None,
    "o8": "100% of_it \\ {{ 7 * 7 }}",
}

Open = Callable[..., TestClient]


def publish_next(settings: Settings, rows: Mapping[str, Sequence[Mapping[str, Any]]], run_id: str = "test") -> str:
    """Extract, build and publish; gives the release id."""
    extract(settings, rows)
    return publish(settings, let_pass(settings, build(settings, run_id)).release_id).release_id


def odd_organisation() -> dict[str, list[dict[str, Any]]]:
    rows = organisation()
    for row in rows["opportunity"]:
        row["name"] = ODD_NAMES.get(row["opportunityid"], row["name"])
    rows["account"][2]["name"] = "<i>Account</i> & Sons"
    rows["contact"][2]["fullname"] = "<u>Contact</u>"
    return rows


@pytest.fixture(scope="session")
def published_template(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Three releases: one with odd names; o9 renamed and won, o5 deleted; o9 renamed again."""
    settings = settings_for(tmp_path_factory.mktemp("pages") / "data")
    rows = odd_organisation()
    publish_next(settings, rows, run_id="manual__first run+1")
    kept = [row for row in rows["opportunity"] if row["opportunityid"] != "o5"]
    for row in kept:
        if row["opportunityid"] == "o9":
            row |= {"name": "Deal 9, renamed", "statecode": 1, "statuscode": 3, "versionnumber": 2}
    publish_next(settings, {"opportunity": kept}, run_id="manual__second")
    renamed = [{**row, "name": "Deal 9, final", "versionnumber": 3} for row in kept if row["opportunityid"] == "o9"]
    extract(settings, {"opportunity": renamed}, mode="changes")
    publish(settings, let_pass(settings, build(settings, "manual__third")).release_id)
    return settings


@pytest.fixture
def published(published_template: Settings, tmp_path: Path) -> Settings:
    """A copy of those releases that a test may change."""
    shutil.copytree(published_template.data, tmp_path / "data")
    return settings_for(tmp_path / "data")


@pytest.fixture
def open_pages() -> Iterator[Open]:
    """Open pages of a data root: `open_pages(settings, guard=..., dag_of_run=..., prefix=...)`."""
    with ExitStack() as stack:

        def start(
            settings: Settings | Callable[[], Settings],
            *,
            guard: Callable[..., Any] = lambda: None,
            dag_of_run: Callable[..., str | None] = lambda run_id, at: "opportunity_sync",
            prefix: str = "",
        ) -> TestClient:
            airflow = FastAPI(root_path=prefix)
            read = settings if callable(settings) else lambda: settings
            airflow.mount(MOUNT, create_app(guard, dag_of_run, settings=read))
            asked = f"http://testserver{prefix}{MOUNT}/"
            return stack.enter_context(TestClient(airflow, base_url=asked, headers={"Accept": "text/html"}))

        yield start


@pytest.fixture
def pages(published_template: Settings, open_pages: Open) -> TestClient:
    """Pages over the three releases, read only."""
    return open_pages(published_template)


def opportunity(name: str) -> str:
    """Address of an opportunity's page."""
    return f"opportunities/{identity(name)}"
