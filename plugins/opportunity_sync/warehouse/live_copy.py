"""The file that an incremental build starts from: a copy of the live release, made while new batches are applied.

Copying a large release takes about as long as applying an hour's batches, and hardly any processor time of ours. It
begins before it is certain that the build will be incremental; when it is not, the copy is dropped.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from opportunity_sync import __version__
from opportunity_sync.data_root import DataRoot, copy_file
from opportunity_sync.release import DATABASE, Release, Run

log = logging.getLogger("opportunity_sync.warehouse")


@dataclass(frozen=True)
class LiveCopy:
    """A copy of the live release's DuckDB file that is being made."""

    file: Path
    copied: Future[None]

    def move_to(self, database: Path) -> None:
        """Wait for the copy and make it the candidate's file.

        Raises:
            OSError: it could not be made.
        """
        self.copied.result()
        self.file.rename(database)
        self.file.parent.rmdir()

    def drop(self) -> None:
        """Remove the copy: everything is derived anew."""
        error = self.copied.exception()
        if error is not None:  # nobody needs it; if the disk is full, the build will say so
            log.info("transform: the live release could not be copied, and need not be (%s)", error)
        shutil.rmtree(self.file.parent)


@contextmanager
def copying_live(root: DataRoot, live: Release | None, run: Run) -> Iterator[LiveCopy | None]:
    """Remove what dead builds left in `candidates/`, and begin to copy the live release there if it may be continued.

    The caller holds the lock. Leaving the block waits for the copy; one that nobody took is removed by the next build.
    """
    for leftover in root.candidates.glob("*"):
        if not (leftover / "release.json").exists():
            shutil.rmtree(leftover)
    if live is None or live.pipeline_version != __version__ or week_of(live) != week_of(run):
        yield None
        return
    file = root.candidates / "live" / DATABASE
    file.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1, thread_name_prefix="copy") as pool:
        yield LiveCopy(file, pool.submit(copy_file, root.releases / live.release_id / DATABASE, file))


def week_of(run: Run | Release) -> tuple[int, int]:
    """ISO year and week (UTC) of a run's clock: a build of another week than the live release's derives everything."""
    return run.started_at.astimezone(UTC).isocalendar()[:2]
