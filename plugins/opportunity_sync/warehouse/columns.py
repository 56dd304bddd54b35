"""Which columns a table has, of which types and with which labels: what the newest raw batch said of each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opportunity_sync.manifest import Manifest
from opportunity_sync.tables import CORE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger("opportunity_sync.warehouse")


def remember_columns(connection: DuckDBPyConnection, manifest: Manifest) -> None:
    """Make `current.<table>` hold the batch's columns; the newest batch decides a column's type and labels.

    A core column keeps the type that the models need, whatever its type in Dynamics: a value that does not fit it is
    empty.
    """
    table = manifest.table
    present = dict(
        connection.execute(
            "select column_name, data_type from duckdb_columns() where schema_name = 'current' and table_name = ?",
            [table],
        ).fetchall()
    )
    described = dict(
        connection.execute("select column_name, batch from meta.columns where table_name = ?", [table]).fetchall()
    )
    for column in manifest.columns:
        for name, kind in column.stored().items():
            if name not in present:
                connection.execute(f'alter table current.{table} add column "{name}" {kind}')
            elif present[name] == kind or manifest.batch < described.get(column.name, ""):
                continue
            elif column.name in CORE[table]:
                if {present[name], kind} != {"DATE", "TIMESTAMP"}:
                    log.warning(
                        "Column %s of table %s is of type %s in Dynamics; values that do not fit %s are empty",
                        name,
                        table,
                        column.attribute_type,
                        present[name],
                    )
            else:
                converted = f'set data type {kind} using try_cast("{name}" as {kind})'
                connection.execute(f'alter table current.{table} alter "{name}" {converted}')
    newer = [column for column in manifest.columns if manifest.batch > described.get(column.name, "")]
    if newer:
        connection.execute(
            "delete from meta.columns where table_name = ? and list_contains(?, column_name)",
            [table, [column.name for column in newer]],
        )
        _insert(
            connection,
            "meta.columns",
            [
                [
                    table,
                    column.name,
                    column.duckdb_type,
                    column.attribute_type,
                    column.has_type,
                    column.label,
                    column.description,
                    manifest.batch,
                ]
                for column in newer
            ],
        )
    _remember_choices(connection, manifest)


def _remember_choices(connection: DuckDBPyConnection, manifest: Manifest) -> None:
    """Keep the newest batch's label of every choice value."""
    known = {
        (column, code): batch
        for column, code, batch in connection.execute(
            "select column_name, code, batch from meta.choices where table_name = ?", [manifest.table]
        ).fetchall()
    }
    newer = [
        [manifest.table, column.name, code, label, manifest.batch]
        for column in manifest.columns
        for code, label in column.choices.items()
        if manifest.batch > known.get((column.name, code), "")
    ]
    if newer:
        connection.execute(
            "delete from meta.choices where table_name = ? and list_contains(?, column_name || ' ' || code)",
            [manifest.table, [f"{column} {code}" for _, column, code, *_ in newer]],
        )
        _insert(connection, "meta.choices", newer)


def _insert(connection: DuckDBPyConnection, relation: str, rows: list[list[Any]]) -> None:
    """Insert a few rows in one statement, which is what takes the time."""
    marks = ", ".join(f"({', '.join('?' for _ in row)})" for row in rows)
    connection.execute(f"insert into {relation} values {marks}", [value for row in rows for value in row])
