"""Each finding of `opportunity-sync check`, by really damaging a copy of a small data root."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from opportunity_sync.check import Finding, check, is_sound
from opportunity_sync.cli import app
from opportunity_sync.compact import compact
from opportunity_sync.data_root import DataRoot, warehouse_lock
from opportunity_sync.export import export
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.publish import publish
from opportunity_sync.published import PARQUET
from opportunity_sync.release import DATABASE, QUALITY, read_release, write_release
from opportunity_sync.settings import PROJECT, Settings
from tests.lakes import write_batch
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data root with three batches of accounts, the older two compacted, and two published, exported releases."""
    settings = settings_for(tmp_path_factory.mktemp("template") / "data", raw_days=0)
    rows = organisation()
    for each in (rows, {"account": rows["account"][:-2]}):
        extract(settings, each)
        release = publish(settings, let_pass(settings, build(settings)).release_id)
        export(settings, release.release_id)
    chain(settings, "account")
    compact(settings, "test")
    build_and_drop_candidate(settings)
    return settings


def build_and_drop_candidate(settings: Settings) -> None:
    """Bring the warehouse up to date."""
    shutil.rmtree(DataRoot(settings.data).candidates / build(settings).release_id)


def chain(settings: Settings, table: str, *, links: int = 1) -> None:
    """Changes reads that continue one another, as Dynamics links them."""
    lake = Lake(DataRoot(settings.data).raw)
    for _ in range(links):
        previous = lake.batches(table)[-1].delta_link
        written = write_batch(lake, table, mode="changes", at=datetime.now(UTC))
        rewrite(settings, written, previous_delta_link=previous)


def rewrite(settings: Settings, manifest: Manifest, **changes: Any) -> None:
    path = Lake(DataRoot(settings.data).raw).folder(manifest.table, manifest.batch) / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **changes)))


@pytest.fixture
def settings(template: Settings, tmp_path: Path) -> Settings:
    shutil.copytree(template.data, tmp_path / "data", symlinks=True)
    root = DataRoot(tmp_path / "data")
    newest = sorted(root.releases.iterdir())[-1]
    root.live_file.unlink()
    root.live_file.hardlink_to(newest / DATABASE)
    return settings_for(tmp_path / "data", raw_days=0)


@pytest.fixture
def root(settings: Settings) -> DataRoot:
    return DataRoot(settings.data)


@pytest.fixture
def lake(root: DataRoot) -> Lake:
    return Lake(root.raw)


def snapshot(path: Path) -> Mapping[str, tuple[int, int]]:
    return {str(each): (each.lstat().st_mtime_ns, each.lstat().st_size) for each in sorted(path.rglob("*"))}


def only(settings: Settings) -> Finding:
    """The one finding; looking for it changed nothing."""
    before = snapshot(settings.data)
    (found,) = check(settings)
    assert snapshot(settings.data) == before
    assert found.action
    return found


def seen(finding: Finding) -> tuple[str, str, str]:
    return finding.severity, finding.where, finding.what


def a_batch(lake: Lake, table: str = "contact") -> tuple[Manifest, Path]:
    manifest = lake.batches(table)[0]
    return manifest, lake.folder(table, manifest.batch)


def releases(root: DataRoot) -> list[Path]:
    return sorted(root.releases.iterdir())


