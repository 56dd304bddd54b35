"""Reconciliation: compare a table with Dynamics by key and version, and repair what differs by one raw batch.

The order of steps is what makes it safe beside writers and beside other runs:

1. list the key and version of every row in Dynamics;
2. read the table's changes as the hourly run does, so that what was written during the listing is known;
3. take from the warehouse which rows count as alive, in which version, and when each was last seen;
4. ask Dynamics again, by key, for every row that differs. What comes back is written as rows;
5. a row known here that does not come back is written as deleted *as of the moment it was last seen alive in step 3*.

So a row missing from the listing is never believed to be gone, and a delete written here overrules only what was known
when step 3 was taken: whatever reads the row alive afterwards wins, in whichever order batches are applied. The batch
becomes visible as a whole at the very end, so a sweep that fails or is killed changes nothing.
`docs/decisions/0010-reconciliation.md` says why it is done in this order.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from opportunity_sync.comparison import asked_in, compare, counts, note_answers, write_gone
from opportunity_sync.convert import Written, write_pages
from opportunity_sync.data_root import disk_errors, open_data_root
from opportunity_sync.dataverse.client import DataverseClient, Page
from opportunity_sync.dataverse.errors import ChangeTrackingOffError
from opportunity_sync.dataverse.metadata import LOOKUP_TARGET, table_metadata
from opportunity_sync.errors import DriftError, TooManyGoneError
from opportunity_sync.extract import extract_scheduled
from opportunity_sync.lake import Batch, Column, Lake, Manifest, Reconciliation, data_file
from opportunity_sync.settings import Settings
from opportunity_sync.tables import Selection
from opportunity_sync.warehouse.known import write_known_rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

IDS_PER_REQUEST = 50
"""Keys asked for at once. The address is 4 kB long with them, where Dataverse takes 32 kB."""
FEW_GONE = 20
"""So many rows of a table may always be gone, whatever share they are."""
MEMORY_LIMIT = "256MB"
"""Of DuckDB while comparing; more goes to disk."""

log = logging.getLogger("opportunity_sync.reconcile")


@dataclass(frozen=True)
class _Sweep:
    """One table's sweep, once its differences are known."""

    client: DataverseClient
    connection: DuckDBPyConnection
    """The tables of the comparison, see `comparison.py`."""
    selection: Selection
    page_size: int
    changes: Manifest
    """The changes read after the listing; it also says which columns the table has now."""
    requests: int
    """How many requests it takes to ask for all rows that differ."""
    most_gone: int | None
    """How many rows may be gone; None: any number."""


def reconcile(
    client: DataverseClient, selection: Selection, settings: Settings, run_id: str, *, accept_gone: bool = False
) -> Manifest:
    """Compare one table with Dynamics and write the repairs as a raw batch of mode `reconcile`.

    Args:
        client: session with the organisation.
        selection: the table and its columns.
        settings: settings of the data root.
        run_id: who asked.
        accept_gone: take rows out however many are gone.

    Returns:
        The batch's manifest; its `reconciliation` says what was found. A batch is also written when nothing was.

    Raises:
        TooManyGoneError: so many rows are gone that lost read rights are the likelier reason; nothing is deleted.
        OpportunitySyncError: as `extract_full` and `write_known_rows`.
    """
    import duckdb

    table = selection.table
    started = time.monotonic()
    log.info("reconcile: %s started", table)
    lake = Lake(open_data_root(settings.data).raw)
    with disk_errors(lake.path), lake.new_batch(table, "reconcile") as batch:
        aside = batch.folder / "aside"
        aside.mkdir()
        listed = _list_rows(client, selection, settings, aside)
        changes = extract_scheduled(client, selection, lake, settings, run_id)
        known = write_known_rows(settings, table, aside / "known.parquet")
        config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": MEMORY_LIMIT, "threads": "2"}
        with duckdb.connect(str(aside / "compare.duckdb"), config=config) as connection:
            files = [aside / file.name for file in listed.files]
            sweep = _Sweep(
                client=client,
                connection=connection,
                selection=selection,
                page_size=settings.page_size,
                changes=changes,
                requests=compare(
                    connection, files, aside / "known.parquet", selection.key, per_request=IDS_PER_REQUEST
                ),
                most_gone=None if accept_gone else max(FEW_GONE, int(settings.gone_share * known)),
            )
            manifest = _repair(sweep, batch, listed, run_id)
        shutil.rmtree(aside)
        manifest = lake.commit(batch, manifest)
    found = manifest.reconciliation
    assert found is not None  # noqa: S101  (this is what mode `reconcile` is)
    log.info(
        "reconcile: %s: %d checked, %d missing, %d gone, %d stale, %d repaired in %.1f s",
        table,
        found.checked,
        found.missing,
        found.gone,
        found.stale,
        found.repaired,
        time.monotonic() - started,
    )
    return manifest


