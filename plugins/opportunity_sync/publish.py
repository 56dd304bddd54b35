"""The publish stage: a validated candidate becomes the live release, in one atomic step.

The order of steps, each durable before the next: the candidate's files are synced, its folder is renamed to
`releases/<release_id>`, and `published/opportunities.duckdb` is replaced by a hard link to its DuckDB
file (a copy where the file system has no hard links). Only that step changes which release is live, and readers
that have the old file open keep it. Then `published/quality.html` is replaced by that release's report. After a kill at
any point the old or the new release is live, and calling `publish` again goes on where it stopped.
"""

from __future__ import annotations

import filecmp
import logging
import os
from pathlib import Path

from opportunity_sync.data_root import (
    DataRoot,
    copy_file,
    disk_errors,
    open_data_root,
    sync_file,
    sync_folder,
    warehouse_lock,
    write_atomically,
)
from opportunity_sync.diff import changes
from opportunity_sync.errors import ReleaseError
from opportunity_sync.history import rewrite_history
from opportunity_sync.published import (
    check_complete,
    continued_release,
    is_superseded,
    kept_releases,
    live_or_none,
    show_parquet,
    tidy,
)
from opportunity_sync.release import DATABASE, QUALITY, Release, live_release, read_release
from opportunity_sync.settings import Settings

__all__ = ["changes", "live", "publish", "releases", "rollback"]

log = logging.getLogger("opportunity_sync.publish")


def publish(settings: Settings, release_id: str) -> Release:
    """Make a validated candidate the live release; calling it again changes nothing.

    Returns:
        The live release afterwards: the candidate, or the present one when that holds newer data.

    Raises:
        ReleaseError: there is no such candidate, or it did not pass validation.
        DataRootError: the data root is of a newer version or in use for too long, or its disk is full.
    """
    root = open_data_root(settings.data)
    with disk_errors(root.path), warehouse_lock(root):
        present = live_or_none(root)
        folder = root.releases / release_id
        is_moved = (folder / "release.json").is_file()
        candidate = read_release(folder if is_moved else root.candidates / release_id)
        if present is not None and is_superseded(candidate, present):
            log.info("publish: %s is superseded by the live release %s", release_id, present.release_id)
            return present
        log.info("publish: %s started", release_id)
        if not is_moved:
            check_complete(root.candidates / release_id, candidate)
            candidate = _continue_history(root, candidate, present)
            _finish(root.candidates / release_id)
            root.releases.mkdir(exist_ok=True)
            (root.candidates / release_id).rename(folder)
            sync_folder(root.releases)
            sync_folder(root.candidates)
        _switch(root, folder)
        tidy(root, keep=settings.releases_kept, live_id=release_id)
    counts = ", ".join(f"{table} {count}" for table, count in candidate.rows.items())
    log.info("publish: %s is live: %s", release_id, counts)
    return candidate


def releases(settings: Settings) -> list[Release]:
    """Releases on disk, newest first; each can be switched to with `rollback`."""
    return kept_releases(open_data_root(settings.data))


def live(settings: Settings) -> Release | None:
    """The live release; None before the first publication.

    Raises:
        ReleaseError: the live file is unreadable, or its release folder is gone.
    """
    return live_release(open_data_root(settings.data))


def rollback(settings: Settings, release_id: str | None = None) -> Release:
    """Switch to a kept release. The next scheduled run publishes newer data again.

    Args:
        settings: settings of the data root.
        release_id: the release to switch to; without it the newest one that is older than the live one.

    Returns:
        The release that is live now.

    Raises:
        ReleaseError: there is no such release, or its file is damaged.
    """
    root = open_data_root(settings.data)
    with warehouse_lock(root):
        present = live_or_none(root)
        kept = kept_releases(root)
        older = [release for release in kept if present is None or release.release_id < present.release_id]
        found = [release for release in kept if release.release_id == release_id] if release_id else older[:1]
        if not found:
            ids = ", ".join(release.release_id for release in kept) or "none"
            raise ReleaseError(
                f"There is no release {release_id}" if release_id else "There is no release older than the live one",
                state="The live release is unchanged",
                action=f"Choose one of the kept releases: {ids}",
            )
        folder = root.releases / found[0].release_id
        check_complete(folder, found[0])
        _switch(root, folder)
        show_parquet(root, found[0].release_id)
    log.info("publish: rolled back from %s to %s", present.release_id if present else "nothing", found[0].release_id)
    return found[0]


def _continue_history(root: DataRoot, candidate: Release, present: Release | None) -> Release:
    """Let a candidate continue the history of what is live now, also if that is not what it was built on."""
    previous = continued_release(root, present)
    continued = previous.name if previous else ""
    if candidate.history_of == continued:
        return candidate
    log.info("publish: %s continues the history of %s", candidate.release_id, continued or "nothing")
    folder = root.candidates / candidate.release_id
    return rewrite_history(folder, folder / DATABASE, candidate, previous and previous / DATABASE, continued)


def _finish(folder: Path) -> None:
    """Make the files of a candidate durable, and its DuckDB file read-only."""
    database = folder / DATABASE
    database.chmod(0o444)
    sync_file(database)
    sync_folder(folder)


def _switch(root: DataRoot, folder: Path) -> None:
    """Make the release in `folder` the live one, with its quality report."""
    for name in (DATABASE, QUALITY):
        for leftover in root.published.glob(f".{name}.*"):
            leftover.unlink()
    _switch_file(root, folder / DATABASE)
    report, shown = folder / QUALITY, root.published / QUALITY
    if not report.exists():  # a release of a version that wrote none
        shown.unlink(missing_ok=True)
    elif not shown.exists() or not filecmp.cmp(report, shown, shallow=False):
        write_atomically(shown, report.read_text(encoding="utf-8"))


def _switch_file(root: DataRoot, database: Path) -> None:
    """Replace the live file by `database`. (Renaming a link over another link to the same file does nothing.)"""
    if root.live_file.exists() and root.live_file.samefile(database):
        return
    aside = root.published / f".{DATABASE}.{os.getpid()}"
    try:
        aside.hardlink_to(database)
    except OSError as error:
        log.info("publish: copying, because this file system has no hard links (%s)", error.strerror)
        copy_file(database, aside)
        aside.chmod(0o444)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
    aside.replace(root.live_file)
    sync_folder(root.published)
