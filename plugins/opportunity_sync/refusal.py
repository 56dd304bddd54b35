"""Why pages were refused: which column of which row on which page. Slow, but only asked when something is wrong.

Messages name the row's key, never its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from opportunity_sync.convert_sql import IS_ROW, is_refused, name, read_deletes, read_rows
from opportunity_sync.errors import BatchRefusedError
from opportunity_sync.lake import Column

if TYPE_CHECKING:
    import duckdb


def refusal(
    connection: duckdb.DuckDBPyConnection,
    pages: Sequence[tuple[int, Path]],
    table: str,
    columns: Sequence[Column],
    key: Column,
) -> BatchRefusedError:
    """The error for pages that could not be converted.

    Args:
        connection: where to look.
        pages: number and file of each page.
        table: Dataverse logical name.
        columns: what was to be extracted.
        key: one of `columns`.
    """
    import duckdb

    for number, path in pages:
        try:
            found = _first_refused(connection, path, columns, key)
            connection.execute(f"select count(id) from {read_deletes(path)}")
        except (duckdb.ConversionException, duckdb.InvalidInputException):
            return _refused(f"Table {table}, page {number}: its rows cannot be read")
        if found:
            return _refused(f"Table {table}, page {number}, {found}")
    return _refused(f"Table {table}, pages {pages[0][0]} to {pages[-1][0]}: the rows cannot be read")


def refuse_nested(number: int, path: Path, table: str, columns: Sequence[Column], key: Column) -> None:
    """Refuse an object or array where a value should be: DuckDB would take its JSON for a text.

    Args:
        number: of the page.
        path: file of the page.
        table: Dataverse logical name.
        columns: what is extracted.
        key: one of `columns`.

    Raises:
        BatchRefusedError: there is one.
    """
    rows = msgspec.json.decode(path.read_bytes(), type=list[dict[str, msgspec.Raw]])
    for position, row in enumerate(rows, start=1):
        for column in columns:
            if column.property in row and bytes(memoryview(row[column.property])[:1]) in (b"{", b"["):
                shown = bytes(row[key.property]).decode().strip('"') if key.property in row else None
                found = _describe(column, None if column is key else shown, position, is_missing=False)
                raise _refused(f"Table {table}, page {number}, {found}")


def _first_refused(
    connection: duckdb.DuckDBPyConnection, path: Path, columns: Sequence[Column], key: Column
) -> str | None:
    for column in sorted(columns, key=lambda each: each is not key):
        row = connection.execute(
            f"""
            with numbered as (select *, row_number() over () as position from {read_rows(columns, [path])})
            select {name(key.property)}, {name(column.property)} is null, position
            from numbered
            where {IS_ROW} and ({is_refused(column, key)})
            order by position
            limit 1
            """
        ).fetchone()
        if row:
            return _describe(column, None if column is key else row[0], row[2], is_missing=bool(row[1]))
    return None


def _describe(column: Column, key_value: str | None, position: int, *, is_missing: bool) -> str:
    row = f"row {key_value}" if key_value else f"row number {position}"
    what = "is missing" if is_missing else f"does not fit type {column.duckdb_type}"
    return f"{row}: column {column.name} ({column.attribute_type}) {what}"


def _refused(what: str) -> BatchRefusedError:
    return BatchRefusedError(
        what,
        state="The whole batch was refused; earlier data stays live",
        action="Correct the row in Dynamics, or take the column out of include/tables.yaml; then run again",
    )
