"""The pages in Airflow's own UI, through a real browser: found, behind the login, readable, and right to the number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.site import SHOWN, Site, serving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

HEADINGS = {
    "overview": "Overview",
    "releases": "Releases",
    "release": "Release {release}",
    "opportunities": "Opportunities",
    "search": "Opportunities",
    "opportunity": "{name}",
    "quality": "Quality",
    "missing": "There is no such opportunity",
}
"""The page's heading, which with " - Opportunity sync" is its title."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def addresses(site: Site) -> dict[str, str]:
    """Every page; the opportunity is the one with most contact roles."""
    release = site.value("select release_id from release")
    opportunity = site.value(
        "select opportunity_id from opportunity_contact_roles group by all order by count(*) desc, 1 limit 1"
    )
    paths = {
        "overview": "",
        "releases": "releases",
        "release": f"releases/{release}",
        "opportunities": "opportunities",
        "search": "opportunities?q=customer",
        "opportunity": f"opportunities/{opportunity}",
        "quality": "quality",
        "missing": "opportunities/00000000-0000-4000-8000-ffffffffffff",
    }
    return {page: f"{site.address}/opportunity-sync/{path}" for page, path in paths.items()}


def _log_in(page: Page, site: Site) -> None:
    page.get_by_label("Username").fill(site.user)
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture(scope="module")
def session(browser: Browser, site: Site, addresses: dict[str, str]) -> Any:
    """What a browser remembers once somebody has logged in through Airflow's form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(addresses["overview"])
    _log_in(page, site)
    expect(page).to_have_title("Overview - Opportunity sync")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def stranger(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never logged in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def problems() -> list[str]:
    """What went wrong in the browser while a page was shown."""
    return []


@pytest.fixture
def page(
    browser: Browser,
    session: Any,
    site: Site,
    problems: list[str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Page]:
    """A page of somebody who has logged in; the test's parameter is its width."""
    context = browser.new_context(
        viewport={"width": getattr(request, "param", 1280), "height": 900}, storage_state=session
    )
    page = context.new_page()
    request.node.stash[SHOWN] = (page, tmp_path)
    host = urlsplit(site.address).netloc

    def note_request(sent: Any) -> None:
        if urlsplit(sent.url).netloc != host:
            problems.append(f"asked another host: {sent.url}")

    page.on("request", note_request)
    page.on("requestfailed", lambda sent: problems.append(f"failed: {sent.url} {sent.failure}"))
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()


