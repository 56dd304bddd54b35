"""What a raw batch says about itself (`manifest.json`), and which batches can be continued by a delta link."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from opportunity_sync import __version__

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

    def stored(self) -> dict[str, str]:
        """Names and DuckDB types in the Parquet files: the column itself and, with `has_type`, its target table."""
        return {self.name: self.duckdb_type} | ({f"{self.name}_type": "VARCHAR"} if self.has_type else {})


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
    batch: str | None = None
    """The sweep's batch, where a batch of mode `compacted` carries its report."""


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
    continued_columns: tuple[Column, ...] | None = None
    """The columns that `delta_link` or `read_until` continues, where they are not `columns` (mode `compacted`)."""
    missing_columns: tuple[str, ...] = ()
    """Selected columns that Dynamics no longer has."""
    files: tuple[DataFile, ...]
    run_id: str
    pipeline_version: str = __version__

    @property
    def full_read_began(self) -> datetime | None:
        """When the newest full read that this batch holds began; None when it holds none."""
        return self.started_at if self.mode == "full" else self.full_read_at


def chained(batches: Iterable[Manifest]) -> list[Manifest]:
    """The batches whose delta link can be continued, oldest first.

    All that each builds on, back to a full read, is there. A link from before change tracking was off is not among
    them: what was deleted meanwhile is never reported.
    """
    found: list[Manifest] = []
    links = set[str]()
    for batch in batches:
        if batch.read_until and not batch.delta_link:
            found, links = [], set()
        is_base = batch.mode == "full" or (batch.mode == "compacted" and batch.previous_delta_link is None)
        if batch.delta_link and (is_base or batch.previous_delta_link in links):
            found.append(batch)
            links.add(batch.delta_link)
    return found
