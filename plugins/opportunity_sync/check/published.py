"""The published folder: the live file, the kept releases with their exports, and what is left over."""

from __future__ import annotations

import filecmp
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.check.finding import Finding, Severity, hold
from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import ReleaseError
from opportunity_sync.published import ABANDONED_AFTER_SECONDS, PARQUET, check_complete
from opportunity_sync.release import DATABASE, QUALITY, Release, read_release

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXPORT_GRACE = timedelta(hours=1)
"""A release that is younger may still be waiting for its export."""

ROLLBACK = "Run `opportunity-sync rollback` to put a kept release in its place, or `opportunity-sync rebuild`"
REBUILD = "Delete the folder; if it is the live one, run `opportunity-sync rebuild`"


def check_published(root: DataRoot) -> list[Finding]:
    """Check what analysts see and could see again; a publication that comes between is looked at anew."""
    while True:
        before = _state(root)
        findings = [*_live(root), *_releases(root), *_leftovers(root)]
        if not findings or _state(root) == before:
            return findings


def _state(root: DataRoot) -> list[tuple[str, int]]:
    """What publishing, rolling back, exporting and tidying change."""
    paths = [root.live_file, root.published / QUALITY, *root.published.glob("*/*"), *root.releases.glob(f"*/{PARQUET}")]
    return sorted((str(path), path.stat().st_ino) for path in paths if path.exists())


def _live(root: DataRoot) -> Iterator[Finding]:
    import duckdb

    where = f"published/{DATABASE}"
    if not root.live_file.exists():
        if any(root.releases.glob("[0-9]*/release.json")):
            yield _finding("error", where, "is missing, but there are releases", ROLLBACK)
        else:
            yield _finding("note", where, "is not there: nothing has been published yet", "Nothing")
        return
    try:
        with duckdb.connect(str(root.live_file), read_only=True) as connection:
            ((release_id,),) = connection.execute("select release_id from release").fetchall()
            yield from _comments(connection, where)
    except (duckdb.Error, ValueError) as error:
        yield _finding("error", where, f"cannot be read as a release ({type(error).__name__})", ROLLBACK)
        return
    folder = root.releases / release_id
    if not (folder / "release.json").is_file() or not (folder / DATABASE).is_file():
        yield _finding("error", where, f"is release {release_id}, which has no folder in releases/", ROLLBACK)
    elif not root.live_file.samefile(folder / DATABASE) and not filecmp.cmp(
        root.live_file, folder / DATABASE, shallow=False
    ):
        yield _finding("error", where, f"is not the same as the file of release {release_id}", ROLLBACK)
    else:
        yield from _report(root, folder)
        yield from _parquet_link(root, folder)


def _report(root: DataRoot, folder: Path) -> Iterator[Finding]:
    """The report beside the live file is that of the live release, unless a publication is about to replace it."""
    paths = (folder / QUALITY, root.published / QUALITY)
    with hold(root.warehouse.with_suffix(".lock")) as is_free:
        expected, found = (path.read_bytes() if path.exists() else None for path in paths)
        if is_free and found != expected:
            what = f"is not the quality report of the live release {folder.name}"
            yield _finding("warning", f"published/{QUALITY}", what, "The next publication replaces it")


def _parquet_link(root: DataRoot, folder: Path) -> Iterator[Finding]:
    """The link `published/parquet`, where there is one, leads to the files of the live release."""
    link, exported = root.published / PARQUET, folder / PARQUET
    with hold(root.warehouse.with_suffix(".lock")) as is_free:
        is_right = not exported.exists() or not link.is_symlink() or (link.exists() and link.samefile(exported))
        if is_free and not is_right:
            what = f"does not lead to the Parquet files of the live release {folder.name}"
            yield _finding("warning", f"published/{PARQUET}", what, "Clear the task `export` of the release's run")


def _comments(connection: DuckDBPyConnection, where: str) -> Iterator[Finding]:
    bare = connection.execute(
        """
        select table_name from duckdb_tables() where schema_name = 'main' and not internal and comment is null
        union all
        select view_name from duckdb_views() where schema_name = 'main' and not internal and comment is null
        union all
        select table_name || '.' || column_name from duckdb_columns()
        where schema_name = 'main' and not internal and comment is null
        order by all
        """
    ).fetchall()
    if bare:
        names = ", ".join(name for (name,) in bare)
        yield _finding("warning", where, f"has no description of {names}", "Run `opportunity-sync rebuild`")


def _releases(root: DataRoot) -> Iterator[Finding]:
    for folder in sorted(root.releases.glob("[0-9]*")):
        where = f"published/releases/{folder.name}"
        if not (folder / "release.json").exists():
            yield _finding("warning", where, "has no release.json: it is no release", "The next publication removes it")
            continue
        try:
            release = read_release(folder)
            check_complete(folder, release)
        except ReleaseError as error:
            yield _finding("error", where, error.what, REBUILD)
            continue
        yield from _rows(folder, release, where)
        yield from _export(folder, release, where)


def _rows(folder: Path, release: Release, where: str) -> Iterator[Finding]:
    import duckdb

    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        for table, expected in release.rows.items():
            counted = _count(connection, f'select count(*) from "{table}"')
            if counted != expected:
                found = "cannot be read" if counted is None else f"has {counted} rows"
                yield _finding("error", where, f"table {table} {found}, release.json says {expected}", REBUILD)


def _export(folder: Path, release: Release, where: str) -> Iterator[Finding]:
    import duckdb

    action = "Delete the folder parquet/ if it is there, and clear the task `export` of the release's run"
    exported = folder / PARQUET
    if not exported.exists():
        if datetime.now(UTC) - release.released_at > EXPORT_GRACE:
            yield _finding("warning", where, "was not exported as Parquet", action)
        return
    with duckdb.connect() as connection:
        for table, expected in release.rows.items():
            path = exported / f"{table}.parquet"
            counted = _count(connection, "select num_rows from parquet_file_metadata(?)", str(path))
            if counted != expected:
                found = "is missing or unreadable" if counted is None else f"has {counted} rows"
                what = f"{table}.parquet {found}, release.json says {expected} rows"
                yield _finding("error", f"{where}/{PARQUET}", what, action)


def _count(connection: DuckDBPyConnection, query: str, *values: str) -> int | None:
    """What a query counts; None when what it counts is missing or damaged."""
    import duckdb

    try:
        ((found,),) = connection.execute(query, values).fetchall()
    except duckdb.Error:
        return None
    return int(found)


def _leftovers(root: DataRoot) -> Iterator[Finding]:
    """What runs that died left behind; while a run holds the lock it may be its work."""
    with hold(root.warehouse.with_suffix(".lock")) as is_free:
        if not is_free:
            return
        for path in sorted([*root.published.glob(".*"), *root.releases.glob("*/.*")]):
            where = str(path.relative_to(root.path))
            yield _finding("warning", where, "was not finished by a run that died", "Delete it: nobody reads it")
        for folder in sorted(root.candidates.glob("[0-9]*")):
            where = str(folder.relative_to(root.path))
            if not (folder / "release.json").exists():
                yield _finding("warning", where, "is a candidate that was never finished", "The next run removes it")
            elif time.time() - folder.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                what = "is a candidate that was neither published nor refused"
                yield _finding("warning", where, what, "The next publication removes it")


def _finding(severity: Severity, where: str, what: str, action: str) -> Finding:
    return Finding(severity=severity, where=where, what=what, action=action)