def _cells(table: Locator) -> list[list[str]]:
    """A table's body as text."""
    rows: list[list[str]] = table.evaluate(
        "table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return rows


def _table(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True).locator("table")


def _facts(page: Page) -> dict[str, str]:
    """Terms and descriptions of the lists of facts."""
    found: dict[str, str] = page.locator("dl.facts > div").evaluate_all(
        "all => Object.fromEntries(all.map(each => [...each.children].map(child => child.innerText.trim())))"
    )
    return found


def test_somebody_finds_the_pages_in_airflows_navigation(stranger: BrowserContext, site: Site) -> None:
    page = stranger.new_page()
    page.goto(site.address)
    _log_in(page, site)
    page.get_by_role("button", name="Browse").click()
    with stranger.expect_page() as opened:
        page.get_by_role("menuitem", name="Opportunity sync").click()
    expect(opened.value).to_have_title("Overview - Opportunity sync")
    opened.value.get_by_role("link", name="Airflow", exact=True).click()
    expect(opened.value.get_by_role("button", name="Browse")).to_be_visible()


def test_without_a_session_every_page_leads_to_the_login_and_back_and_shows_nothing(
    stranger: BrowserContext, site: Site, addresses: dict[str, str]
) -> None:
    names = [name for (name,) in site.query("select name from opportunities where name is not null")]
    page = stranger.new_page()
    bodies: list[str] = []
    page.on(
        "response",
        lambda answer: bodies.append(answer.text()) if answer.ok and answer.request.is_navigation_request() else None,
    )
    for address in addresses.values():
        page.goto(address)
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        shown = page.content()
        assert [name for name in names if name in shown] == []
    assert len(bodies) == len(addresses)
    assert [name for name in names for body in bodies if name in body] == []
    for path in ("style.css", "icon.svg", "nothing-here"):
        answer = stranger.request.get(f"{site.address}/opportunity-sync/{path}", headers={"Accept": "*/*"})
        assert answer.status == 401, path
    page.goto(addresses["search"])
    _log_in(page, site)
    expect(page).to_have_url(addresses["search"])
    expect(page.get_by_role("heading", level=1)).to_have_text("Opportunities")


@pytest.mark.parametrize("page", [1280, 390], indirect=True)
@pytest.mark.parametrize("name", HEADINGS)
def test_a_page_fits_its_window_and_is_accessible_in_light_and_dark(
    page: Page, problems: list[str], site: Site, addresses: dict[str, str], name: str
) -> None:
    answer = page.goto(addresses[name])
    assert answer is not None
    assert answer.status == (404 if name == "missing" else 200)
    wanted = HEADINGS[name].format(
        release=site.value("select release_id from release"),
        name=site.value(
            f"select coalesce(max(name), '') from opportunities where opportunity_id::text = "
            f"'{urlsplit(addresses['opportunity']).path.rpartition('/')[2]}'"
        ),
    )
    heading = page.get_by_role("heading", level=1)
    assert heading.inner_text().removesuffix("live").strip() == wanted
    expect(page).to_have_title(f"{wanted} - Opportunity sync")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
        ] == []
    for details in page.locator("details").all():
        details.evaluate("each => each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    refused = "Failed to load resource: the server responded with a status of 404 (Not Found)"
    assert [each for each in problems if not (name == "missing" and each == refused)] == []


def test_the_overview_says_what_the_live_file_says(page: Page, site: Site, addresses: dict[str, str]) -> None:
    page.goto(addresses["overview"])
    ((release, run),) = site.query("select release_id, run_id from release")
    facts = _facts(page)
    assert (facts["Release"], facts["Airflow run"]) == (release, run)
    failed = site.value("select count(*) from expectation_results where not success")
    assert re.search(
        rf"Healthy: release {release} .* all 5 tables are fresh.*{failed} warnings",
        page.locator(".verdict").inner_text(),
    )
    counts = "opportunities, opportunity_contact_roles, contacts, accounts"
    rows = _cells(_table(page, "Rows per table over the last releases"))
    expected = site.query(
        f"select release_id, strftime(released_at, '%Y-%m-%d %H:%M UTC'), {counts} from releases order by 1 desc"
    )
    assert rows == [[str(value) for value in row] for row in expected]
    assert len(rows) == 2
    sources = _cells(_table(page, "Freshness per source table"))
    assert {(row[0], row[1], row[4]) for row in sources} == {
        (table, str(count), "fresh") for table, count in site.query("select table_name, rows from release_tables")
    }
    changed = _cells(page.get_by_role("table", name=re.compile("^Rows that differ from release")))
    assert {(row[0], *map(int, row[1:])) for row in changed} == set(
        site.query(
            """
            select table_name, count(change) filter (change = 'inserted'), count(change) filter (change = 'updated'),
                count(change) filter (change = 'deleted')
            from (values ('opportunities'), ('opportunity_contact_roles'), ('contacts'), ('accounts')) t(table_name)
            left join (from release_changes where release_id = (select release_id from release)) using (table_name)
            group by all
            """
        )
    )
    warned = _cells(_table(page, "Expectations that failed or warned"))
    assert {(row[0], row[1]) for row in warned} == set(
        site.query("select severity, relation from expectation_results where not success")
    )
    assert page.get_by_role("link", name=run).get_attribute("href") is not None


def test_one_click_leads_from_a_release_to_its_run(page: Page, site: Site, addresses: dict[str, str]) -> None:
    page.goto(addresses["release"])
    run = site.value("select run_id from release")
    page.get_by_role("link", name=run).click()
    page.wait_for_url("**/dags/opportunity_sync/runs/**")
    expect(page.get_by_text("publish", exact=True).first).to_be_visible()


def test_releases_are_listed_with_their_results(page: Page, site: Site, addresses: dict[str, str]) -> None:
    page.goto(addresses["releases"])
    rows = _cells(_table(page, "Releases"))
    passed = dict(
        site.query("select release_id, count(*) filter (success) from expectation_results_history group by all")
    )
    failed = dict(
        site.query("select release_id, count(*) filter (not success) from expectation_results_history group by all")
    )
    expected = site.query(
        "select release_id, opportunities, opportunity_contact_roles, contacts, accounts, run_id "
        "from releases order by 1 desc"
    )
    assert [row[0].split() for row in rows] == [[expected[0][0], "live"], [expected[1][0]]]
    for row, (release, *counts, run) in zip(rows, expected, strict=True):
        assert row[3:7] == [str(count) for count in counts]
        assert row[7:] == [f"{passed[release]} passed, {failed[release]} failed", run]


def test_a_release_shows_every_change_and_every_result(page: Page, site: Site, addresses: dict[str, str]) -> None:
    page.goto(addresses["release"])
    changes = site.value("select count(*) from release_changes where release_id = (select release_id from release)")
    assert len(_cells(_table(page, "Changed rows"))) == changes > 5
    page.get_by_text(re.compile(r"^All \d+ results$")).click()
    rows = _cells(_table(page, "Expectation results"))
    assert sorted((row[1], row[2], row[3], row[4], row[5], row[0] == "passed") for row in rows) == sorted(
        site.query(
            "select suite, relation, expectation, coalesce(column_name, ''), severity, success from expectation_results"
        )
    )


def test_an_opportunity_is_found_by_name_and_by_id(page: Page, site: Site, addresses: dict[str, str]) -> None:
    page.goto(addresses["opportunities"])
    page.get_by_label("Name or id").fill("CUSTOMER")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"opportunities\?q=CUSTOMER$"))
    found = [row[0] for row in _cells(_table(page, "Opportunities"))]
    expected = site.query("select name from opportunities where name ilike '%customer%'")
    assert sorted(found) == sorted(name for (name,) in expected)
    assert len(found) > 3
    ((key, name),) = site.query("select opportunity_id::text, name from opportunities order by amount desc limit 1")
    page.get_by_label("Name or id").fill(key)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=name).click()
    expect(page).to_have_title(f"{name} - Opportunity sync")


