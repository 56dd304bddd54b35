"""Views over the current rows: `source.<table>` (live rows, selected columns), `extracted.<table>` and `staging.*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opportunity_sync.tables import CORE, CORE_CHOICES, READ_ORDER, TYPED_LOOKUPS, Selection
from opportunity_sync.warehouse.models import Model, in_schema

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHOICES = frozenset({"Picklist", "State", "Status"})
SYNC_FILTER = "new_synctomkto"


def create_views(
    connection: DuckDBPyConnection, selections: dict[str, Selection], models: dict[str, Model]
) -> dict[str, dict[str, str]]:
    """Create all views anew, in one transaction.

    Returns:
        Per Dataverse table the description of each additional column, by its name in the views.
    """
    described = {}
    connection.execute("begin")
    for model in in_schema(models, "staging"):
        connection.execute(f"drop view if exists {model.qualified}")
    for table in READ_ORDER:
        source, described[table] = _source(connection, table, selections[table])
        connection.execute(f"create or replace view source.{table} as {source}")
        connection.execute(f"create or replace view extracted.{table} as {_extracted(connection, table)}")
    for model in in_schema(models, "staging"):
        connection.execute(f"create view {model.qualified} as {model.sql}")
    connection.execute("commit")
    return described


def live_rows(table: str) -> str:
    """The rest of a `select`, from `from` on: the current rows of a table that count as alive (rules 1.2 and 1.7)."""
    return f"""current.{table} as rows
        left join deletes.{table} as deletes on deletes.id = rows.{next(iter(CORE[table]))}
        where
            (deletes.observed_at is null or rows._alive_at > deletes.observed_at)
            and rows._alive_at >= (
                select coalesce(max(full_read_at), timestamp '-infinity') from meta.batches
                where table_name = '{table}'
            )"""


def _source(connection: DuckDBPyConnection, table: str, selection: Selection) -> tuple[str, dict[str, str]]:
    """The text of view `source.<table>`, and the descriptions of additional columns."""
    metadata = {
        name: (kind, has_type, label, description)
        for name, kind, has_type, label, description in connection.execute(
            "select column_name, attribute_type, has_type, label, description from meta.columns where table_name = ?",
            [table],
        ).fetchall()
    }
    columns: list[str] = []
    described: dict[str, str] = {}

    def expose(expression: str, name: str, description: str = "") -> None:
        columns.append(f'{expression} as "{name}"')
        if description:
            described[name] = description

    for name in (*CORE[table], *selection.additional):
        is_core = name in CORE[table]
        if not is_core and name not in metadata:
            continue  # selected, but no batch has read it yet
        kind, has_type, label, description = metadata.get(name, ("", name in TYPED_LOOKUPS, "", ""))
        text = "" if is_core else f"{label or name}: {description}".removesuffix(": ")
        if kind in CHOICES or name in CORE_CHOICES:
            expose(f'rows."{name}"', f"{name}_code", text and f"{text} (value)")
            expose(_label(connection, table, name), name, text and f"{text} (label)")
        elif kind == "MultiSelectPicklist":
            expose(f'rows."{name}"', f"{name}_code", text and f"{text} (values, comma-separated)")
            expose(_labels(connection, table, name), name, text and f"{text} (labels, separated by semicolons)")
        else:
            expose(f'rows."{name}"', name, text)
            if has_type or (is_core and name in TYPED_LOOKUPS):
                expose(f'rows."{name}_type"', f"{name}_type", text and f"{text} (table it points to)")
    sync_filter = (
        f'and "{SYNC_FILTER}" is not false' if SYNC_FILTER in selection.columns and SYNC_FILTER in metadata else ""
    )
    return (
        f"""
        select {", ".join(columns)}, rows._batch, rows._extracted_at
        from {live_rows(table)}
            {sync_filter}
        """,
        described,
    )


def _extracted(connection: DuckDBPyConnection, table: str) -> str:
    """The columns that Dynamics had at the latest read of the table; for validation."""
    newest = connection.execute(
        "select columns from meta.batches where table_name = ? order by batch desc limit 1", [table]
    ).fetchall()
    names = newest[0][0] if newest else [next(iter(CORE[table]))]
    listed = ", ".join(f'"{name}"' for name in names)
    return f"select {listed} from current.{table}"


def _label(connection: DuckDBPyConnection, table: str, column: str) -> str:
    return _case(connection, table, column, f'rows."{column}"', "cast(null as varchar)")


def _labels(connection: DuckDBPyConnection, table: str, column: str) -> str:
    each = _case(connection, table, column, "try_cast(code as integer)", "code")
    return f"""array_to_string(list_transform(string_split(rows."{column}", ','), lambda code: {each}), '; ')"""


def _case(connection: DuckDBPyConnection, table: str, column: str, operand: str, otherwise: str) -> str:
    choices = connection.execute(
        "select code, label from meta.choices where table_name = ? and column_name = ? order by code", [table, column]
    ).fetchall()
    if not choices:
        return otherwise
    whens = " ".join("when {} then '{}'".format(code, label.replace("'", "''")) for code, label in choices)
    return f"case {operand} {whens} else {otherwise} end"
