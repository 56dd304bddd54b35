"""Extraction: one raw batch per call, by one of three ways of reading a table.

- full: every row; with change tracking it ends in a delta link.
- changes: what changed since a delta link, deletes included.
- window: rows whose `modifiedon` or `createdon` lies in a range; deletes are invisible to it.

`extract_scheduled` chooses among them. Nothing of a batch is visible before it is complete, so a call that failed or
was killed can simply be repeated; rows read twice are one row again in the warehouse.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opportunity_sync.convert import write_pages
from opportunity_sync.data_root import disk_errors
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.dataverse.errors import ChangeTrackingOffError, DeltaLinkExpiredError
from opportunity_sync.dataverse.metadata import LOOKUP_TARGET, TableMetadata, columns, table_metadata
from opportunity_sync.errors import DataRootError
from opportunity_sync.lake import Column, Lake, Manifest, Mode, WindowColumn, chained
from opportunity_sync.settings import Settings
from opportunity_sync.tables import Selection

log = logging.getLogger("opportunity_sync.extract")


@dataclass(frozen=True)
class _Source:
    """A table as it is now, and what the lake already has of it."""

    client: DataverseClient
    selection: Selection
    lake: Lake
    settings: Settings
    run_id: str
    organization_id: str
    metadata: TableMetadata
    columns: tuple[Column, ...]
    missing: tuple[str, ...]
    batches: tuple[Manifest, ...]
    """Oldest first."""

    @property
    def query(self) -> str:
        """The table with the columns to read."""
        return f"{self.metadata.entity_set}?$select={','.join(column.property for column in self.columns)}"


@dataclass(frozen=True)
class _Read:
    """What to read and what to note about it."""

    mode: Mode
    path: str
    tracked: bool = False
    previous_delta_link: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    window_by: WindowColumn = "modifiedon"
    sets_read_until: bool = False


def extract_full(
    client: DataverseClient, selection: Selection, lake: Lake, settings: Settings, run_id: str
) -> Manifest:
    """Read a whole table.

    Raises:
        DataverseError: the service refused, or gave no usable answer within the retry budget.
        ConfigurationError: a selected column never existed or cannot be read.
        DataRootError: the data root holds another organisation, or its disk is full.
        BatchRefusedError: a row does not fit the table's types or lacks its key.
        LakeError: a manifest is damaged.
    """
    return _full(_source(client, selection, lake, settings, run_id))


def extract_changes(
    client: DataverseClient, selection: Selection, lake: Lake, settings: Settings, run_id: str
) -> Manifest:
    """Read what changed since the lake's newest delta link, deletes included.

    Raises:
        DeltaLinkExpiredError: there is no link for these columns, or the service does not know it any more.
        OpportunitySyncError: as `extract_full`.
    """
    source = _source(client, selection, lake, settings, run_id)
    link = _usable_link(source)
    if link is None:
        raise DeltaLinkExpiredError(
            f"The lake holds no delta link of table {selection.table} for the columns selected now",
            action="Read the table in full",
        )
    return _changes(source, link)


def extract_window(
    client: DataverseClient,
    selection: Selection,
    lake: Lake,
    settings: Settings,
    run_id: str,
    *,
    start: datetime,
    end: datetime,
    by: WindowColumn = "modifiedon",
) -> Manifest:
    """Read the rows whose `modifiedon` (or `createdon`) lies in `[start, end)`; a time without zone is UTC.

    Raises:
        OpportunitySyncError: as `extract_full`.
    """
    source = _source(client, selection, lake, settings, run_id)
    return _window(source, _utc(start), _utc(end), by)


def extract_scheduled(
    client: DataverseClient, selection: Selection, lake: Lake, settings: Settings, run_id: str
) -> Manifest:
    """Read changes where a valid delta link exists, else the whole table.

    A table without change tracking is read in full once, then by overlapping windows of `modifiedon`.

    Raises:
        OpportunitySyncError: as `extract_full`.
    """
    source = _source(client, selection, lake, settings, run_id)
    try:
        if source.metadata.change_tracking:
            return _tracked(source)
    except ChangeTrackingOffError as error:
        log.warning("%s", error.what)
    return _untracked(source)


def _tracked(source: _Source) -> Manifest:
    link = _usable_link(source)
    if link is not None:
        try:
            return _changes(source, link)
        except DeltaLinkExpiredError as error:
            log.warning("%s; reading table %s in full", error.what, source.selection.table)
    elif source.batches:
        log.warning(
            "No delta link for the columns now selected of table %s; reading it in full", source.selection.table
        )
    return _full(source)


def _untracked(source: _Source) -> Manifest:
    log.warning(
        "Change tracking is off for table %s: rows are read by modifiedon, and deletes are only found by the reconcile "
        "run",
        source.selection.table,
    )
    last = next((batch for batch in reversed(source.batches) if batch.read_until), None)
    if last is None or last.read_until is None or not _same_columns(last, source):
        return _extract(source, _Read(mode="full", path=source.query, sets_read_until=True))
    overlap = timedelta(minutes=source.settings.window_overlap_minutes)
    return _window(source, last.read_until - overlap, None, "modifiedon", sets_read_until=True)


def _full(source: _Source) -> Manifest:
    tracked = source.metadata.change_tracking
    return _extract(source, _Read(mode="full", path=source.query, tracked=tracked, sets_read_until=not tracked))


def _changes(source: _Source, link: str) -> Manifest:
    return _extract(source, _Read(mode="changes", path=link, tracked=True, previous_delta_link=link))


def _window(
    source: _Source, start: datetime, end: datetime | None, by: WindowColumn, *, sets_read_until: bool = False
) -> Manifest:
    condition = f"{by}%20ge%20{_odata(start)}" + (f"%20and%20{by}%20lt%20{_odata(end)}" if end else "")
    return _extract(
        source,
        _Read(
            mode="window",
            path=f"{source.query}&$filter={condition}",
            window_start=start,
            window_end=end,
            window_by=by,
            sets_read_until=sets_read_until,
        ),
    )


def _source(client: DataverseClient, selection: Selection, lake: Lake, settings: Settings, run_id: str) -> _Source:
    batches = tuple(lake.batches(selection.table))
    organization_id = client.who_am_i().organization_id
    for batch in batches:
        if batch.organization_id != organization_id:
            raise DataRootError(
                f"{lake.path} holds organisation {batch.organization_id}, but the connection leads to organisation "
                f"{organization_id}",
                state="Nothing was read or changed",
                action="Point OPPORTUNITY_SYNC_DATA at another folder for this organisation, or correct the connection",
            )
    metadata = table_metadata(client, selection.table, selection.columns)
    known = {column.name for batch in batches for column in batch.columns}
    known.update(name for batch in batches for name in batch.missing_columns)  # so that old batches may go
    found, missing = columns(metadata, selection, known)
    for column in missing:
        log.warning(
            "Column %s of table %s is gone from Dynamics or can no longer be read; it stays empty",
            column,
            selection.table,
        )
    return _Source(
        client=client,
        selection=selection,
        lake=lake,
        settings=settings,
        run_id=run_id,
        organization_id=organization_id,
        metadata=metadata,
        columns=found,
        missing=missing,
        batches=batches,
    )


def _extract(source: _Source, read: _Read) -> Manifest:
    table = source.selection.table
    started = time.monotonic()
    log.info("Extracting table %s, mode %s", table, read.mode)
    annotations = (LOOKUP_TARGET,) if any(column.has_type for column in source.columns) else ()
    with disk_errors(source.lake.path), source.lake.new_batch(table, read.mode) as batch:
        written = write_pages(
            source.client.pages(
                read.path,
                page_size=source.settings.page_size,
                annotations=annotations,
                track_changes=read.tracked,
            ),
            table=table,
            key=source.selection.key,
            columns=source.columns,
            folder=batch.folder,
        )
        manifest = source.lake.commit(
            batch,
            Manifest(
                table=table,
                batch=batch.name,
                mode=read.mode,
                organization_id=source.organization_id,
                entity_set=source.metadata.entity_set,
                started_at=batch.started_at,
                finished_at=written.finished_at,
                window_start=read.window_start,
                window_end=read.window_end,
                window_by=read.window_by,
                pages=written.pages,
                rows=written.rows,
                deletes=written.deletes,
                previous_delta_link=read.previous_delta_link,
                delta_link=written.delta_link,
                read_until=batch.started_at if read.sets_read_until else None,
                columns=source.columns,
                missing_columns=source.missing,
                files=written.files,
                run_id=source.run_id,
            ),
        )
    seconds = time.monotonic() - started
    log.info(
        "Extracted table %s, mode %s: %d rows, %d deletes, %d pages in %.1f s (%.0f rows/s)",
        table,
        read.mode,
        manifest.rows,
        manifest.deletes,
        manifest.pages,
        seconds,
        manifest.rows / max(seconds, 1e-9),
    )
    return manifest


def _usable_link(source: _Source) -> str | None:
    """The newest delta link that can be continued, if its batch has today's columns."""
    usable = chained(source.batches)
    return usable[-1].delta_link if usable and _same_columns(usable[-1], source) else None


def _same_columns(batch: Manifest, source: _Source) -> bool:
    return _shape(batch.continued_columns or batch.columns) == _shape(source.columns)


def _shape(listed: Iterable[Column]) -> set[tuple[str, str, str, bool]]:
    """What a column made anew would differ in: then the values held so far are another column's."""
    return {(column.name, column.attribute_type, column.duckdb_type, column.has_type) for column in listed}


def _utc(time_: datetime) -> datetime:
    return time_.replace(tzinfo=UTC) if time_.tzinfo is None else time_.astimezone(UTC)


def _odata(time_: datetime) -> str:
    return time_.isoformat(timespec="microseconds" if time_.microsecond else "seconds").replace("+00:00", "Z")