def test_names_with_markup_and_quotes_are_shown_as_they_are(page: Page, site: Site, addresses: dict[str, str]) -> None:
    page.goto(addresses["opportunities"])
    accounts = [row[1] for row in _cells(_table(page, "Opportunities"))]
    odd = [
        name
        for (name,) in site.query("select distinct account_name from opportunities where account_name ~ '[<>\"'']'")
        if name is not None
    ]
    assert any("<" in name for name in odd)
    assert any("'" in name for name in odd)
    assert [name for name in odd if name not in accounts] == []


def test_an_opportunity_shows_its_account_roles_and_the_reasons(
    page: Page, site: Site, addresses: dict[str, str]
) -> None:
    page.goto(addresses["opportunity"])
    key = addresses["opportunity"].rpartition("/")[2]
    ((account, rule, amount),) = site.query(
        f"select account_name, account_rule, amount from opportunities where opportunity_id = '{key}'"
    )
    facts = _facts(page)
    assert (facts["Account"], facts["Account rule"], facts["Opportunity id"]) == (account, rule, key)
    assert float(facts["Amount"].replace(",", "")) == float(amount)
    roles = {tuple(row[:4]) for row in _cells(page.get_by_role("table", name="Who is involved as what"))}
    expected = site.query(
        f"""
        select full_name || chr(10) || contact_id, role, role_source, if(is_primary, 'yes', 'no')
        from opportunity_contact_roles join contacts using (contact_id) where opportunity_id = '{key}'
        """
    )
    assert roles == set(expected)
    given = site.value(
        f"select count(*) from opportunity_connections where opportunity_id = '{key}' and outcome = 'gives_role'"
    )
    reasons = page.get_by_role("listitem").filter(has_text=re.compile(r"gives contact .* the role"))
    expect(reasons).to_have_count(given)
    expect(page.locator("li.decides").filter(has_text=re.compile(f"^{rule}:"))).to_have_count(1)


def test_an_opportunity_has_a_timeline(page: Page, site: Site, addresses: dict[str, str]) -> None:
    ((key, name, before),) = site.query(
        """
        select opportunity_id::text, now.name, was.name from opportunities now
        join opportunities_history was using (opportunity_id)
        where was.valid_to is not null and was.name <> now.name order by 1 limit 1
        """
    )
    page.goto(f"{addresses['opportunities']}/{key}")
    timeline = page.locator("ol.timeline")
    expect(timeline.locator("> li")).to_have_count(2)
    expect(timeline).to_contain_text(before)
    expect(timeline).to_contain_text(name)


def test_the_quality_page_counts_and_lists_what_the_results_say(
    page: Page, site: Site, addresses: dict[str, str]
) -> None:
    page.goto(addresses["quality"])
    ((passed, warned, failed),) = site.query(
        """
        select count(*) filter (success), count(*) filter (not success and severity = 'warning'),
            count(*) filter (not success and severity = 'critical')
        from expectation_results
        """
    )
    expect(page.get_by_text(f"{passed} passed, {warned} warned, {failed} failed")).to_be_visible()
    rows = _cells(_table(page, "Expectations over time"))
    assert sum(row[0] == "passed" for row in rows) == passed > 100
    assert sum(row[0] == "warned" for row in rows) == warned > 0
    links = page.locator("ul.keys a")
    assert links.count() > 0
    links.first.click()
    expect(page.get_by_role("heading", name="Why this account")).to_be_visible()


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["overview"])
    focused = "document.activeElement.innerText.trim()"
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", reached
    assert reached[:7] == [
        "Skip to the content",
        "Opportunity sync",
        "Overview",
        "Releases",
        "Opportunities",
        "Quality",
        "Airflow",
    ]
    page.reload()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_the_quality_report_of_the_release_opens_as_a_file(
    stranger: BrowserContext, site: Site, addresses: dict[str, str]
) -> None:
    release = site.value("select release_id from release")
    page, asked = stranger.new_page(), list[str]()
    page.on("request", lambda sent: asked.append(sent.url))
    file = site.data / "published" / "releases" / release / "quality.html"
    page.goto(file.as_uri())
    assert asked == [file.as_uri()]
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(release))
