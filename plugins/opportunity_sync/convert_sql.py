"""The SQL that reads rows from spooled pages: every value as text, then cast strictly.

Read as a typed column, DuckDB would take 3.7 for the integer 4, "yes" for true, and ignore the offset of a time.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from opportunity_sync.dataverse.metadata import LOOKUP_TARGET
from opportunity_sync.lake import Column

REQUIRED = frozenset({"versionnumber"})
"""Columns besides the key that every row must have: without it rows of one key cannot be ordered."""

IS_ROW = """("@odata.context" is null or not suffix("@odata.context", '/$deletedEntity'))"""
"""False for what stands for a deleted row in an answer of change tracking."""

_GUARDS = {
    "INTEGER": "not contains({text}, '.')",
    "BIGINT": "not contains({text}, '.')",
    "BOOLEAN": "{text} in ('true', 'false')",
    "TIMESTAMP": "suffix({text}, 'Z')",
    "DATE": "(length({text}) = 10 or suffix({text}, 'T00:00:00Z'))",
}
"""What must hold of a text, by type, beyond what the cast checks."""


def read_rows(columns: Iterable[Column], paths: Iterable[Path]) -> str:
    """Relation of the rows in some pages: properties as text under their own names, and `_file`."""
    properties = ["@odata.context"]
    for column in columns:
        properties.append(column.property)
        if column.has_type:
            properties.append(_target(column))
    listed = ", ".join(f"{name(each)}: 'VARCHAR'" for each in properties)
    return f"read_json({_files(paths)}, format = 'array', columns = {{{listed}}}, filename = '_file')"


def read_deletes(path: Path) -> str:
    """Relation of the ids that a page reports as deleted."""
    return f"""(
        select case when id is null then error('deleted row without id') else cast(id as uuid) end as id
        from read_json({_files([path])}, format = 'array', columns = {{id: 'VARCHAR', "@odata.context": 'VARCHAR'}})
        where not {IS_ROW}
    )"""


def select_list(columns: Iterable[Column], key: Column) -> str:
    """The columns of `rows-*.parquet`; evaluating it fails on a value that does not fit."""
    values = []
    for column in columns:
        values.append(f"{_strict(column, key)} as {name(column.name)}")
        if column.has_type:
            values.append(f"{name(_target(column))} as {name(f'{column.name}_type')}")
    return ", ".join(values)


def is_refused(column: Column, key: Column) -> str:
    """Condition that `select_list` fails on this column."""
    text = name(column.property)
    cast = f"try_cast({text} as {column.duckdb_type}) is not null"
    refused = f"{text} is not null and not ({_guard(column)} and {cast})"
    return f"{text} is null or ({refused})" if _is_required(column, key) else refused


def name(identifier: str) -> str:
    """A quoted identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: object) -> str:
    """A quoted text."""
    return "'" + str(value).replace("'", "''") + "'"


def _strict(column: Column, key: Column) -> str:
    value, guard = name(column.property), _guard(column)
    cast = value if column.duckdb_type == "VARCHAR" else f"cast({value} as {column.duckdb_type})"
    if _is_required(column, key):
        return f"case when {value} is not null and {guard} then {cast} else error('refused') end"
    return cast if guard == "true" else f"case when {value} is null or {guard} then {cast} else error('refused') end"


def _guard(column: Column) -> str:
    return _GUARDS.get(column.duckdb_type, "true").format(text=name(column.property))


def _is_required(column: Column, key: Column) -> bool:
    return column.name == key.name or column.name in REQUIRED


def _target(column: Column) -> str:
    return f"{column.property}@{LOOKUP_TARGET}"


def _files(paths: Iterable[Path]) -> str:
    """A list of files for DuckDB, which would take `*`, `?` and `[` in a path for patterns."""
    return "[" + ", ".join(text(glob.escape(str(path))) for path in paths) + "]"
