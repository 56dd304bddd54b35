"""Compaction: the old raw batches of a table become one, and no release changes.

What is merged is found by applying the batches with the warehouse's own code to a private file. Rows that can never be
live again are left out, and with them the personal data of people deleted in Dynamics; which ids were deleted stays.

The new batch is written aside and renamed as a whole; from then on nobody lists the batches it replaces, and only then
are they removed. A compaction that is killed before leaves everything as it was; one that is killed after is finished
by whatever writes the next batch of the table.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from opportunity_sync.data_root import disk_errors, open_data_root, warehouse_lock
from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Batch, Column, DataFile, Lake, Manifest, Reconciliation, chained, data_file, started
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER
from opportunity_sync.warehouse.apply import apply_batch
from opportunity_sync.warehouse.state import connect, create
from opportunity_sync.warehouse.views import live_rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PARQUET = "format parquet, compression zstd"

log = logging.getLogger("opportunity_sync.compact")


@dataclass(frozen=True)
class Compaction:
    """What compaction did to one table."""

    table: str
    batches_before: int
    batches_after: int
    bytes_before: int
    bytes_after: int


def compact(settings: Settings, run_id: str, now: datetime | None = None) -> list[Compaction]:
    """Merge the raw batches of each table that are older than `OPPORTUNITY_SYNC_RAW_DAYS` into one.

    The newest batch of a table is never merged, and a single old one stays as it is.

    Returns:
        One entry per table, in the order they are read.

    Raises:
        LakeError: a batch to merge is damaged; that table and those after it were left as they were.
        DataRootError: the data root is of a newer version or in use for too long, or its disk is full.
    """
    root = open_data_root(settings.data)
    lake = Lake(root.raw)
    before = (now or datetime.now(UTC)) - timedelta(days=settings.raw_days)
    log.info("compact: started, batches begun before %s", before.isoformat(timespec="seconds"))
    with disk_errors(root.path), warehouse_lock(root):
        done = [_compact_table(settings, lake, table, before, run_id) for table in READ_ORDER]
    log.info(
        "compact: finished, %d batches became %d, %d bytes became %d",
        sum(each.batches_before for each in done),
        sum(each.batches_after for each in done),
        sum(each.bytes_before for each in done),
        sum(each.bytes_after for each in done),
    )
    return done


def _compact_table(settings: Settings, lake: Lake, table: str, before: datetime, run_id: str) -> Compaction:
    lake.remove_leftovers(table)
    batches = lake.batches(table)
    merged = _old(batches, before, lake.being_written(table))
    bytes_before = _bytes(batches)
    if len(merged) < 2:
        log.info("compact: %s has nothing to merge: %d batches of %d bytes", table, len(batches), bytes_before)
        return Compaction(table, len(batches), len(batches), bytes_before, bytes_before)
    with lake.new_batch(table, "compacted", in_place_of=merged[-1].batch) as batch:
        files = _write(settings, lake, batch, merged)
        compacted = lake.commit(batch, _manifest(batch, merged, batches[len(merged) :], files, run_id))
    lake.remove_leftovers(table)
    left = (compacted, *batches[len(merged) :])
    log.info(
        "compact: %s: %d batches of %d bytes became %d of %d bytes; %d rows and %d deletes are in %s",
        table,
        len(batches),
        bytes_before,
        len(left),
        _bytes(left),
        compacted.rows,
        compacted.deletes,
        compacted.batch,
    )
    return Compaction(table, len(batches), len(left), bytes_before, _bytes(left))


def _old(batches: Sequence[Manifest], before: datetime, being_written: Sequence[str]) -> list[Manifest]:
    """The oldest batches without a gap: one that is still being written may belong among those after it."""
    limit = min(being_written, default=None)
    old: list[Manifest] = []
    for batch in batches[:-1]:
        if started(batch.batch) >= before or (limit is not None and batch.batch > limit):
            break
        old.append(batch)
    organisations = {batch.organization_id for batch in old}
    if len(organisations) > 1:
        raise LakeError(
            f"The raw batches of table {old[0].table} are of organisations {', '.join(sorted(organisations))}",
            state="They were left as they are",
            action="Remove the folders that do not belong here: each manifest.json names its organisation",
        )
    return old


def _bytes(batches: Iterable[Manifest]) -> int:
    return sum(file.bytes for batch in batches for file in batch.files)


def _write(settings: Settings, lake: Lake, batch: Batch, merged: Sequence[Manifest]) -> list[DataFile]:
    """Apply batches to a private warehouse, and write its rows and deletes into the folder of the new batch."""
    work = batch.folder / "work"  # inside, so that it goes with the folder when the process dies
    work.mkdir()
    with closing(connect(work / "warehouse.duckdb", settings)) as connection:
        create(connection)
        for manifest in merged:
            apply_batch(connection, lake, manifest, log_keys=False)
        names = [name for column in _columns(merged) for name in column.stored()]
        listed = ", ".join(f'rows."{name}"' for name in [*names, "_extracted_at", "_page", "_batch", "_alive_at"])
        written = [
            _copy(connection, batch, "rows-0001", f"select {listed} from {live_rows(batch.table)}"),
            _copy(connection, batch, "deletes", f"select id, observed_at as _observed_at from deletes.{batch.table}"),
        ]
    shutil.rmtree(work)
    return [file for file in written if file is not None]


def _copy(connection: DuckDBPyConnection, batch: Batch, name: str, query: str) -> DataFile | None:
    """Write what a query gives as a Parquet file; None when it gives nothing."""
    path = batch.folder / f"{name}.parquet"
    escaped = str(path).replace("'", "''")
    ((rows,),) = connection.execute(f"copy ({query}) to '{escaped}' ({PARQUET})").fetchall()
    if not rows:
        path.unlink()
        return None
    return data_file(path, rows)


def _manifest(
    batch: Batch, merged: Sequence[Manifest], later: Sequence[Manifest], files: Sequence[DataFile], run_id: str
) -> Manifest:
    """What the new batch says: all that the merged ones together said to whoever extracts, applies or looks."""
    newest = merged[-1]
    continues = [each for each in merged if each.delta_link or each.read_until]
    link, until = _continued(merged, later)
    columns = _columns(merged)
    continued_columns = next((_continued_columns(each) for each in (link, until) if each), columns)
    return Manifest(
        table=batch.table,
        batch=batch.name,
        mode=batch.mode,
        organization_id=newest.organization_id,
        entity_set=newest.entity_set,
        started_at=max(each.started_at for each in continues or merged),
        finished_at=max(each.finished_at for each in merged),
        reconciliation=_newest_reconciliation(merged),
        full_read_at=max((each.full_read_began for each in merged if each.full_read_began), default=None),
        replaces=tuple(each.batch for each in merged),
        pages=sum(each.pages for each in merged),
        rows=sum(file.rows for file in files if file.name.startswith("rows")),
        deletes=sum(file.rows for file in files if file.name.startswith("deletes")),
        previous_delta_link=link.previous_delta_link if link and link not in chained(merged) else None,
        delta_link=link.delta_link if link else None,
        read_until=until.read_until if until else None,
        columns=columns,
        continued_columns=None if continued_columns == columns else continued_columns,
        missing_columns=newest.missing_columns,
        files=tuple(files),
        run_id=run_id,
    )


def _continued(merged: Sequence[Manifest], later: Sequence[Manifest]) -> tuple[Manifest | None, Manifest | None]:
    """The merged batches whose delta link and whose `read_until` the new batch carries.

    The link is the one on which later batches build, else the newest that can be continued. Where the two were read
    with different columns, only the newer one can be told with its columns; without the other a table whose change
    tracking is switched is read in full.
    """
    chain = chained([*merged, *later])
    link = chain[-1] if chain else None
    while link is not None and link not in merged:
        earlier = chain[: chain.index(link)]
        link = next((each for each in reversed(earlier) if each.delta_link == link.previous_delta_link), None)
    link = link or next(reversed(chained(merged)), None)
    until = next((each for each in reversed(merged) if each.read_until), None)
    if link is None and until is None:
        link = next((each for each in reversed(merged) if each.delta_link), None)
    if link and until and _continued_columns(link) != _continued_columns(until):
        return (link, None) if link.batch > until.batch else (None, until)
    return link, until


def _continued_columns(manifest: Manifest) -> tuple[Column, ...]:
    return manifest.continued_columns or manifest.columns


def _newest_reconciliation(merged: Sequence[Manifest]) -> Reconciliation | None:
    for each in reversed(merged):
        if each.reconciliation:
            return msgspec.structs.replace(each.reconciliation, batch=each.reconciliation.batch or each.batch)
    return None


def _columns(merged: Iterable[Manifest]) -> tuple[Column, ...]:
    """Every column of some batches as the newest of them describes it, with every choice as the newest labels it."""
    found: dict[str, Column] = {}
    for manifest in merged:
        for column in manifest.columns:
            known = found[column.name].choices if column.name in found else {}
            found[column.name] = msgspec.structs.replace(column, choices=known | column.choices)
    return tuple(found.values())
