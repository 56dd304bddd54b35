"""The export stage: a published release as Parquet."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import duckdb
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.export import export
from opportunity_sync.publish import publish, rollback
from opportunity_sync.release import DATABASE, PUBLISHED_TABLES, Release
from opportunity_sync.settings import Settings
from tests.small_organisation import build, extract, let_pass, organisation

pytestmark = pytest.mark.slow


def test_every_table_of_a_published_release_is_written_as_parquet(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    export(settings, release.release_id)

    folder = DataRoot(settings.data).releases / release.release_id
    assert {path.name for path in (folder / "parquet").iterdir()} == {f"{name}.parquet" for name in PUBLISHED_TABLES}
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        for table in PUBLISHED_TABLES:
            parquet = f"select * from read_parquet('{folder}/parquet/{table}.parquet')"
            for one, other in ((f"from {table}", parquet), (parquet, f"from {table}")):
                assert connection.execute(f"{one} except all {other}").fetchall() == []
        types = "select column_name, column_type from (describe {})"
        assert (
            connection.execute(types.format("opportunities")).fetchall()
            == connection.execute(types.format(f"from '{folder}/parquet/opportunities.parquet'")).fetchall()
        )


def test_exporting_again_changes_nothing(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    folder = export(settings, release.release_id)
    assert folder is not None
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert export(settings, release.release_id) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_a_killed_export_left_behind_is_replaced(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    half = DataRoot(settings.data).releases / release.release_id / ".parquet"
    half.mkdir()
    (half / "opportunities.parquet").write_bytes(b"half")
    folder = export(settings, release.release_id)
    assert folder is not None
    assert not half.exists()
    with duckdb.connect() as connection:
        rows = connection.execute(f"select count(*) from read_parquet('{folder}/opportunities.parquet')").fetchall()
    assert rows == [(release.rows["opportunities"],)]


def test_a_release_that_was_superseded_is_not_exported(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    assert export(settings, release.release_id) is None
    assert (DataRoot(settings.data).candidates / release.release_id).exists()


def shown(settings: Settings) -> str:
    """The release whose Parquet files somebody sees who opens `published/parquet`."""
    with duckdb.connect() as connection:
        file = DataRoot(settings.data).published / "parquet" / "release.parquet"
        ((release_id,),) = connection.execute("select release_id from read_parquet(?)", [str(file)]).fetchall()
    return str(release_id)


def next_release(settings: Settings) -> Release:
    extract(settings, {"account": organisation()["account"][:-1]})
    return publish(settings, let_pass(settings, build(settings)).release_id)


def test_published_parquet_leads_to_the_files_of_the_live_release(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    export(settings, first.release_id)
    assert shown(settings) == first.release_id
    second = next_release(settings)
    assert shown(settings) == first.release_id  # until the export is complete
    export(settings, second.release_id)
    assert shown(settings) == second.release_id
    export(settings, first.release_id)  # a task of an older run, cleared again
    assert shown(settings) == second.release_id
    assert list(DataRoot(settings.data).published.glob(".parquet*")) == []


def test_published_parquet_follows_a_rollback(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    export(settings, first.release_id)
    export(settings, next_release(settings).release_id)
    rollback(settings)
    assert shown(settings) == first.release_id


def test_after_a_rollback_to_a_release_without_parquet_files_published_parquet_shows_no_other_release(
    candidate: tuple[Settings, Release], caplog: pytest.LogCaptureFixture
) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    export(settings, next_release(settings).release_id)
    with caplog.at_level(logging.WARNING):
        rollback(settings)
    assert not (DataRoot(settings.data).published / "parquet").is_symlink()
    assert f"release {first.release_id} has no Parquet files" in caplog.text
    export(settings, first.release_id)
    assert shown(settings) == first.release_id


def test_published_parquet_stays_right_when_the_folder_is_seen_under_another_path(
    candidate: tuple[Settings, Release], tmp_path: Path
) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    export(settings, release.release_id)
    moved = Settings(data=tmp_path / "share")
    shutil.move(settings.data, moved.data)
    assert shown(moved) == release.release_id


def test_a_file_system_without_symbolic_links_has_no_published_parquet_and_the_log_says_so(
    candidate: tuple[Settings, Release], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    settings, release = candidate
    publish(settings, release.release_id)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    with caplog.at_level(logging.WARNING):
        folder = export(settings, release.release_id)
    assert folder is not None
    assert folder.is_dir()
    assert "no published/parquet: this file system has no symbolic links (Operation not permitted)" in caplog.text