def check_drift(found: Mapping[str, Reconciliation], drift_share: float) -> None:
    """Log what the sweeps of a run found, and object to more drift than is normal.

    Raises:
        DriftError: more than `drift_share` of a table's rows were missing, gone or stale.
    """
    drifted = []
    for table, report in found.items():
        text = (
            f"{table}: {report.missing} missing, {report.gone} gone and {report.stale} stale of {report.checked} rows"
        )
        log.info("reconcile: %s, repaired %d", text, report.repaired)
        if report.missing + report.gone + report.stale > drift_share * max(report.checked, 1):
            drifted.append(text)
    if drifted:
        raise DriftError(
            f"More than {drift_share:.2%} of a table had drifted from Dynamics: {'; '.join(drifted)}",
            state="All of it is repaired, and published by this run",
            action="Find out why changes get lost: see Drift in docs/runbook.md",
        )


def _list_rows(client: DataverseClient, selection: Selection, settings: Settings, folder: Path) -> Written:
    """Write key and version of every row as Parquet.

    With change tracking the read is a tracked one, only because its last page must then carry a delta link: a page that
    lost its next link is an error, not the end, and so is a read that sees only part of the rows for want of rights.
    """
    metadata = table_metadata(client, selection.table, ())
    columns = (
        Column(name=selection.key, attribute_type="Uniqueidentifier", duckdb_type="UUID", property=selection.key),
        Column(name="versionnumber", attribute_type="BigInt", duckdb_type="BIGINT", property="versionnumber"),
    )
    path = f"{metadata.entity_set}?$select={','.join(column.property for column in columns)}"

    def read(*, tracked: bool) -> Written:
        pages = client.pages(path, page_size=settings.page_size, track_changes=tracked)
        return write_pages(pages, table=selection.table, key=selection.key, columns=columns, folder=folder)

    if not metadata.change_tracking:
        return read(tracked=False)
    try:
        return read(tracked=True)
    except ChangeTrackingOffError as error:  # said at the first page, so nothing is written yet
        log.warning("%s", error.what)
        return read(tracked=False)


def _repair(sweep: _Sweep, batch: Batch, listed: Written, run_id: str) -> Manifest:
    """Ask for every row that differs, and write what follows from the answers; returns the manifest to commit."""
    changes, key = sweep.changes, sweep.selection.key
    answers = listed
    if sweep.requests:
        answers = write_pages(_ask(sweep), table=batch.table, key=key, columns=changes.columns, folder=batch.folder)
    rows = answers.files if sweep.requests else ()
    note_answers(sweep.connection, [batch.folder / file.name for file in rows], key)
    deletes = batch.folder / "deletes.parquet"
    gone = write_gone(sweep.connection, deletes)
    checked, missing, stale = counts(sweep.connection)
    return Manifest(
        table=batch.table,
        batch=batch.name,
        mode="reconcile",
        organization_id=changes.organization_id,
        entity_set=changes.entity_set,
        started_at=batch.started_at,
        finished_at=answers.finished_at,
        pages=listed.pages + (answers.pages if sweep.requests else 0),
        rows=sum(file.rows for file in rows),
        deletes=gone,
        columns=changes.columns,
        missing_columns=changes.missing_columns,
        files=(*rows, data_file(deletes, gone)) if gone else rows,
        run_id=run_id,
        reconciliation=Reconciliation(
            swept_at=batch.started_at,
            checked=checked,
            missing=missing,
            gone=gone,
            stale=stale,
            repaired=missing + gone + stale,
        ),
    )


def _ask(sweep: _Sweep) -> Iterator[Page]:
    """Pages with all selected columns of the rows that differ, numbered through."""
    table, key, columns = sweep.selection.table, sweep.selection.key, sweep.changes.columns
    query = f"{sweep.changes.entity_set}?$select={','.join(column.property for column in columns)}&$filter="
    annotations = (LOOKUP_TARGET,) if any(column.has_type for column in columns) else ()
    number = gone = 0
    for request in range(sweep.requests):
        asked = asked_in(sweep.connection, request)
        came_back: set[UUID] = set()
        condition = "%20or%20".join(f"{key}%20eq%20{row_id}" for row_id in asked)
        for page in sweep.client.pages(query + condition, page_size=sweep.page_size, annotations=annotations):
            number += 1
            came_back.update(_keys(page, key))
            yield replace(page, number=number)
        gone += sum(is_known and row_id not in came_back for row_id, is_known in asked.items())
        if sweep.most_gone is not None and gone > sweep.most_gone:
            raise TooManyGoneError(
                f"More than {sweep.most_gone} rows of table {table} that are known here are gone from Dynamics, which "
                f"looks like lost read rights or a mass deletion",
                state="None of them was taken out, and nothing of this sweep was kept; earlier data stays live",
                action="Check that the sync's security role still reads the whole table; if the rows were deleted on "
                "purpose, trigger opportunity_reconcile with accept_gone",
            )


def _keys(page: Page, key: str) -> Iterator[UUID]:
    """Keys of a page's rows; a row without one is refused when the page is converted."""
    for row in msgspec.json.decode(page.rows, type=list[dict[str, msgspec.Raw]]):
        if key in row:
            yield msgspec.json.decode(row[key], type=UUID)
