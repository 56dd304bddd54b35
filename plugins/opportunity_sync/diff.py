"""What changed between two releases, by key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.errors import ReleaseError
from opportunity_sync.release import MAIN_TABLES
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def changes(settings: Settings, before: Path, after: Path) -> dict[str, dict[str, int]]:
    """Count the rows that differ between two DuckDB files of releases.

    A row is updated when any column that both releases have differs; a new column alone changes no row.

    Returns:
        Per table the number of rows `inserted`, `updated` and `deleted`.

    Raises:
        ReleaseError: a file is missing or is no release.
    """
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": settings.memory_limit,
        "temp_directory": str(settings.data / "warehouse" / "spill"),
    }
    with duckdb.connect(":memory:", config=config) as connection:
        try:
            for name, path in (("before", before), ("after", after)):
                connection.execute("attach '{}' as {} (read_only)".format(str(path).replace("'", "''"), name))
            return {table: _count(connection, table) for table in MAIN_TABLES}
        except duckdb.Error as error:
            raise ReleaseError(
                f"{before} and {after} cannot be compared ({error})",
                state="Nothing was changed",
                action="Run `opportunity-sync releases` to see which releases there are",
            ) from error


def differing_rows(connection: DuckDBPyConnection, table: str, *, before: str, after: str) -> str:
    """A query for the rows of a main table that differ between two releases.

    Args:
        connection: knows both relations.
        table: one of `MAIN_TABLES`.
        before: relation with the table's older rows.
        after: relation with the table's newer rows.

    Returns:
        SQL for the keys, `change` (inserted, updated or deleted) and, of updated rows, `changed_columns`.
    """
    keys = MAIN_TABLES[table]
    types = {
        relation: {name: kind for name, kind, *_ in connection.execute(f"describe {relation}").fetchall()}
        for relation in (before, after)
    }
    differences = {
        name: f'before."{name}" is distinct from after."{name}"'
        if types[before][name] == kind
        else f'cast(before."{name}" as varchar) is distinct from cast(after."{name}" as varchar)'
        for name, kind in types[after].items()
        if name not in keys and name in types[before]
    }
    listed = ", ".join(f"case when {differs} then '{column}' end" for column, differs in differences.items())
    return f"""
        select
            {", ".join(f"coalesce(before.{key}, after.{key}) as {key}" for key in keys)},
            case
                when before.{keys[0]} is null then 'inserted' when after.{keys[0]} is null then 'deleted' else 'updated'
            end as change,
            case
                when before.{keys[0]} is not null and after.{keys[0]} is not null
                    then list_filter([{listed}], lambda name: name is not null)
            end as changed_columns
        from {before} as before
        full join {after} as after on {" and ".join(f"before.{key} = after.{key}" for key in keys)}
        where before.{keys[0]} is null or after.{keys[0]} is null or {" or ".join(differences.values())}
        """


def _count(connection: DuckDBPyConnection, table: str) -> dict[str, int]:
    rows = differing_rows(connection, table, before=f"before.main.{table}", after=f"after.main.{table}")
    found = dict(connection.execute(f"select change, count(*) from ({rows}) group by change").fetchall())
    return {change: found.get(change, 0) for change in ("inserted", "updated", "deleted")}