def writable(path: Path) -> Path:
    """A file of a release that may be damaged: a copy, because the live file may be the same one."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def age(path: Path, **since: float) -> None:
    moment = (datetime.now(UTC) - timedelta(**since)).timestamp()
    os.utime(path, (moment, moment))


def test_a_sound_data_root_has_no_findings(settings: Settings) -> None:
    before = snapshot(settings.data)
    assert check(settings) == []
    assert snapshot(settings.data) == before


def test_a_folder_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    (found,) = check(settings_for(tmp_path / "none"))
    assert (found.severity, found.what) == ("note", "is not there: nothing has run yet")
    assert not (tmp_path / "none").exists()
    (found,) = check(settings_for(tmp_path))
    assert (found.severity, found.what) == ("note", "is empty: nothing has run yet")


@pytest.mark.parametrize(
    ("marker", "what"),
    [
        (None, "is missing, so that this may be no data root"),
        ("{", "is unreadable"),
        ("[]", "is unreadable"),
        ('{"format": 99, "version": "9"}', "says format 99"),
    ],
)
def test_format_of_the_data_root(settings: Settings, marker: str | None, what: str) -> None:
    path = settings.data / "format.json"
    path.unlink()
    if marker is not None:
        path.write_text(marker)
    found = only(settings)
    assert (found.severity, found.where) == ("error", "format.json")
    assert found.what.startswith(what)


@pytest.mark.parametrize("content", ["", "{}", '{"table": "account"}'])
def test_unreadable_manifest(settings: Settings, lake: Lake, content: str) -> None:
    _, folder = a_batch(lake)
    (folder / "manifest.json").write_text(content)
    findings = [finding for finding in check(settings) if finding.severity == "error"]
    (found,) = findings
    assert found.where == f"raw/contact/{folder.name}"
    assert "manifest.json is unreadable" in found.what


def test_manifest_of_another_place(settings: Settings, lake: Lake) -> None:
    manifest, folder = a_batch(lake)
    folder.rename(folder.with_name("20990101T000000000000Z-full-00000000"))
    errors = [finding for finding in check(settings) if finding.severity == "error"]
    assert [finding.where for finding in errors] == ["raw/contact/20990101T000000000000Z-full-00000000"]
    assert f"describes contact/{manifest.batch}" in errors[0].what


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, the manifest says"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "has another checksum than the manifest says"),
    ],
    ids=["missing", "longer", "same size"],
)
def test_damaged_data_file(settings: Settings, lake: Lake, damage: Callable[[Path], None], what: str) -> None:
    _, folder = a_batch(lake)
    damage(folder / "rows-0001.parquet")
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"raw/contact/{folder.name}/rows-0001.parquet")
    assert what in found.what


def test_row_counts_that_disagree(settings: Settings, lake: Lake) -> None:
    manifest, _ = a_batch(lake)
    (file,) = manifest.files
    wrong = msgspec.structs.replace(file, rows=file.rows + 1)
    rewrite(settings, manifest, files=(wrong,), rows=wrong.rows)
    assert only(settings).what == f"has {file.rows} rows, the manifest says {wrong.rows}"
    rewrite(settings, manifest, rows=file.rows + 2)
    assert only(settings).what == f"lists files with {file.rows} rows, but says {file.rows + 2}"


def test_file_that_no_manifest_names(settings: Settings, lake: Lake) -> None:
    _, folder = a_batch(lake)
    (folder / "page-1.json").write_text("[]")
    assert seen(only(settings)) == ("warning", f"raw/contact/{folder.name}/page-1.json", "is not in the manifest")


def test_batches_of_several_organisations(settings: Settings, lake: Lake) -> None:
    rewrite(settings, a_batch(lake)[0], organization_id="00000000-0000-0000-0000-00000000bbbb")
    found = only(settings)
    assert (found.severity, found.where) == ("error", "raw")
    assert "00000000-0000-0000-0000-00000000bbbb" in found.what


def test_gap_in_the_chain_of_delta_links(settings: Settings, lake: Lake) -> None:
    chain(settings, "account", links=3)
    names = lake.names("account")
    shutil.rmtree(lake.folder("account", names[-2]))
    found = only(settings)
    assert (found.severity, found.where) == ("note", f"raw/account/{names[-1]}")
    assert "a batch it builds on is not there" in found.what


def test_table_without_a_usable_delta_link(settings: Settings, lake: Lake) -> None:
    rewrite(settings, a_batch(lake)[0], delta_link=None)
    assert seen(only(settings)) == (
        "note",
        "raw/contact",
        "has no delta link that can be continued: the next scheduled run reads it in full",
    )


def test_columns_selected_since(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "include", tmp_path / "include")
    tables = tmp_path / "include" / "tables.yaml"
    text = tables.read_text(encoding="utf-8")
    tables.write_text(text.replace("  account:\n    columns:\n", "  account:\n    columns:\n      - new_size\n"))
    found = only(settings.model_copy(update={"include": tmp_path / "include"}))
    assert (found.severity, found.where) == ("note", "raw/account")
    assert "other columns" in found.what


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (".20990101T000000000000Z-full-00000000", "was not finished by a run that died"),
        (".20990101T000000000000Z-full-00000000.lock", "is a lock file of a run that died"),
        ("20990101T000000000000Z-full-00000000", "has no manifest: it is no batch"),
    ],
)
def test_leftovers_in_the_lake(settings: Settings, lake: Lake, name: str, what: str) -> None:
    path = lake.folder("contact", name)
    path.touch() if name.endswith(".lock") else path.mkdir()
    assert seen(only(settings)) == ("warning", f"raw/contact/{name}", what)


def test_folder_of_no_table(settings: Settings, root: DataRoot) -> None:
    (root.raw / "lead").mkdir()
    assert seen(only(settings)) == ("warning", "raw/lead", "is no table of this version")


def test_replaced_batch_still_there(settings: Settings, lake: Lake, root: DataRoot) -> None:
    replaced = lake.batches("account")[0].replaces[0]
    shutil.copytree(lake.folder("account", lake.names("account")[-1]), lake.folder("account", replaced))
    newest = lake.batches("account")[-1]
    rewrite(settings, newest)
    path = lake.folder("account", replaced) / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(newest, batch=replaced)))
    what = "was replaced by a compacted batch, but is still there"
    assert seen(only(settings)) == ("warning", f"raw/account/{replaced}", what)
    with warehouse_lock(root):  # a compaction may be removing it
        assert is_sound(check(settings))


def test_no_warehouse(settings: Settings, root: DataRoot) -> None:
    root.warehouse.unlink()
    found = only(settings)
    assert (found.severity, found.where) == ("note", "warehouse/warehouse.duckdb")
    assert "the next run builds it" in found.what


def test_damaged_warehouse(settings: Settings, root: DataRoot) -> None:
    root.warehouse.write_bytes(b"damaged")
    found = only(settings)
    assert (found.severity, found.where) == ("warning", "warehouse/warehouse.duckdb")
    assert found.what.startswith("cannot be read")


def test_warehouse_with_batches_that_the_lake_lacks(settings: Settings, lake: Lake) -> None:
    manifest, folder = a_batch(lake, "connection")
    shutil.rmtree(folder)
    found = only(settings)
    assert (found.severity, found.where) == ("warning", "warehouse/warehouse.duckdb")
    assert found.what.endswith(f"the lake no longer has, for example {manifest.batch}")


def test_nothing_published_yet(settings: Settings, root: DataRoot) -> None:
    shutil.rmtree(root.published)
    found = only(settings)
    assert (found.severity, found.where) == ("note", f"published/{DATABASE}")


def test_live_file_missing(settings: Settings, root: DataRoot) -> None:
    root.live_file.unlink()
    assert seen(only(settings)) == ("error", f"published/{DATABASE}", "is missing, but there are releases")


def test_live_file_damaged(settings: Settings, root: DataRoot) -> None:
    root.live_file.unlink()
    root.live_file.write_bytes(b"damaged")
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"published/{DATABASE}")
    assert found.what.startswith("cannot be read as a release")


def test_live_file_without_its_release(settings: Settings, root: DataRoot) -> None:
    newest = releases(root)[-1]
    shutil.rmtree(newest)
    found = only(settings)
    assert found.what == f"is release {newest.name}, which has no folder in releases/"
    assert found.severity == "error"


def test_live_file_that_is_a_copy_is_sound_and_one_that_differs_is_not(settings: Settings, root: DataRoot) -> None:
    writable(root.live_file)
    assert check(settings) == []
    with duckdb.connect(str(root.live_file)) as connection:
        connection.execute("delete from accounts where account_id = (select min(account_id) from accounts)")
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"published/{DATABASE}")
    assert found.what == f"is not the same as the file of release {releases(root)[-1].name}"


@pytest.mark.parametrize("is_there", [True, False])
def test_report_of_another_release_beside_the_live_file(settings: Settings, root: DataRoot, is_there: bool) -> None:
    report = root.published / QUALITY
    report.write_text("left by a run that was killed") if is_there else report.unlink()
    found = only(settings)
    assert (found.severity, found.where) == ("warning", "published/quality.html")
    assert "is not the quality report of the live release" in found.what


def test_a_live_release_of_a_version_without_reports_is_sound(settings: Settings, root: DataRoot) -> None:
    for report in (root.published / QUALITY, *root.releases.glob(f"*/{QUALITY}")):
        report.unlink()
    assert check(settings) == []


def test_column_and_table_without_description(settings: Settings, root: DataRoot) -> None:
    root.live_file.unlink()
    database = writable(releases(root)[-1] / DATABASE)
    with duckdb.connect(str(database)) as connection:
        connection.execute("comment on column accounts.name is null")
        connection.execute("comment on table contacts is null")
    root.live_file.hardlink_to(database)
    found = only(settings)
    assert (found.severity, found.what) == ("warning", "has no description of accounts.name, contacts")


def test_release_with_other_rows_than_it_says(settings: Settings, root: DataRoot) -> None:
    folder = releases(root)[0]
    release = read_release(folder)
    write_release(folder, msgspec.structs.replace(release, rows=release.rows | {"accounts": 1}))
    findings = check(settings)
    counted = release.rows["accounts"]
    assert [seen(finding) for finding in findings] == [
        ("error", f"published/releases/{folder.name}", f"table accounts has {counted} rows, release.json says 1"),
        (
            "error",
            f"published/releases/{folder.name}/parquet",
            f"accounts.parquet has {counted} rows, release.json says 1 rows",
        ),
    ]


def test_release_that_was_not_validated(settings: Settings, root: DataRoot) -> None:
    folder = releases(root)[0]
    write_release(folder, msgspec.structs.replace(read_release(folder), validated=False))
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"published/releases/{folder.name}")
    assert "is not validated" in found.what


@pytest.mark.parametrize("content", [b"{", b"{}"])
def test_release_with_unreadable_description(settings: Settings, root: DataRoot, content: bytes) -> None:
    folder = releases(root)[0]
    (folder / "release.json").write_bytes(content)
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"published/releases/{folder.name}")
    assert "missing or unreadable" in found.what


def test_release_with_a_damaged_file(settings: Settings, root: DataRoot) -> None:
    folder = releases(root)[0]
    writable(folder / DATABASE).write_bytes(b"damaged")
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"published/releases/{folder.name}")
    assert "cannot be read" in found.what


def test_release_half_removed(settings: Settings, root: DataRoot) -> None:
    folder = releases(root)[0]
    (folder / "release.json").unlink()
    assert seen(only(settings)) == (
        "warning",
        f"published/releases/{folder.name}",
        "has no release.json: it is no release",
    )


def test_missing_export_is_a_finding_once_it_is_late(settings: Settings, root: DataRoot) -> None:
    folder = releases(root)[0]
    shutil.rmtree(folder / PARQUET)
    assert check(settings) == []
    release = read_release(folder)
    write_release(folder, msgspec.structs.replace(release, released_at=release.released_at - timedelta(hours=2)))
    what = "was not exported as Parquet"
    assert seen(only(settings)) == ("warning", f"published/releases/{folder.name}", what)


def test_parquet_link_that_leads_to_another_release(settings: Settings, root: DataRoot) -> None:
    link = root.published / PARQUET
    assert link.is_symlink()
    link.unlink()
    link.symlink_to(releases(root)[0] / PARQUET)
    what = f"does not lead to the Parquet files of the live release {releases(root)[-1].name}"
    assert seen(only(settings)) == ("warning", "published/parquet", what)


@pytest.mark.parametrize("is_there", [True, False])
def test_incomplete_export(settings: Settings, root: DataRoot, is_there: bool) -> None:
    folder = releases(root)[0]
    path = folder / PARQUET / "accounts.parquet"
    path.unlink()
    if is_there:
        path.write_bytes(b"damaged")
    found = only(settings)
    assert (found.severity, found.where) == ("error", f"published/releases/{folder.name}/parquet")
    assert found.what.startswith("accounts.parquet is missing or unreadable")


@pytest.mark.parametrize("place", ["published/.opportunities.duckdb.4711", "published/releases/{newest}/.parquet"])
def test_leftovers_of_a_publication(settings: Settings, root: DataRoot, place: str) -> None:
    where = place.format(newest=releases(root)[-1].name)
    (settings.data / where).mkdir()
    assert seen(only(settings)) == ("warning", where, "was not finished by a run that died")
    with warehouse_lock(root):
        assert is_sound(check(settings))


def test_abandoned_candidates(settings: Settings, root: DataRoot) -> None:
    candidate = root.candidates / build(settings).release_id
    assert check(settings) == []
    age(candidate, hours=25)
    where = f"published/candidates/{candidate.name}"
    assert seen(only(settings)) == ("warning", where, "is a candidate that was neither published nor refused")
    (candidate / "release.json").unlink()
    assert seen(only(settings)) == ("warning", where, "is a candidate that was never finished")
    with warehouse_lock(root):
        assert is_sound(check(settings))


# --- beside living runs


def hold_lock(path: str, ready: Any, is_over: Any) -> None:
    with FileLock(path):
        ready.set()
        is_over.wait(60)


def test_what_a_living_run_is_working_on_is_no_finding(settings: Settings, root: DataRoot, lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    ready, is_over = context.Event(), context.Event()
    lock_file = str(root.warehouse.with_suffix(".lock"))
    process = context.Process(target=hold_lock, args=(lock_file, ready, is_over))
    process.start()
    assert ready.wait(60)
    with lake.new_batch("contact", "changes") as batch:
        (batch.folder / "page-1.json").write_text("[]")
        found = only(settings)
    is_over.set()
    process.join()
    assert (found.severity, found.where) == ("note", "warehouse/warehouse.duckdb")
    assert "a run is working on it" in found.what


def test_no_finding_while_batches_compactions_and_publications_come_and_go(settings: Settings, root: DataRoot) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(4):
                chain(settings, "account")
                compact(settings, "test")
                export(settings, publish(settings, let_pass(settings, build(settings)).release_id).release_id)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    checks = 0
    while thread.is_alive():
        findings = check(settings)
        assert is_sound(findings), findings
        checks += 1
    thread.join()
    assert failures == []
    assert checks > 2


# --- the command


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(settings.data))
    monkeypatch.setenv("OPPORTUNITY_SYNC_INCLUDE", str(PROJECT / "include"))
    monkeypatch.setenv("OPPORTUNITY_SYNC_RAW_DAYS", "0")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command_exits_with_1_for_errors_and_warnings_only(
    run: Callable[..., Any], root: DataRoot, settings: Settings
) -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "0 errors, 0 warnings, 0 notes\n")
    root.warehouse.unlink()
    result = run("check")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "0 errors, 0 warnings, 1 note")
    (root.raw / "lead").mkdir()
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "warning  raw/lead is no table of this version. Move it away."
    shutil.rmtree(root.raw / "lead")
    root.live_file.unlink()
    result = run("check", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["counts"] == {"error": 1, "warning": 0, "note": 1}
    assert [each["severity"] for each in found["findings"]] == ["error", "note"]
    assert set(found["findings"][0]) == {"severity", "where", "what", "action"}


def test_the_command_compact_says_what_it_did(run: Callable[..., Any], settings: Settings, lake: Lake) -> None:
    chain(settings, "account", links=2)
    result = run("compact")
    assert result.exit_code == 0, result.output
    assert "account: 4 -> 2 batches, " in result.stdout
    again = json.loads(run("compact", "--json").stdout)
    assert {each["table"]: (each["batches_before"], each["batches_after"]) for each in again}["account"] == (2, 2)
    assert lake.batches("account")[0].run_id.startswith("manual__compact_")
