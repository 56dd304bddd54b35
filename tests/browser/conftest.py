"""One browser per module, and what it showed when a test failed."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser import install
from tests.browser.site import SHOWN


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; ended with the module, because while it runs nothing else can run an event loop."""
    found = install.find()
    assert found, "There is no browser: `make browser` installs one"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found.program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keep a screenshot and the HTML of the page of a failed test, and name them in its report."""
    report = yield
    if report.when == "call" and report.failed and SHOWN in item.stash:
        page, folder = item.stash[SHOWN]
        page.screenshot(path=folder / "page.png", full_page=True)
        (folder / "page.html").write_text(page.content(), encoding="utf-8")
        kept = f"{page.url}\nscreenshot: {folder / 'page.png'}\nHTML: {folder / 'page.html'}"
        report.sections.append(("Browser", kept))
    return report
