"""The quality report: what it says, what it leaves out, and that nothing keeps it from saying why a release stopped."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.expectations import Outcome
from opportunity_sync.publish import publish
from opportunity_sync.quality import report, verdict, write_quality
from opportunity_sync.release import DATABASE, QUALITY, Release
from opportunity_sync.settings import PROJECT, Settings
from tests.small_organisation import OPPORTUNITIES, build, extract, let_pass, organisation

Candidate = tuple[Settings, Release]

NOW = datetime.now(UTC)


def outcome(expectation: str = "account_has_a_name", **changes: Any) -> Outcome:
    """An expectation that was met, unless `changes` say otherwise."""
    facts: dict[str, Any] = {
        "suite": "marts",
        "relation": "opportunities",
        "expectation": expectation,
        "column_name": None,
        "severity": "critical",
        "success": True,
        "unexpected_count": 0,
        "element_count": 40,
        "kwargs": {},
        "keys": (),
        "problem": None,
    }
    return Outcome(**facts | changes)


MET = outcome("expect_column_values_to_be_unique", column_name="opportunity_id")
WARNED = outcome(severity="warning", success=False, unexpected_count=2, keys=({"opportunity_id": "key-of-warned"},))
FAILED = outcome(
    "role_has_its_contact",
    relation="opportunity_contact_roles",
    success=False,
    unexpected_count=21,
    keys=tuple({"opportunity_id": f"key-{i}", "role": "<b>Buyer</b>"} for i in range(20)),
)


def shown(candidate: Candidate, *outcomes: Outcome, live: Release | None = None, now: datetime = NOW) -> str:
    settings, release = candidate
    return report(settings, DataRoot(settings.data).candidates / release.release_id, release, outcomes, live, now)


def words(page: str) -> str:
    """The text of a page without its markup, in one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def section(page: str, name: str) -> str:
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, flags=re.DOTALL)
    assert found, name
    return found[0]


@pytest.mark.parametrize(
    ("failed", "warned", "has_live", "sentence"),
    [
        (0, 0, True, "Sound: all 9 expectations were met."),
        (0, 1, True, "Sound: nothing critical failed; 1 warning among 9 expectations."),
        (0, 4, False, "Sound: nothing critical failed; 4 warnings among 9 expectations."),
        (1, 3, True, "Refused: 1 critical expectation of 9 failed, so it is not published; release 2026 stays live."),
        (2, 0, False, "Refused: 2 critical expectations of 9 failed, so it is not published; there is no release yet."),
    ],
)
def test_the_verdict_is_one_sentence(
    failed: int, warned: int, has_live: bool, sentence: str, candidate_template: Candidate
) -> None:
    live = msgspec.structs.replace(candidate_template[1], release_id="2026") if has_live else None
    assert verdict(9, failed, warned, live) == sentence


@pytest.mark.slow
def test_what_failed_comes_first_then_warnings_then_what_passed(candidate: Candidate) -> None:
    page = shown(candidate, MET, WARNED, FAILED)
    places = [page.index(f'aria-labelledby="{name}"') for name in ("failed", "warned", "passed")]
    assert places == sorted(places)
    assert "Every contact role belongs to a published contact" in section(page, "failed")
    assert "failed 21 of 40 rows do not meet it" in words(section(page, "failed"))
    assert "Every account of an opportunity is among the extracted accounts" in section(page, "warned")
    passed = section(page, "passed")
    assert re.search(r"<details>\s*<summary>Published table opportunities: 1</summary>", passed)
    assert "No opportunity_id occurs twice" in passed


@pytest.mark.slow
def test_keys_of_failing_rows_are_listed_and_escaped(candidate: Candidate) -> None:
    found = section(shown(candidate, FAILED), "failed")
    assert "Keys of the first 20 rows" in found
    assert [key for key in range(20) if f">key-{key}<" not in found] == []
    assert "&lt;b&gt;Buyer&lt;/b&gt;" in found
    assert "<b>" not in found


@pytest.mark.slow
def test_an_expectation_that_could_not_be_evaluated_counts_as_failed(candidate: Candidate) -> None:
    broken = outcome(severity="warning", success=False, unexpected_count=None, problem="column is gone")
    page = shown(candidate, broken, MET)
    assert "could not be evaluated: column is gone" in words(section(page, "failed"))
    assert "Refused: 1 critical expectation of 2" in page


@pytest.mark.slow
def test_a_file_of_its_own_asks_for_nothing_else(candidate: Candidate) -> None:
    page = shown(candidate, MET, WARNED, FAILED)
    assert page.startswith("<!doctype html>")
    assert re.findall(r'(?:href|src|action|srcset|data)="([^"]*)"', page) == ["#content"]
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "<link" not in page


@pytest.mark.slow
def test_a_first_release_has_nothing_to_compare_with(candidate: Candidate) -> None:
    page = words(shown(candidate, MET))
    assert "Release before none" in page
    assert "There is no release before to compare with" in page
    assert f"opportunities {OPPORTUNITIES} \N{EN DASH}" in page


