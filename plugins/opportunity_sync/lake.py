"""The lake: raw batches as Parquet with a manifest, the only source of truth.

`raw/<table>/<batch>/` holds `rows-*.parquet`, `deletes.parquet` and `manifest.json`. A batch is written aside and
renamed as a whole, its manifest last: a folder without a manifest does not exist for anyone.

Columns of `rows-*.parquet`: the selected columns under their Dataverse logical names, `<lookup>_type` behind every
lookup with several possible target tables, and
- `_extracted_at` TIMESTAMP (UTC): when the request for the row's page was sent;
- `_page` INTEGER: number of that page within the batch, from 1.
Columns of `deletes.parquet`: `id` UUID, `_observed_at` TIMESTAMP (UTC): when the page reporting the delete arrived.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from opportunity_sync import __version__
from opportunity_sync.data_root import sync_file, sync_folder
from opportunity_sync.errors import LakeError

Mode = Literal["full", "changes", "window", "reconcile", "compacted"]
WindowColumn = Literal["modifiedon", "createdon"]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One extracted column, as the organisation's metadata described it when the batch was read."""

    name: str
    """Dataverse logical name, for example `customerid`."""
    attribute_type: str
    """Dataverse attribute type, for example `Customer`, `Money`, `Picklist`."""
    duckdb_type: str
    """Type in the Parquet files, for example `UUID`, `DECIMAL(19,4)`."""
    property: str
    """Web API property, for example `_customerid_value`."""
    has_type: bool = False
    """True for a lookup with several possible target tables: `<name>_type` holds the target's logical name."""
    label: str = ""
    """Display name."""
    description: str = ""
    choices: dict[int, str] = {}
    """Choice value to label, for choice columns (Picklist, State, Status, MultiSelectPicklist)."""


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file of a batch."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """What one sweep of a table found (batches of mode `reconcile`); all figures are rows."""

    swept_at: datetime
    """UTC, before the first page of ids was requested."""
    checked: int
    """Ids that Dynamics listed."""
    missing: int
    """Listed, but not known here."""
    gone: int
    """Known here, but confirmed to be no longer in Dynamics."""
    stale: int
    """Known here in another version."""
    repaired: int
    """Fetched again or tombstoned by this batch."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch is; written last."""

    format: int = 1
    table: str
    batch: str
    mode: Mode
    organization_id: str
    entity_set: str
    started_at: datetime
    """UTC, before the first request."""
    finished_at: datetime
    """UTC, after the last response."""
    window_start: datetime | None = None
    window_end: datetime | None = None
    window_by: WindowColumn = "modifiedon"
    """The column whose value lies in `[window_start, window_end)` (mode `window`)."""
    reconciliation: Reconciliation | None = None
    """What the newest sweep found (mode `reconcile`, and what replaces such a batch)."""
    full_read_at: datetime | None = None
    """UTC: when the newest full read began that a batch of mode `compacted` holds."""
    replaces: tuple[str, ...] = ()
    """Batches of the same table whose content this one (mode `compacted`) holds; they no longer exist for anyone."""
    pages: int
    rows: int
    deletes: int
    previous_delta_link: str | None = None
    """The link this batch was read from (mode `changes`): path and query, without scheme and host."""
    delta_link: str | None = None
    """The link that continues after this batch: path and query, without scheme and host."""
    read_until: datetime | None = None
    """Without change tracking: the table is known to be read up to this `modifiedon`."""
    columns: tuple[Column, ...]
    missing_columns: tuple[str, ...] = ()
    """Selected columns that Dynamics no longer has."""
    files: tuple[DataFile, ...]
    run_id: str
    pipeline_version: str = __version__


@dataclass
class Batch:
    """A batch being written: put Parquet files into `folder`, then call `commit`."""

    table: str
    name: str
    mode: Mode
    started_at: datetime
    folder: Path
    committed: Manifest | None = field(default=None, init=False)


class Lake:
    """All raw batches below one folder (`<data root>/raw`)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, table: str) -> list[str]:
        """Names of the complete batches of a table, oldest first."""
        return sorted(path.parent.name for path in (self.path / table).glob("[!.]*/manifest.json"))

    def batches(self, table: str) -> list[Manifest]:
        """Complete batches of a table, oldest first.

        Raises:
            LakeError: a manifest is unreadable.
        """
        return [self.manifest(table, name) for name in self.names(table)]

    def manifest(self, table: str, batch: str) -> Manifest:
        """Read one manifest.

        Raises:
            LakeError: it is unreadable or describes another batch.
        """
        path = self.folder(table, batch) / "manifest.json"
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError) as error:
            raise LakeError(
                f"Manifest {path} is unreadable ({error})",
                state="The batch was left as it is and nothing was published",
                action="Restore the folder from a backup, or delete it: the table is then read in full",
            ) from error
        if (manifest.table, manifest.batch) != (table, batch):
            raise LakeError(
                f"Manifest {path} describes {manifest.table}/{manifest.batch}",
                state="The batch was left as it is and nothing was published",
                action="Move the folder back to where it came from",
            )
        return manifest

    def folder(self, table: str, batch: str) -> Path:
        """Folder of a batch."""
        return self.path / table / batch

    def files(self, manifest: Manifest, prefix: str) -> list[Path]:
        """Data files of a batch whose name starts with `prefix` (`rows` or `deletes`), checked against the manifest.

        Raises:
            LakeError: a file is missing or its checksum differs.
        """
        paths = []
        for file in manifest.files:
            if not file.name.startswith(prefix):
                continue
            path = self.folder(manifest.table, manifest.batch) / file.name
            if not path.is_file() or path.stat().st_size != file.bytes or sha256(path) != file.sha256:
                raise LakeError(
                    f"{path} is missing or differs from its manifest ({file.bytes} bytes, sha256 {file.sha256})",
                    state="The batch was not applied and nothing was published",
                    action="Restore the file from a backup, or delete the batch folder: the table is then read in full",
                )
            paths.append(path)
        return paths

    @contextmanager
    def new_batch(self, table: str, mode: Mode) -> Iterator[Batch]:
        """Open a batch aside. Left without `commit`, by an error or a kill, it leaves nothing anyone reads."""
        from filelock import FileLock

        self.remove_leftovers(table)
        started_at = datetime.now(UTC)
        name = f"{started_at:%Y%m%dT%H%M%S%fZ}-{mode}-{secrets.token_hex(4)}"
        folder = self.path / table / f".{name}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        with lock:
            folder.mkdir()
            batch = Batch(table=table, name=name, mode=mode, started_at=started_at, folder=folder)
            try:
                yield batch
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)

    def commit(self, batch: Batch, manifest: Manifest) -> Manifest:
        """Make a batch visible: files and manifest durable first, then one rename."""
        for file in manifest.files:
            sync_file(batch.folder / file.name)
        path = batch.folder / "manifest.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        sync_file(path)
        sync_folder(batch.folder)
        batch.folder.rename(self.folder(batch.table, batch.name))
        sync_folder(self.path / batch.table)
        batch.committed = manifest
        return manifest

    def remove_leftovers(self, table: str) -> None:
        """Delete batches whose writer died: their lock file is free."""
        from filelock import FileLock, Timeout

        for lock_file in (self.path / table).glob(".*.lock"):
            try:
                with FileLock(lock_file, timeout=0):
                    shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                    lock_file.unlink(missing_ok=True)
            except Timeout:
                continue  # its writer is alive


def data_file(path: Path, rows: int) -> DataFile:
    """Describe a finished Parquet file for the manifest."""
    return DataFile(name=path.name, rows=rows, bytes=path.stat().st_size, sha256=sha256(path))


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
