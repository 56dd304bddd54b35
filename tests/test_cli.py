"""The command line, on a real data root."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner, Result

from opportunity_sync import __version__
from opportunity_sync.cli import app
from opportunity_sync.data_root import DataRoot
from opportunity_sync.publish import live, publish
from opportunity_sync.release import DATABASE, Release
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.status import staleness, status
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data root with two releases; the second one has two accounts less."""
    settings = settings_for(tmp_path_factory.mktemp("template") / "data")
    rows = organisation()
    extract(settings, rows)
    publish(settings, let_pass(settings, build(settings)).release_id)
    extract(settings, {"account": rows["account"][:-2]})
    publish(settings, let_pass(settings, build(settings)).release_id)
    return settings


@pytest.fixture
def settings(template: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.copytree(template.data, tmp_path / "data")
    return at(tmp_path / "data", monkeypatch)


def at(data: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(data))
    monkeypatch.setenv("OPPORTUNITY_SYNC_INCLUDE", str(PROJECT / "include"))
    return settings_for(data)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def kept(settings: Settings) -> list[Release]:
    from opportunity_sync.publish import releases

    return releases(settings)


def run_process(arguments: Sequence[str], data: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "OPPORTUNITY_SYNC_DATA": str(data),
        "OPPORTUNITY_SYNC_INCLUDE": str(PROJECT / "include"),
        "PYTHONPATH": str(PROJECT / "plugins"),
    }
    return subprocess.run(
        [sys.executable, "-m", "opportunity_sync", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").output == f"opportunity-sync {__version__}\n"


def test_status_of_an_empty_data_root_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(tmp_path / "empty", monkeypatch)
    result = run("status")
    assert result.exit_code == 0
    assert "live release   none yet" in result.stdout
    assert "newest batch   contact: none yet" in result.stdout


def test_status_shows_release_rows_freshness_expectations_and_batches(settings: Settings) -> None:
    result = run("status")

    assert result.exit_code == 0, result.output
    newest = kept(settings)[0]
    for expected in (
        f"data root      {settings.data}",
        f"live release   {newest.release_id}",
        "rows           accounts 22",
        "rows           opportunity_contact_roles 44",
        "source         account: 22 rows, as of ",
        "expectations   1 passed, 0 failed",
        f"quality report {settings.data}/published/quality.html",
    ):
        assert expected in result.stdout
    assert "NOT FRESH" not in result.stdout
    assert "-full-" in next(line for line in result.stdout.splitlines() if "newest batch   account" in line)


def test_status_as_json_is_complete(settings: Settings) -> None:
    found = json.loads(run("status", "--json").stdout)

    assert found["data_root"] == str(settings.data)
    assert found["live"]["release_id"] == kept(settings)[0].release_id
    assert found["live"]["rows"]["opportunities"] == 40
    assert set(found["live"]["sources"]) == set(found["newest_batches"])
    assert found["live"]["sources"]["contact"]["rows"] == 31
    assert found["live"]["sources"]["contact"]["is_fresh"] is True
    assert found["newest_batches"]["account"]["rows"] == 22
    assert found["live"]["quality_report"] == f"{settings.data}/published/quality.html"


def test_status_says_when_the_live_release_has_no_quality_report(settings: Settings) -> None:
    (settings.data / "published" / "quality.html").unlink()
    assert "quality report none" in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["live"]["quality_report"] is None


def test_status_names_sources_that_are_not_fresh(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPPORTUNITY_SYNC_FRESHNESS_HOURS", "0.0000001")
    assert run("status").stdout.count("NOT FRESH") == 5


@pytest.mark.parametrize(("hours", "code"), [("1", 0), ("0", 1), ("0.000001", 1)])
def test_status_fails_when_a_source_is_older_than_allowed(settings: Settings, hours: str, code: int) -> None:
    result = run("status", "--max-age", hours)
    assert result.exit_code == code
    assert "live release" in result.stdout
    assert ("was last read 0.0 hours ago" in result.stderr) == bool(code)


def test_status_measures_the_age_of_the_sources_not_of_the_file(settings: Settings) -> None:
    found = status(settings, datetime.now(UTC))
    assert staleness(found, timedelta(hours=1)) is None
    later = status(settings, datetime.now(UTC) + timedelta(hours=2))
    assert str(staleness(later, timedelta(hours=1))).endswith("was last read 2.0 hours ago")
    for source in found["live"]["sources"].values():
        source["age_seconds"] = 60
    found["live"]["sources"]["contact"]["age_seconds"] = 7200
    found["live"]["age_seconds"] = 0
    assert "table contact was last read 2.0 hours ago" in str(staleness(found, timedelta(hours=1)))
    found["live"]["sources"]["contact"]["age_seconds"] = None
    assert "table contact was never fully read" in str(staleness(found, timedelta(hours=1)))


def test_status_with_a_greatest_age_fails_without_a_live_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(tmp_path / "data", monkeypatch)
    result = run("status", "--max-age", "6")
    assert result.exit_code == 1
    assert "There is no live release" in result.stderr


def test_status_lists_failed_expectations(settings: Settings) -> None:
    release = build(settings)
    let_pass(settings, release)
    with duckdb.connect(str(DataRoot(settings.data).candidates / release.release_id / DATABASE)) as connection:
        connection.execute(
            "insert into expectation_results values "
            "('extracted', 'account', 'expect_column_to_exist', 'name', 'warning', false, null, null)"
        )
    publish(settings, release.release_id)
    assert "  warning: account expect_column_to_exist name\n" in run("status").stdout


def test_releases_are_listed_newest_first_with_a_star_at_the_live_one(settings: Settings) -> None:
    newest, oldest = kept(settings)

    first, second = run("releases").stdout.splitlines()
    assert first.startswith(f"* {newest.release_id}  opportunities 40, ")
    assert second.startswith(f"  {oldest.release_id}  ")
    listed = json.loads(run("releases", "--json").stdout)
    assert [(each["release_id"], each["is_live"]) for each in listed] == [
        (newest.release_id, True),
        (oldest.release_id, False),
    ]


def test_rollback_switches_and_says_what_comes_next(settings: Settings) -> None:
    newest, oldest = kept(settings)

    result = run("rollback")
    assert result.exit_code == 0
    assert f"Live now: {oldest.release_id}\nThe next scheduled run publishes newer data again" in result.stdout
    assert live(settings) == oldest

    assert f"Live now: {newest.release_id}" in run("rollback", newest.release_id).stdout
    assert live(settings) == newest


def test_diff_counts_changed_rows(settings: Settings) -> None:
    newest, oldest = kept(settings)
    result = run("diff", oldest.release_id, newest.release_id)
    assert "accounts: 0 inserted, 0 updated, 2 deleted\n" in result.stdout
    assert "contacts: 0 inserted, 0 updated, 0 deleted\n" in result.stdout
    assert json.loads(run("diff", oldest.release_id, "--json").stdout)["accounts"]["deleted"] == 2
    assert json.loads(run("diff", "live", "live", "--json").stdout)["accounts"]["deleted"] == 0


@pytest.mark.parametrize("arguments", [["rollback", "2020"], ["diff", "2020", "live"], ["publish", "2020"]])
def test_errors_of_the_product_are_one_message_without_a_traceback(arguments: list[str], settings: Settings) -> None:
    result = run_process(arguments, settings.data)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("opportunity-sync: ")
    assert "2020" in result.stderr
    assert "Traceback" not in result.stderr


def test_other_errors_keep_their_traceback(settings: Settings) -> None:
    shutil.rmtree(settings.data)
    settings.data.write_text("a file where a folder should be")
    result = run_process(["status"], settings.data)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr


@pytest.mark.slow
def test_rebuild_derives_the_same_rows_from_the_raw_batches(settings: Settings) -> None:
    before = kept(settings)[0]
    DataRoot(settings.data).warehouse.write_bytes(b"damaged")

    result = run_process(["rebuild"], settings.data)

    assert result.returncode == 0, result.stderr
    after = kept(settings)[0]
    assert result.stdout == f"Live now: {after.release_id}\n"
    assert after.release_id != before.release_id
    assert after.run_id.startswith("manual__rebuild_")
    assert after.validated
    root = DataRoot(settings.data)
    found = json.loads(run("diff", before.release_id, after.release_id, "--json").stdout)
    assert all(not any(counts.values()) for counts in found.values())
    assert root.warehouse.stat().st_size > 100
    assert "nanobind" not in result.stderr
    assert "Warning" not in result.stderr


@pytest.mark.slow
def test_a_collapse_is_published_once_it_is_accepted(settings: Settings) -> None:
    extract(settings, {"contact": organisation()["contact"][:5]})
    collapsed = build(settings)

    refused = run("publish", collapsed.release_id)
    assert refused.exit_code == 1
    assert "--accept-collapse" in refused.stderr
    assert live(settings) != collapsed

    accepted = run("publish", collapsed.release_id, "--accept-collapse")
    assert accepted.exit_code == 0, accepted.stderr
    assert accepted.stdout == f"Live now: {collapsed.release_id}\n"
    published = live(settings)
    assert published is not None
    assert (published.release_id, published.rows["contacts"]) == (collapsed.release_id, 5)


def test_a_superseded_candidate_is_said_not_to_be_published(settings: Settings) -> None:
    older = let_pass(settings, build(settings))
    extract(settings, {"account": organisation()["account"]}, mode="changes")
    newer = publish(settings, let_pass(settings, build(settings)).release_id)
    result = run("publish", older.release_id)
    assert f"was not published: the live release {newer.release_id} holds newer data" in result.stdout
