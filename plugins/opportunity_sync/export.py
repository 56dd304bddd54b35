"""The export stage: a published release as Parquet, one file per table, for tools that do not speak DuckDB.

It comes after the swap, so that analysts need not wait for it: `releases/<release_id>/parquet/` appears as a whole, and
then `published/parquet` leads there.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from opportunity_sync.data_root import DataRoot, disk_errors, open_data_root, sync_file, sync_folder, warehouse_lock
from opportunity_sync.published import PARQUET, live_or_none, show_parquet
from opportunity_sync.release import DATABASE, PUBLISHED_TABLES
from opportunity_sync.settings import Settings

log = logging.getLogger("opportunity_sync.export")


def export(settings: Settings, release_id: str) -> Path | None:
    """Write a release's Parquet files, and let `published/parquet` lead to those of the live one.

    Calling it again changes nothing.

    Returns:
        Their folder; None when there is no such release, because a newer one was live already when it was published.

    Raises:
        DataRootError: the data root is of a newer version or in use for too long, or its disk is full.
    """
    import duckdb

    root = open_data_root(settings.data)
    with disk_errors(root.path), warehouse_lock(root):
        release = root.releases / release_id
        folder = release / PARQUET
        if not (release / "release.json").is_file():
            log.info("export: %s was not published, nothing to export", release_id)
            return None
        if folder.exists():
            _show_if_live(root, release_id)
            return folder
        aside = release / f".{PARQUET}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        log.info("export: %s started", release_id)
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": settings.memory_limit,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(str(release / DATABASE), read_only=True, config=config) as connection:
            for table in PUBLISHED_TABLES:
                target = str(aside / f"{table}.parquet").replace("'", "''")
                connection.execute(f"copy {table} to '{target}' (format parquet, compression zstd)")
        for path in aside.iterdir():
            path.chmod(0o444)
            sync_file(path)
        sync_folder(aside)
        aside.rename(folder)
        sync_folder(release)
        _show_if_live(root, release_id)
    log.info("export: %s written as Parquet, %d tables", release_id, len(PUBLISHED_TABLES))
    return folder


def _show_if_live(root: DataRoot, release_id: str) -> None:
    live = live_or_none(root)
    if live is not None and live.release_id == release_id:
        show_parquet(root, release_id)
