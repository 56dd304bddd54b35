"""The quality report in a real browser, opened as a file: readable, accessible, and complete without any request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from opportunity_sync.data_root import DataRoot
from opportunity_sync.quality import report
from opportunity_sync.release import Release
from opportunity_sync.settings import Settings
from tests.test_quality import FAILED, MET, WARNED

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def file(candidate_template: tuple[Settings, Release], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything: failures, a warning, and expectations that were met."""
    settings, release = candidate_template
    folder = DataRoot(settings.data).candidates / release.release_id
    path = tmp_path_factory.mktemp("mailed") / "quality.html"
    page = report(settings, folder, release, [MET, WARNED, FAILED], release, datetime.now(UTC))
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Page, list[str]]]:
    """The report in a window as the test's parameter says; and the addresses it asked for."""
    options: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}} | getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(file.as_uri())
    yield page, asked
    context.close()


WINDOWS = [
    {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for width in (1280, 390)
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize("opened", WINDOWS, indirect=True, ids=str)
def test_it_fits_any_window_and_axe_finds_nothing(opened: tuple[Page, list[str]], file: Path) -> None:
    page, asked = opened
    for details in page.locator("details").all():
        details.evaluate("each => each.open = true")

    assert asked == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [(found["id"], found["impact"]) for found in Axe().run(page).response["violations"]] == []


@pytest.mark.parametrize("opened", [{"java_script_enabled": False}], indirect=True)
def test_it_needs_no_script(opened: tuple[Page, list[str]]) -> None:
    page, asked = opened
    assert len(asked) == 1
    assert page.locator("h1").inner_text().startswith("Quality of release ")
    assert page.locator(".verdict").inner_text().startswith("Refused: 1 critical expectation of 3 failed")
    passed = page.get_by_text("No opportunity_id occurs twice")
    assert not passed.is_visible()
    page.get_by_text("Published table opportunities: 1").click()
    assert passed.is_visible()
    assert page.get_by_text("key-19").is_visible()


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}], indirect=True)
def test_it_prints_dark_on_light_and_what_is_folded_too(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(244, 244, 245)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(24, 24, 27)"
    assert page.get_by_text("No opportunity_id occurs twice").is_visible()
    assert page.get_by_text("key-of-warned").is_visible()