@pytest.fixture
def third(candidate: Candidate) -> tuple[Candidate, Release]:
    """A candidate after two releases, the second with a warning and two opportunities less; and the second."""
    settings, first = candidate
    publish(settings, first.release_id)
    rows = organisation()["opportunity"]
    extract(settings, {"opportunity": rows[:-2]})
    second = let_pass(settings, build(settings))
    database = DataRoot(settings.data).candidates / second.release_id / DATABASE
    record(database, WARNED)
    publish(settings, second.release_id)
    extract(settings, {"opportunity": rows[:-1]})
    return (settings, build(settings)), second


def record(database: Path, *outcomes: Outcome) -> None:
    database.chmod(0o644)
    with duckdb.connect(str(database)) as connection:
        for each in outcomes:
            connection.execute(
                "insert into expectation_results values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    each.suite,
                    each.relation,
                    each.expectation,
                    each.column_name,
                    each.severity,
                    each.success,
                    each.unexpected_count,
                    each.element_count,
                ],
            )


@pytest.mark.slow
def test_trends_go_back_over_the_last_releases(third: tuple[Candidate, Release]) -> None:
    candidate, second = third

    page = shown(candidate, WARNED, MET, live=second)

    assert 'aria-label="Over the last releases: warned in 2"' in section(page, "warned")
    assert 'aria-label="Over the last releases: passed in 1"' in section(page, "passed")
    rows = section(page, "rows")
    assert "opportunities, rows: from 40 to 39 over 3 releases, between 38 and 40" in rows
    assert "opportunities 39 +1" in words(rows)
    assert "accounts 24 0" in words(rows)
    assert f"Release before {second.release_id}" in words(page)


@pytest.mark.slow
def test_an_expectation_that_is_new_again_has_a_gap(third: tuple[Candidate, Release]) -> None:
    candidate, second = third
    settings, release = candidate
    with duckdb.connect(str(DataRoot(settings.data).candidates / release.release_id / DATABASE)) as connection:
        connection.execute(
            "update history.expectation_results set release_id = (select min(release_id) from history.releases)"
        )
    page = shown(candidate, outcome(success=True), live=second)
    assert "Over the last releases: passed in 1, warned in 1, missing in 1" in page


@pytest.mark.slow
@pytest.mark.parametrize(("hours", "tag"), [(5.9, "good"), (6.1, "warn")])
def test_a_source_that_was_read_too_long_ago_is_marked(hours: float, tag: str, candidate: Candidate) -> None:
    found = section(shown(candidate, MET, now=NOW + timedelta(hours=hours)), "sources")
    assert re.findall(r'<span class="tag (\w+)">\d hours</span>', found) == [tag] * 5


@pytest.mark.slow
def test_a_source_that_was_never_read_completely_is_marked(candidate: Candidate) -> None:
    settings, release = candidate
    with duckdb.connect(str(DataRoot(settings.data).candidates / release.release_id / DATABASE)) as connection:
        connection.execute("update release_tables set as_of = null where table_name = 'account'")
    assert "account 24 \N{EN DASH} never fully read" in words(section(shown(candidate, MET), "sources"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "has_sources"),
    [
        ("drop table accounts", True),
        ("drop view releases", True),
        ("drop table release_tables", False),
        ("drop view expectation_results_history", True),
        ("delete from release", True),
    ],
)
def test_a_candidate_that_lacks_something_still_has_its_report(
    damage: str, has_sources: bool, candidate: Candidate, caplog: pytest.LogCaptureFixture
) -> None:
    settings, release = candidate
    with duckdb.connect(str(DataRoot(settings.data).candidates / release.release_id / DATABASE)) as connection:
        connection.execute(damage)

    page = shown(candidate, MET, FAILED)

    assert "Refused: 1 critical expectation of 2 failed" in page
    assert "Keys of the first 20 rows" in page
    assert ("connectionrole" in section(page, "sources")) is has_sources
    assert ("lacks a table or column" in page) is damage.startswith("drop")
    assert ("quality.html" in caplog.text) is damage.startswith("drop")


def edited_include(tmp_path: Path, edit: Callable[[Path], object]) -> Path:
    include = tmp_path / "include"
    shutil.copytree(PROJECT / "include", include)
    edit(include / "pages" / "quality_report.html")
    return include


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (Path.unlink, "TemplateNotFound"),
        (lambda path: path.write_text("{{ unheard_of }}"), "UndefinedError"),
        (lambda path: path.write_text("{% if %}"), "TemplateSyntaxError"),
    ],
)
def test_a_template_that_does_not_fit_costs_the_report_and_not_the_release(
    edit: Callable[[Path], object],
    named: str,
    candidate: Candidate,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, release = candidate
    folder = DataRoot(settings.data).candidates / release.release_id
    broken = settings.model_copy(update={"include": edited_include(tmp_path, edit)})
    assert (folder / QUALITY).exists()

    with caplog.at_level(logging.WARNING):
        write_quality(broken, folder, release, [MET], None, NOW)

    assert not (folder / QUALITY).exists()
    assert f"validate: no quality.html for {release.release_id}: {named}" in caplog.text


@pytest.mark.slow
def test_the_report_is_written_into_the_candidates_folder(candidate: Candidate) -> None:
    settings, release = candidate
    folder = DataRoot(settings.data).candidates / release.release_id
    write_quality(settings, folder, release, [MET], None, NOW)
    assert (folder / QUALITY).read_text(encoding="utf-8") == shown(candidate, MET)
