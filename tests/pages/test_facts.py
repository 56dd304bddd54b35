"""What the pages show is what the published file holds."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from starlette.testclient import TestClient

from opportunity_sync.data_root import DataRoot
from opportunity_sync.expectations import Outcome
from opportunity_sync.pages import opportunities as opportunities_page
from opportunity_sync.pages import quality as quality_page
from opportunity_sync.pages import releases as releases_page
from opportunity_sync.pages.live import LiveFile
from opportunity_sync.publish import publish, rollback
from opportunity_sync.published import failed_folder
from opportunity_sync.settings import Settings
from opportunity_sync.validate import _record, _write_report
from tests.lakes import identity
from tests.pages.conftest import Open, opportunity, publish_next
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(DataRoot(settings.data).live_file), read_only=True) as connection:
        return connection.execute(query).fetchall()


def text_of(page: str) -> str:
    """The words of a page, one space apart."""
    return words(page.partition("<main")[2].partition(">")[2])


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def cells(page: str) -> list[list[str]]:
    """All table rows of a page."""
    return [
        [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    ]


def outcome(expectation: str, *, success: bool, severity: str = "warning", keys: Any = ()) -> Outcome:
    return Outcome(
        "marts", "opportunities", expectation, None, severity, success, len(keys), 40, {}, tuple(keys), None
    )  # fmt: skip


def publish_with(settings: Settings, outcomes: list[Outcome]) -> str:
    """Publish a release whose validation gave these results."""
    extract(settings, {"account": [{"accountid": "a1", "name": f"{datetime.now(UTC)}"}]}, mode="changes")
    release = build(settings)
    folder = DataRoot(settings.data).candidates / release.release_id
    _record(folder, outcomes)
    _write_report(folder, release, outcomes)
    (folder / "release.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(release, validated=True)))
    return publish(settings, release.release_id).release_id


def refuse(settings: Settings, outcomes: list[Outcome]) -> str:
    """Build a candidate that validation refuses."""
    extract(settings, {"account": [{"accountid": "a2", "name": f"{datetime.now(UTC)}"}]}, mode="changes")
    release = build(settings)
    root = DataRoot(settings.data)
    _write_report(root.candidates / release.release_id, release, outcomes)
    failed_folder(root).mkdir(exist_ok=True)
    (root.candidates / release.release_id).rename(failed_folder(root) / release.release_id)
    return release.release_id


def test_overview_shows_the_live_release_its_sources_rows_and_changes(
    pages: TestClient, published_template: Settings
) -> None:
    page = pages.get("").text
    found = cells(page)
    ((live_id,),) = rows(published_template, "select release_id from release")
    assert f"Healthy: release {live_id} is 0 minutes old, all 5 tables are fresh" in text_of(page)
    for table, count in rows(published_template, "select table_name, rows from release_tables"):
        assert [row[1] for row in found if row[0] == table] == [str(count)]
        assert [row[4] for row in found if row[0] == table] == ["fresh"]
    counted = rows(
        published_template,
        "select release_id, opportunities, opportunity_contact_roles, contacts, accounts from releases",
    )
    assert len(counted) == 3
    for release_id, *counts in counted:
        assert [row[2:] for row in found if row[0] == release_id] == [[str(count) for count in counts]]
    assert ["opportunities", "0", "1", "0"] in found
    assert "Rows of opportunities: from 40 to 39 over 3 releases" in page
    assert "name 1" in text_of(page)
    assert "Marketo" not in page


def test_overview_says_when_a_table_is_older_than_allowed(published: Settings, open_pages: Open) -> None:
    strict = settings_for(published.data, freshness_hours=1e-6)
    page = open_pages(strict).get("").text
    assert "Not healthy: tables account, connection, connectionrole, contact, opportunity were last read" in page
    assert ">stale<" in page


def test_overview_shows_a_refused_candidate_with_the_rows_that_broke_the_rule(
    published: Settings, open_pages: Open
) -> None:
    broken = [{"opportunity_id": str(identity("o3"))}]
    refused = refuse(
        published,
        [outcome("is_sound", success=False, severity="critical", keys=broken), outcome("is_fine", success=True)],
    )
    page = open_pages(published).get("").text
    text = text_of(page)
    assert f"Not healthy: release {refused} failed validation (1 critical expectation) and was not published" in text
    assert f"Refused: release {refused}" in text
    assert "marts.opportunities: is_sound" in text
    assert f'href="/opportunity-sync/opportunities/{identity("o3")}"' in page
    assert "is_fine" not in text
    assert "Failing rows of refused release" in open_pages(published).get("quality").text


def test_a_refused_candidate_is_forgotten_once_a_newer_release_is_live(published: Settings, open_pages: Open) -> None:
    refuse(published, [outcome("is_sound", success=False, severity="critical")])
    publish_next(published, {"account": [{"accountid": "a3", "name": "fine", "versionnumber": 3}]})
    assert "Refused" not in open_pages(published).get("").text


def test_overview_says_when_somebody_rolled_back(published: Settings, open_pages: Open) -> None:
    ((newest,),) = rows(published, "select release_id from release")
    rolled_back = rollback(published)
    text = text_of(open_pages(published).get("").text)
    assert f"release {rolled_back.release_id} is" in text
    assert f"Release {newest} on disk is newer than the live one: somebody rolled back" in text


def test_releases_are_listed_newest_first_with_what_each_changed(
    pages: TestClient, published_template: Settings
) -> None:
    found = cells(pages.get("releases").text)[1:]
    ids = [row[0].removesuffix(" live") for row in found]
    assert ids == sorted(ids, reverse=True)
    assert found[0][0].endswith(" live")
    changed = dict(rows(published_template, "select release_id, count(*) from release_changes group by all"))
    assert [row[2] for row in found] == [str(changed.get(release_id, 0)) for release_id in ids]
    assert [row[8] for row in found] == ["manual__third", "manual__second", "manual__first run+1"]


def test_releases_are_listed_page_by_page(
    pages: TestClient, published_template: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases_page, "PAGE", 2)
    first, second = (cells(pages.get(f"releases?page={page}").text)[1:] for page in (1, 2))
    assert [len(first), len(second)] == [2, 1]
    assert "Page 1 of 2" in pages.get("releases").text
    assert 'href="/opportunity-sync/releases?page=2"' in pages.get("releases").text


def test_a_release_shows_every_row_it_changed_also_when_it_is_no_longer_on_disk(
    published: Settings, open_pages: Open
) -> None:
    ((second,),) = rows(published, "select release_id from releases where run_id = 'manual__second'")
    published = settings_for(published.data, releases_kept=1)
    publish_next(published, {"account": [{"accountid": "a3", "name": "more", "versionnumber": 4}]})
    assert not (DataRoot(published.data).releases / second).exists()
    page = open_pages(published).get(f"releases/{second}").text
    listed = [(row[0], row[1]) for row in cells(page) if row[0] in ("opportunities", "opportunity_contact_roles")]
    changes = rows(published, f"select table_name, change from release_changes where release_id = '{second}'")
    assert sorted(pair for pair in listed if pair[1] in ("inserted", "updated", "deleted")) == sorted(changes)
    assert ("opportunities", "deleted") in changes
    assert str(identity("o5")) in page
    assert "state_code" in page
    assert "Expectations: 1 passed, 0 failed or warned" in page


def test_changed_rows_can_be_restricted_to_a_table_and_are_paged(
    pages: TestClient, published_template: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((second,),) = rows(published_template, "select release_id from releases where run_id = 'manual__second'")
    ((expected,),) = rows(
        published_template,
        f"select count(*) from release_changes where release_id = '{second}' and table_name = 'opportunities'",
    )
    assert expected == 2
    monkeypatch.setattr(releases_page, "PAGE", 1)
    listed = []
    for number in (1, 2):
        page = pages.get(f"releases/{second}?table=opportunities&page={number}").text
        listed += [row for row in cells(page) if row[0] == "opportunities" and row[1] in ("updated", "deleted")]
    assert sorted(row[1] for row in listed) == ["deleted", "updated"]
    assert "page=2" in pages.get(f"releases/{second}?table=opportunities").text


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("deal 1", 10),
        ("DEAL 33", 1),
        ("%", 1),
        ("f_i", 1),
        ("\\", 1),
        ("עסקה", 1),
        ("\N{ROCKET}", 1),
        ("no such deal", 0),
        ("a\0b", 0),
        ("' or true --", 0),
        ("  deal 33  ", 1),
    ],
)
def test_search_finds_a_part_of_the_name_in_any_case_and_no_pattern(
    pages: TestClient, published_template: Settings, text: str, hits: int
) -> None:
    names = [name for (name,) in rows(published_template, "select name from opportunities where name is not null")]
    expected = [" ".join(name.split()) for name in names if text.strip().lower() in name.lower()]
    assert len(expected) == hits
    page = pages.get("opportunities", params={"q": text}).text
    assert sorted(unescape(row[0]) for row in cells(page)[1:]) == sorted(expected)
    assert ("Nothing found" in page) == (hits == 0)


def test_search_shows_those_modified_last_and_says_that_there_are_more(
    pages: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opportunities_page, "FOUND", 3)
    page = pages.get("opportunities?q=deal").text
    assert len(cells(page)) == 4
    assert "type more of the name to see others" in page
    assert "others" not in pages.get("opportunities?q=deal+33").text


def test_search_finds_an_id_in_any_case(pages: TestClient) -> None:
    page = pages.get("opportunities", params={"q": str(identity("o9")).upper()}).text
    assert [row[0] for row in cells(page)[1:]] == ["Deal 9, final"]


def test_an_opportunity_shows_account_roles_their_explanations_and_history(
    pages: TestClient, published_template: Settings
) -> None:
    page = pages.get(opportunity("o9")).text
    text = text_of(page)
    key = identity("o9")
    explained = rows(
        published_template, f"select explanation from opportunity_explanations where opportunity_id = '{key}'"
    )
    assert len(explained) >= 6
    plain = text.replace("&#39;", "'").replace("&#34;", '"')
    assert [explanation for (explanation,) in explained if explanation not in plain] == []
    roles = rows(
        published_template,
        "select full_name, role, role_source from opportunity_contact_roles join contacts using (contact_id) "
        f"where opportunity_id = '{key}'",
    )
    assert len(roles) == 2
    for full_name, role, source in roles:
        assert any(row[0].startswith(full_name) and row[1:3] == [role, source] for row in cells(page))
    history = text.partition("History")[2]
    told = ["name: Deal 9, renamed → Deal 9, final", "state: Open → Won", "name: Deal 9 → Deal 9, renamed"]
    told.append("Opportunity: here when the history begins")
    assert sorted(told, key=history.index) == [told[0], *sorted(told[1:3], key=history.index), told[3]]
    assert "state_code" not in history
    releases = [release_id for (release_id,) in rows(published_template, "select release_id from releases")]
    assert [release_id for release_id in releases if f"release {release_id}" not in history] == []


def test_a_deleted_opportunity_says_until_when_and_what_it_was(pages: TestClient) -> None:
    answer = pages.get(opportunity("o5"))
    text = text_of(answer.text)
    assert answer.status_code == 200
    assert re.search(r"not in the live release any more: releases before \d{4}-\d\d-\d\d \d\d:\d\d UTC had it", text)
    assert "Deal 5" in text
    assert "Opportunity: removed" in text
    assert "Why this account" not in text


def test_quality_shows_each_expectation_over_time_and_failing_rows_by_key(
    published: Settings, open_pages: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [{"opportunity_id": str(identity("o3")), "account_id": str(identity("a3"))}]
    publish_with(published, [outcome("is_sound", success=True), outcome("is_fine", success=True)])
    publish_with(published, [outcome("is_sound", success=False, keys=keys), outcome("is_fine", success=True)])
    page = open_pages(published).get("quality").text
    assert "Expectations of the live release: 1 passed, 1 warned, 0 failed. 1 of earlier releases" in text_of(page)
    assert "Over time: passed in 1, warned in 1, missing in 3" in page
    assert [row[0] for row in cells(page)[1:]] == ["warned", "passed", "missing"]
    assert f'href="/opportunity-sync/opportunities/{identity("o3")}"' in page
    assert f'<span class="id">{identity("a3")}</span>' in page
    link = re.search(r'href="/opportunity-sync/(quality/expectation\?[^"]*is_sound[^"]*)"', page)
    assert link is not None
    detail = open_pages(published).get(link[1].replace("&amp;", "&")).text
    assert [row[2:] for row in cells(detail)[1:]] == [["warned", "1", "40"], ["passed", "0", "40"]]
    assert "Unexpected rows: from 0 to 1 over 2 releases" in detail
    monkeypatch.setattr(quality_page, "STRIP", 1)
    assert "Over time: warned in 1" in open_pages(published).get("quality").text


def test_without_its_record_on_disk_a_release_is_shown_without_keys(published: Settings, open_pages: Open) -> None:
    release_id = publish_with(published, [outcome("is_sound", success=False, keys=[{"opportunity_id": "x"}])])
    (DataRoot(published.data).releases / release_id / "validation.json").unlink()
    assert "The record of validation of the live release is not on disk" in open_pages(published).get("quality").text
    page = open_pages(published).get(f"releases/{release_id}").text
    assert "kept only as long as the release is on disk" in page


def test_an_unreadable_record_of_validation_is_logged_and_left_out(
    published: Settings, open_pages: Open, caplog: pytest.LogCaptureFixture
) -> None:
    release_id = publish_with(published, [outcome("is_sound", success=True)])
    (DataRoot(published.data).releases / release_id / "validation.json").write_text(json.dumps({"results": 3}))
    assert open_pages(published).get("quality").status_code == 200
    assert "validation.json cannot be read" in caplog.text


def test_the_first_release_has_nothing_to_compare_with(tmp_path: Path, open_pages: Open) -> None:
    settings = settings_for(tmp_path / "data")
    extract(settings, organisation())
    publish(settings, let_pass(settings, build(settings)).release_id)
    pages = open_pages(settings)
    assert "the history begins with this release" in pages.get("").text
    assert "over 1 releases" in pages.get("").text
    with LiveFile().reading(DataRoot(settings.data)) as live:
        assert live is not None
        assert datetime.now(UTC) - live.released_at < timedelta(minutes=5)
        assert "none: the history begins here" in pages.get(f"releases/{live.release_id}").text
