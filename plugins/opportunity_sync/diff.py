"""What changed between two releases, by key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.errors import ReleaseError
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KEYS = {
    "opportunities": ("opportunity_id",),
    "contacts": ("contact_id",),
    "accounts": ("account_id",),
    "opportunity_contact_roles": ("opportunity_id", "contact_id", "role"),
}
"""Tables that are compared, and their keys."""


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
            return {table: _compare(connection, table, keys) for table, keys in KEYS.items()}
        except duckdb.Error as error:
            raise ReleaseError(
                f"{before} and {after} cannot be compared ({error})",
                state="Nothing was changed",
                action="Run `opportunity-sync releases` to see which releases there are",
            ) from error


def _compare(connection: DuckDBPyConnection, table: str, keys: tuple[str, ...]) -> dict[str, int]:
    common = connection.execute(
        """
        select column_name from duckdb_columns() where table_name = ? and database_name in ('before', 'after')
        group by column_name having count(*) = 2
        """,
        [table],
    ).fetchall()
    differs = " or ".join(
        f'before."{column}" is distinct from after."{column}"' for (column,) in common if column not in keys
    )
    matches = " and ".join(f'before."{key}" = after."{key}"' for key in keys)
    ((inserted, updated, deleted),) = connection.execute(
        f"""
        select
            count(*) filter (before."{keys[0]}" is null),
            count(*) filter (before."{keys[0]}" is not null and after."{keys[0]}" is not null and ({differs})),
            count(*) filter (after."{keys[0]}" is null)
        from before.{table} as before
        full join after.{table} as after on {matches}
        """
    ).fetchall()
    return {"inserted": inserted, "updated": updated, "deleted": deleted}
