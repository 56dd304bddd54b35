"""Look into releases, and make one live as far as the transform stage looks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import duckdb

from opportunity_sync.data_root import DataRoot
from opportunity_sync.release import DATABASE, Release

CONTENT = {
    "opportunities": "*",
    "opportunity_contact_roles": "*",
    "contacts": "*",
    "accounts": "*",
    "unresolved_references": "*",
    "opportunity_connections": "* exclude (raw_batch, read_at)",
    "merged_accounts": "*",
    "merged_contacts": "*",
}


def make_live(data: DataRoot, release: Release) -> None:
    """What publishing does to the files that the transform stage looks at."""
    data.releases.mkdir(exist_ok=True)
    (data.candidates / release.release_id).rename(data.releases / release.release_id)
    shutil.copyfile(data.releases / release.release_id / DATABASE, data.live_file)


def rows(data: DataRoot, release: Release, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Rows of one published table, sorted."""
    folders = [folder / release.release_id for folder in (data.candidates, data.releases)]
    (folder,) = (folder for folder in folders if folder.exists())
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        return sorted(connection.execute(f"select {columns} from {table}").fetchall(), key=repr)


def content(data: DataRoot, release: Release) -> Mapping[str, list[tuple[Any, ...]]]:
    """Everything that the raw batches decide."""
    return {table: rows(data, release, table, columns) for table, columns in CONTENT.items()}
