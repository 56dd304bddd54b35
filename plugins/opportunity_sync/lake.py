"""The lake: raw batches as Parquet with a manifest, the only source of truth.

`raw/<table>/<batch>/` holds `rows-*.parquet`, `deletes.parquet` and `manifest.json`. A batch is written aside and
renamed as a whole, its manifest last: a folder without a manifest does not exist for anyone.

Columns of `rows-*.parquet`: the selected columns under their Dataverse logical names, `<lookup>_type` behind every
lookup with several possible target tables, and
- `_extracted_at` TIMESTAMP (UTC): when the request for the row's page was sent;
- `_page` INTEGER: number of that page within the batch, from 1;
- `_batch` VARCHAR and `_alive_at` TIMESTAMP (UTC), only in a batch of mode `compacted`: the batch that brought the row,
  and when it was last extracted alive.
Columns of `deletes.parquet`: `id` UUID, `_observed_at` TIMESTAMP (UTC): when the page reporting the delete arrived;
in a batch of mode `reconcile`, when the row was last seen alive, so that a delete overrules only what was known then.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from opportunity_sync.data_root import sync_file, sync_folder
from opportunity_sync.errors import LakeError
from opportunity_sync.manifest import Column, DataFile, Manifest, Mode, Reconciliation, WindowColumn, chained

__all__ = [
    "Batch",
    "Column",
    "DataFile",
    "Lake",
    "Manifest",
    "Mode",
    "Reconciliation",
    "WindowColumn",
    "chained",
    "data_file",
    "sha256",
    "started",
]

_TIME = "%Y%m%dT%H%M%S%fZ"
"""How the name of a batch begins: when it was begun, so that names sort by time."""


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
        """Names of the complete batches of a table, oldest first; without those that a compacted batch replaces.

        A compaction may replace batches while the folder is being listed: it shows the compacted batch before it
        removes the first one, so a listing that lacks one without having the other differs from the next.
        """
        before, found = None, self._listed(table)
        while found != before:
            before, found = found, self._listed(table)
        return found

    def _listed(self, table: str) -> list[str]:
        found = self._on_disk(table)
        replaced = self._replaced_by(table, found)
        return [name for name in found if name not in replaced]

    def _on_disk(self, table: str) -> list[str]:
        return sorted(path.parent.name for path in (self.path / table).glob("[!.]*/manifest.json"))

    def replaced(self, table: str) -> set[str]:
        """Names of the batches that compacted ones replace, whether they are still on disk or not.

        Raises:
            LakeError: the manifest of a compacted batch is unreadable.
        """
        return self._replaced_by(table, self._on_disk(table))

    def _replaced_by(self, table: str, names: list[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            if name.split("-")[1:2] == ["compacted"]:
                try:
                    found.update(self.manifest(table, name).replaces)
                except LakeError as error:
                    if not isinstance(error.__cause__, FileNotFoundError):
                        raise
                    continue  # replaced itself just now
        return found

    def batches(self, table: str, *, since: datetime | None = None) -> list[Manifest]:
        """Complete batches of a table, oldest first; with `since` only those begun at that time or later.

        Raises:
            LakeError: a manifest is unreadable.
        """
        oldest = f"{since.astimezone(UTC):{_TIME}}" if since else ""
        names = self.names(table)
        while True:
            try:
                return [self.manifest(table, name) for name in names if name >= oldest]
            except LakeError:
                before, names = names, self.names(table)
                if names == before:
                    raise  # no compaction has taken it away: it is damaged

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
    def new_batch(self, table: str, mode: Mode, *, in_place_of: str | None = None) -> Iterator[Batch]:
        """Open a batch aside. Left without `commit`, by an error or a kill, it leaves nothing anyone reads.

        Its name sorts by the present time, or where the batch `in_place_of` sorts.
        """
        from filelock import FileLock

        self.remove_leftovers(table)
        started_at = datetime.now(UTC)
        stamp = in_place_of.split("-")[0] if in_place_of else f"{started_at:{_TIME}}"
        name = f"{stamp}-{mode}-{secrets.token_hex(4)}"
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

    def being_written(self, table: str) -> list[str]:
        """Names of the batches that are being written now, oldest first; call `remove_leftovers` before."""
        return sorted(path.stem.removeprefix(".") for path in (self.path / table).glob(".*.lock"))

    def remove_leftovers(self, table: str) -> None:
        """Delete batches whose writer died (their lock file is free), and those that a compacted batch replaces."""
        from filelock import FileLock, Timeout

        folder = self.path / table
        for lock_file in folder.glob(".*.lock"):
            try:
                with FileLock(lock_file, timeout=0):
                    shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                    lock_file.unlink(missing_ok=True)
            except Timeout:
                continue  # its writer is alive
        for name in self.replaced(table).intersection(self._on_disk(table)):
            with suppress(FileNotFoundError):  # another process was faster
                (folder / name).rename(folder / f".{name}")  # readers see all of it or nothing
        for aside in folder.glob(".*"):
            if aside.is_dir() and not Path(f"{aside}.lock").exists():  # a writer creates its lock file first
                shutil.rmtree(aside, ignore_errors=True)


def started(batch: str) -> datetime:
    """When a batch was begun (UTC), by its name."""
    return datetime.strptime(batch.split("-")[0], _TIME).replace(tzinfo=UTC)


def data_file(path: Path, rows: int) -> DataFile:
    """Describe a finished Parquet file for the manifest."""
    return DataFile(name=path.name, rows=rows, bytes=path.stat().st_size, sha256=sha256(path))


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
