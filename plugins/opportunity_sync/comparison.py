"""What Dynamics lists against what is known here, in DuckDB: which rows differ, and what the answers about them mean.

The tables of the comparison's connection:
- `listed (id, version)`: every row that Dynamics listed;
- `asked (id, known_version, seen_at, request)`: rows that differ and are asked for again, in requests numbered from 0;
  `known_version` and `seen_at` (when it was last seen alive) are null for a row that is not known here;
- `answered (id, version)`: rows that came back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GONE = "from asked anti join answered on answered.id = asked.id where asked.seen_at is not null"
"""The rows known here that did not come back."""


def compare(connection: DuckDBPyConnection, listed: Sequence[Path], known: Path, key: str, *, per_request: int) -> int:
    """Make the tables `listed` and `asked`.

    A row listed in an older version than the known one was changed after it was listed: that is no difference.

    Args:
        connection: an empty database.
        listed: Parquet files with the columns `key` and `versionnumber`.
        known: Parquet file of `warehouse.known.write_known_rows`.
        key: logical name of the primary key.
        per_request: rows to ask for in one request.

    Returns:
        The number of requests.
    """
    _rows_by_version(connection, "listed", listed, key)
    connection.execute(
        f"""
        create table asked as
        with differing as (
            select
                coalesce(known.id, listed.id) as id,
                known.version as known_version,
                known.alive_at as seen_at
            from listed
            full join read_parquet({_text(known)}) as known on known.id = listed.id
            where listed.id is null or known.id is null or listed.version > known.version
        )
        select *, (row_number() over (order by id) - 1) // {per_request} as request
        from differing
        order by id
        """
    )
    ((requests,),) = connection.execute("select coalesce(max(request) + 1, 0) from asked").fetchall()
    return int(requests)


def asked_in(connection: DuckDBPyConnection, request: int) -> dict[UUID, bool]:
    """Keys to ask for in one request, and whether each is known here."""
    query = "select id, seen_at is not null from asked where request = ? order by id"
    return dict(connection.execute(query, [request]).fetchall())


def note_answers(connection: DuckDBPyConnection, files: Sequence[Path], key: str) -> None:
    """Make the table `answered` of the rows that came back."""
    _rows_by_version(connection, "answered", files, key)


def write_gone(connection: DuckDBPyConnection, path: Path) -> int:
    """Write the rows that are gone as deletes, each observed at the moment it was last seen alive.

    Returns:
        Their number; without any there is no file.
    """
    ((count,),) = connection.execute(f"select count(*) {GONE}").fetchall()
    if count:
        connection.execute(
            f"copy (select asked.id, asked.seen_at as _observed_at {GONE} order by asked.id) to {_text(path)} "
            "(format parquet)"
        )
    return int(count)


def counts(connection: DuckDBPyConnection) -> tuple[int, int, int]:
    """How many rows were checked, missing and stale."""
    (found,) = connection.execute(
        """
        select
            (select count(*) from listed),
            count(*) filter (where seen_at is null),
            count(*) filter (where answered.version > known_version)
        from asked
        join answered on answered.id = asked.id
        """
    ).fetchall()
    checked, missing, stale = found
    return int(checked), int(missing), int(stale)


def _rows_by_version(connection: DuckDBPyConnection, table: str, files: Sequence[Path], key: str) -> None:
    """Make a table of keys with their greatest version: a row that moved between two pages comes twice."""
    connection.execute(f"create table {table} (id uuid, version bigint)")
    if files:
        listed = ", ".join(_text(file) for file in files)
        connection.execute(
            f"insert into {table} select {key}, max(versionnumber) from read_parquet([{listed}]) group by {key}"
        )


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
