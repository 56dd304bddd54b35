"""The private warehouse file: opening it, its bookkeeping, and when it must be rebuilt from the raw batches."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CORE, READ_ORDER, TYPED_LOOKUPS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORMAT = 2
"""Layout version of the warehouse file; another one is rebuilt from the raw batches."""

BOOKKEEPING = """
create schema meta;
create table meta.warehouse (format integer, warehouse_id varchar);
create table meta.batches (
    table_name varchar, batch varchar, mode varchar, sequence integer, started_at timestamp, finished_at timestamp,
    rows bigint, deletes bigint, continues boolean, touches_all boolean, columns varchar[], full_read_at timestamp
);
create table meta.columns (
    table_name varchar, column_name varchar, duckdb_type varchar, attribute_type varchar, has_type boolean,
    label varchar, description varchar, batch varchar
);
create table meta.choices (table_name varchar, column_name varchar, code integer, label varchar, batch varchar);
create table meta.reconciliations (
    table_name varchar, batch varchar, swept_at timestamp, checked bigint, missing bigint, gone bigint, stale bigint,
    repaired bigint
);
create table meta.changed_keys (sequence integer, table_name varchar, key uuid);
create schema current;
create schema deletes;
create schema source;
create schema extracted;
create schema staging;
"""

log = logging.getLogger("opportunity_sync.warehouse")


@contextmanager
def open_warehouse(root: DataRoot, settings: Settings, lake: Lake) -> Iterator[DuckDBPyConnection]:
    """Open the warehouse for writing; rebuild it first when it does not fit the raw batches.

    The caller holds `data_root.warehouse_lock`.
    """
    import duckdb

    path = root.warehouse
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = "there is none"
    connection = None
    if path.exists():
        try:
            connection = connect(path, settings)
            reason = _unfit(connection, lake)
        except duckdb.Error as error:
            reason = f"the file cannot be used ({type(error).__name__})"
    if reason and connection:
        connection.close()
    if reason or connection is None:
        log.info("warehouse: rebuilding from the raw batches, because %s", reason)
        for leftover in (path, path.with_suffix(".duckdb.wal")):
            leftover.unlink(missing_ok=True)
        connection = connect(path, settings)
        create(connection)
    try:
        yield connection
    finally:
        connection.close()


def connect(path: Path, settings: Settings) -> DuckDBPyConnection:
    """Open a warehouse file for writing; what does not fit into memory spills beside it."""
    import duckdb

    return duckdb.connect(
        str(path),
        config={
            "memory_limit": settings.memory_limit,
            "temp_directory": str(path.parent / "spill"),
            "preserve_insertion_order": False,
            "max_vacuum_tasks": 0,
        },
    )


def _unfit(connection: DuckDBPyConnection, lake: Lake) -> str:
    """Why the open warehouse cannot be continued; empty when it can."""
    found = connection.execute("select format from meta.warehouse").fetchall()
    if found != [(FORMAT,)]:
        return f"its format is {found} and this version needs {FORMAT}"
    for table in READ_ORDER:
        applied = connection.execute("select batch from meta.batches where table_name = ?", [table]).fetchall()
        if gone := {batch for (batch,) in applied} - set(lake.names(table)) - lake.replaced(table):
            return f"{len(gone)} batches of table {table} that it holds are no longer in the lake"
    return ""


def create(connection: DuckDBPyConnection) -> None:
    """Lay out an empty warehouse file."""
    connection.execute("begin")
    connection.execute(BOOKKEEPING)
    connection.execute("insert into meta.warehouse values (?, ?)", [FORMAT, str(uuid.uuid4())])
    for table, columns in CORE.items():
        types = dict(columns)
        types.update({f"{name}_type": "VARCHAR" for name in columns if name in TYPED_LOOKUPS})
        listed = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        connection.execute(
            f"create table current.{table} "
            f"({listed}, _extracted_at timestamp, _page integer, _batch varchar, _alive_at timestamp)"
        )
        connection.execute(f"create table deletes.{table} (id uuid, observed_at timestamp)")
    connection.execute("commit")


@contextmanager
def transaction(connection: DuckDBPyConnection) -> Iterator[None]:
    """All that is executed in the body, or none of it."""
    connection.execute("begin")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def warehouse_id(connection: DuckDBPyConnection) -> str:
    """Identity of this warehouse: a rebuilt one counts its batches anew."""
    (found,) = connection.execute("select warehouse_id from meta.warehouse").fetchall()
    return str(found[0])


def note_batch(connection: DuckDBPyConnection, manifest: Manifest, number: int, *, touches_all: bool) -> None:
    """Write down that a batch is applied, as the `number`th; `touches_all`: its keys are not logged one by one."""
    full_read_at = manifest.full_read_began
    connection.execute(
        "insert into meta.batches values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            manifest.table,
            manifest.batch,
            manifest.mode,
            number,
            naive_utc(manifest.started_at),
            naive_utc(manifest.finished_at),
            manifest.rows,
            manifest.deletes,
            manifest.delta_link is not None or manifest.read_until is not None,
            touches_all,
            [column.name for column in manifest.columns],
            naive_utc(full_read_at) if full_read_at else None,
        ],
    )


def naive_utc(moment: datetime) -> datetime:
    """A moment as DuckDB's TIMESTAMP holds it here: UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def sequence(connection: DuckDBPyConnection) -> int:
    """Number of raw batches applied."""
    (found,) = connection.execute("select coalesce(max(sequence), 0) from meta.batches").fetchall()
    return int(found[0])
