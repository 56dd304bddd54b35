"""The private warehouse file: opening it, its bookkeeping, and when it must be rebuilt from the raw batches."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake
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
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": settings.memory_limit,
        "temp_directory": str(path.parent / "spill"),
        "preserve_insertion_order": False,
        "max_vacuum_tasks": 0,
    }
    reason = "there is none"
    connection = None
    if path.exists():
        try:
            connection = duckdb.connect(str(path), config=config)
            reason = _unfit(connection, lake)
        except duckdb.Error as error:
            reason = f"the file cannot be used ({type(error).__name__})"
    if reason and connection:
        connection.close()
    if reason or connection is None:
        log.info("warehouse: rebuilding from the raw batches, because %s", reason)
        for leftover in (path, path.with_suffix(".duckdb.wal")):
            leftover.unlink(missing_ok=True)
        connection = duckdb.connect(str(path), config=config)
        _create(connection)
    try:
        yield connection
    finally:
        connection.close()


def _unfit(connection: DuckDBPyConnection, lake: Lake) -> str:
    """Why the open warehouse cannot be continued; empty when it can."""
    found = connection.execute("select format from meta.warehouse").fetchall()
    if found != [(FORMAT,)]:
        return f"its format is {found} and this version needs {FORMAT}"
    for table in READ_ORDER:
        applied = connection.execute("select batch from meta.batches where table_name = ?", [table]).fetchall()
        if gone := {batch for (batch,) in applied} - set(lake.names(table)):
            return f"{len(gone)} batches of table {table} that it holds are no longer in the lake"
    return ""


def _create(connection: DuckDBPyConnection) -> None:
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


def warehouse_id(connection: DuckDBPyConnection) -> str:
    """Identity of this warehouse: a rebuilt one counts its batches anew."""
    (found,) = connection.execute("select warehouse_id from meta.warehouse").fetchall()
    return str(found[0])


def sequence(connection: DuckDBPyConnection) -> int:
    """Number of raw batches applied."""
    (found,) = connection.execute("select coalesce(max(sequence), 0) from meta.batches").fetchall()
    return int(found[0])
