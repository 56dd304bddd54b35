"""The export stage: a published release as Parquet."""

from __future__ import annotations

import duckdb
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.export import export
from opportunity_sync.publish import publish
from opportunity_sync.release import DATABASE, PUBLISHED_TABLES, Release
from opportunity_sync.settings import Settings

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
