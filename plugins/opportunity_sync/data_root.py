"""The data root: which folder holds what, and which product version may write there."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opportunity_sync import __version__
from opportunity_sync.errors import DataRootError

FORMAT = 1
"""Layout version of the data root; raised when an older product could misread it."""

COPIED_AT_ONCE = 2**30
CANNOT_COPY = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})
"""What copy_file_range(2) answers where the file systems do not support it."""


@dataclass(frozen=True)
class DataRoot:
    """Folders below one data root."""

    path: Path

    @property
    def raw(self) -> Path:
        """Raw batches, the only source of truth: `raw/<table>/<batch>/`."""
        return self.path / "raw"

    @property
    def warehouse(self) -> Path:
        """The private DuckDB file; deleting it rebuilds it from the raw batches."""
        return self.path / "warehouse" / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        """What analysts see."""
        return self.path / "published"

    @property
    def live_file(self) -> Path:
        """The DuckDB file analysts open."""
        return self.published / "opportunities.duckdb"

    @property
    def releases(self) -> Path:
        """Kept releases: `releases/<release_id>/`."""
        return self.published / "releases"

    @property
    def marketo(self) -> Path:
        """What Marketo has confirmed: `marketo/<host>/ledger.duckdb`, see `marketo_load/ledger.py`."""
        return self.path / "marketo"

    @property
    def slots(self) -> Path:
        """Lock files that limit how many windows are read at once, see `dataverse/slots.py`."""
        return self.path / "slots"

    @property
    def candidates(self) -> Path:
        """Releases being built or validated: `candidates/<release_id>/`."""
        return self.published / "candidates"


def open_data_root(path: Path) -> DataRoot:
    """Create the data root if needed and check that this version may use it.

    Raises:
        DataRootError: a newer version of the product has written there.
    """
    marker = path / "format.json"
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found["format"] > FORMAT:
            raise DataRootError(
                f"Data root {path} has format {found['format']}, written by version {found['version']}; "
                f"version {__version__} understands format {FORMAT} at most",
                state="Nothing was read or changed",
                action="Upgrade opportunity-sync, or point OPPORTUNITY_SYNC_DATA at another folder",
            )
    else:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, json.dumps({"format": FORMAT, "version": __version__}) + "\n")
    return DataRoot(path)


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that readers see the old or the new content, never a part, also after a crash."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content as fast as the system can: shared blocks, or a copy inside the kernel.

    `shutil.copyfile` uses `sendfile` up to Python 3.13, which took ten times as long for 865 MB when timed by itself.
    """
    with source.open("rb") as reading, target.open("wb") as writing:
        try:
            while os.copy_file_range(reading.fileno(), writing.fileno(), COPIED_AT_ONCE):
                pass
        except AttributeError:  # not on this system
            shutil.copyfileobj(reading, writing)
        except OSError as error:
            if error.errno not in CANNOT_COPY:
                raise
            shutil.copyfile(source, target)


def sync_file(path: Path) -> None:
    """Make a finished file durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def warehouse_lock(root: DataRoot, *, timeout_seconds: float = 3600) -> Iterator[None]:
    """Hold the one lock of everything that writes the warehouse or the published folder.

    Raises:
        DataRootError: another process held it for longer than `timeout_seconds`.
    """
    from filelock import FileLock, Timeout

    root.warehouse.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root.warehouse.with_suffix(".lock"), timeout=timeout_seconds):
            yield
    except Timeout:
        error = DataRootError(
            f"Another process has been working on {root.path} for over {timeout_seconds:.0f} s",
            state="Nothing was changed by this one",
            action="Wait for the other run, or end it if it hangs; then run again",
        )
        error.transient = True
        raise error from None


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into an error that names the folder.

    Raises:
        DataRootError: the disk, the quota or the largest file size was exhausted.
    """
    import duckdb

    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _disk_full(folder, str(error.strerror)) from error
    except duckdb.Error as error:
        for reason in ("No space left on device", "Disk quota exceeded", "File too large"):
            if reason in str(error):
                raise _disk_full(folder, reason) from error
        raise


def _disk_full(folder: Path, reason: str) -> DataRootError:
    return DataRootError(
        f"{folder} cannot be written: {reason}",
        state="What was being written was given up and nothing of it is visible; earlier data stays live",
        action="Free space below the data root, or point OPPORTUNITY_SYNC_DATA at a larger disk; then run again",
    )
