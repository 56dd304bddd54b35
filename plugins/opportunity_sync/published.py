"""The published folder: which releases it holds, which one is live, what failed, and tidying it up.

Which release is live has one truth: the file `published/opportunities.duckdb` itself, whose table `release` names it.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from opportunity_sync.data_root import DataRoot, sync_folder
from opportunity_sync.errors import ReleaseError
from opportunity_sync.release import DATABASE, Release, live_release, read_release

FAILED_KEPT = 3
"""Candidates that failed validation and stay on disk for a look."""
PARQUET = "parquet"
"""Folder of a release's Parquet files, and the link `published/parquet` to those of the live release."""
ABANDONED_AFTER_SECONDS = 24 * 3600
"""A candidate this old belongs to a run that ended long ago."""

log = logging.getLogger("opportunity_sync.publish")


def failed_folder(root: DataRoot) -> Path:
    """Where candidates go that failed validation: `published/failed/<release_id>/`."""
    return root.published / "failed"


def kept_releases(root: DataRoot) -> list[Release]:
    """Releases that can be switched to, newest first."""
    return [read_release(path.parent) for path in sorted(root.releases.glob("[0-9]*/release.json"), reverse=True)]


def live_or_none(root: DataRoot) -> Release | None:
    """The live release; None when there is none, or when the live file is unreadable, which is logged."""
    try:
        return live_release(root)
    except ReleaseError as error:
        log.warning("publish: %s", error)
        return None


def continued_release(root: DataRoot, live: Release | None) -> Path | None:
    """The folder of the release whose history the next one continues: the live one, else the newest undamaged one."""
    if live is not None:
        return root.releases / live.release_id
    for release in kept_releases(root):
        folder = root.releases / release.release_id
        try:
            check_complete(folder, release)
        except ReleaseError as error:
            log.warning("publish: %s", error)
            continue
        return folder
    return None


def show_parquet(root: DataRoot, release_id: str) -> None:
    """Let `published/parquet` lead to the Parquet files of a release, in one step; without any, let it lead nowhere.

    A relative link: it stays right where the folder is mounted or shared under another name.
    """
    link = root.published / PARQUET
    if not (root.releases / release_id / PARQUET).exists():
        link.unlink(missing_ok=True)
        log.warning("publish: release %s has no Parquet files: clear the task `export` of its run", release_id)
        return
    aside = root.published / f".{PARQUET}.{os.getpid()}"
    for leftover in root.published.glob(f".{PARQUET}.*"):
        leftover.unlink()
    try:
        aside.symlink_to(Path(root.releases.name) / release_id / PARQUET, target_is_directory=True)
    except OSError as error:
        log.warning("publish: no published/%s: this file system has no symbolic links (%s)", PARQUET, error.strerror)
        return
    aside.replace(link)
    sync_folder(root.published)


def is_superseded(candidate: Release, live: Release | None) -> bool:
    """True when the live release holds newer data than a candidate, or the same data and was built later.

    Within one warehouse the number of applied batches decides, then the time of building: two DAGs may build at the
    same time, and settings may change between. A rebuilt warehouse counts anew, so there only the time decides.
    """
    if live is None or live.release_id == candidate.release_id:
        return False
    if live.warehouse_id == candidate.warehouse_id and live.sequence != candidate.sequence:
        return live.sequence > candidate.sequence
    return live.release_id > candidate.release_id


def set_aside(root: DataRoot, release_id: str) -> Path:
    """Move a candidate to the failed ones and keep only the newest of them; returns its new folder."""
    folder = failed_folder(root) / release_id
    folder.parent.mkdir(parents=True, exist_ok=True)
    (root.candidates / release_id).rename(folder)
    sync_folder(folder.parent)
    remove(sorted(failed_folder(root).glob("[0-9]*"))[:-FAILED_KEPT])
    return folder


def tidy(root: DataRoot, *, keep: int, live_id: str) -> None:
    """Remove releases beyond the newest `keep` (never the live one), abandoned candidates and half-removed folders."""
    complete = [path.parent for path in sorted(root.releases.glob("[0-9]*/release.json"), reverse=True)]
    remove(folder for folder in complete[keep:] if folder.name != live_id)
    remove(folder for folder in root.releases.glob("[0-9]*") if not (folder / "release.json").exists())
    old = time.time() - ABANDONED_AFTER_SECONDS
    remove(folder for folder in root.candidates.glob("[0-9]*") if folder.stat().st_mtime < old)


def remove(folders: Iterable[Path]) -> None:
    """Remove release folders: `release.json` first, so that what a kill leaves behind is no release."""
    for folder in folders:
        (folder / "release.json").unlink(missing_ok=True)
        shutil.rmtree(folder)
        log.info("publish: removed %s", folder)


def check_complete(folder: Path, release: Release) -> None:
    """Check that the DuckDB file of a release is what its `release.json` says, and passed validation.

    Raises:
        ReleaseError: it is another release, was not validated, or cannot be opened.
    """
    import duckdb

    path = folder / DATABASE
    action = "Run the pipeline again, or `opportunity-sync rebuild`"
    state = "The live release is unchanged"
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            ids = connection.execute("select release_id from release").fetchall()
            ((checked, failed),) = connection.execute(
                "select count(*), count(*) filter (not success and severity = 'critical') from expectation_results"
            ).fetchall()
    except duckdb.Error as error:
        raise ReleaseError(f"{path} cannot be read ({type(error).__name__})", state=state, action=action) from error
    if ids != [(release.release_id,)]:
        raise ReleaseError(f"{path} is not release {release.release_id}", state=state, action=action)
    if not release.validated or checked == 0 or failed > 0:
        raise ReleaseError(
            f"Release {release.release_id} is not validated ({checked} results, {failed} critical failures)",
            state=state,
            action="Validate it first: clear the task `validate` of its run",
        )
