"""History: what each release changed against the one before it, and every earlier version of opportunities and roles.

It lives in the published file and is handed on from release to release, so it needs no warehouse. A release holds
- `release_changes`: one row per changed row and release;
- schema `history`: `beginning` (when the history begins), `<table>` (past versions with `valid_from` and `valid_to`)
  and `<table>_since` (when the present version of a row appeared, for rows that changed since the beginning),
  `releases` and `expectation_results` (of the releases before this one).
The views `releases` and `..._history` and the table macros `<table>_as_of` of `include/sql/` are built on these. What
an update writes depends on the rows that changed, because present versions are not stored twice; it also reads all
keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from opportunity_sync.diff import differing_rows
from opportunity_sync.release import MAIN_TABLES, PUBLISHED_TABLES, Release, write_release

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VERSIONED = ("opportunities", "opportunity_contact_roles")
"""Tables whose past versions are kept."""

PAST_RELEASES = {
    "releases": "select release.*, "
    + ", ".join(f"(select count(*) from {{catalog}}.main.{table}) as {table}" for table in MAIN_TABLES)
    + " from {catalog}.main.release",
    "expectation_results": "select release_id, released_at, results.* "
    "from {catalog}.main.expectation_results as results cross join {catalog}.main.release",
}
"""What is kept of every release: tables of schema `history`, and how a release's rows come out of its file."""


@dataclass(frozen=True)
class Derived:
    """The part of a main table that an incremental build derived anew."""

    key: str
    """The table's first key column."""
    ids: str
    """Relation of the values of `key` that were replaced, column `id`."""
    rows: str
    """Relation of the rows that replace them."""


def write_history(
    connection: DuckDBPyConnection,
    release: Release,
    previous: Path | None,
    *,
    derived: Mapping[str, Derived] | None = None,
    keep_days: int | None = None,
) -> dict[str, int]:
    """Continue the history of the previous release in catalog `candidate`, inside the caller's transaction.

    Args:
        connection: the new release is attached for writing as `candidate`, the previous one read-only as `previous`.
        release: the new one.
        previous: None: the history begins with this release, and there is no catalog `previous`.
        derived: per main table what was derived anew; `candidate` is then a copy of `previous` that was changed
            nowhere else. Without it everything is compared, and the history of `previous` replaces what `candidate`
            has.
        keep_days: versions and changes that ended longer ago are dropped (only when everything is compared).

    Returns:
        Number of changed rows per table.
    """
    if derived is None:
        _hand_over(connection, release, has_previous=previous is not None)
    if previous is not None:
        for name, rows in PAST_RELEASES.items():
            connection.execute(f"insert into candidate.history.{name} by name {rows.format(catalog='previous')}")
    counts = {}
    for table, keys in MAIN_TABLES.items():
        if previous is not None:
            before, after = f"previous.main.{table}", f"candidate.main.{table}"
            if derived is not None:
                part = derived[table]
                connection.execute(
                    f"create or replace temp table before as from {before} where rowid in "
                    f"(select rowid from {before} semi join {part.ids} as ids on ids.id = {part.key})"
                )
                before, after = "temp.before", part.rows
            rows = differing_rows(connection, table, before=before, after=after)
            connection.execute(f"create or replace temp table changes as {rows}")
            counts[table] = _note_changes(connection, release, table, keys)
            if table in VERSIONED:
                _keep_versions(connection, release, table, before)
    if derived is None and keep_days is not None:
        _forget(connection, release, keep_days)
    return counts


def rewrite_history(folder: Path, database: Path, release: Release, previous: Path | None, continued: str) -> Release:
    """Let a finished candidate continue another release than the one it was built on.

    Needed when another release became live between building and publishing.

    Returns:
        The candidate's new description, also written to its `release.json`.
    """
    import duckdb

    with duckdb.connect(config={"temp_directory": str(folder / "spill")}) as connection:
        connection.execute(f"attach '{_escape(database)}' as candidate")
        if previous is not None:
            connection.execute(f"attach '{_escape(previous)}' as previous (read_only)")
        connection.execute("begin")
        write_history(connection, release, previous)
        connection.execute("commit")
        connection.execute("checkpoint candidate")
        rows = {
            table: connection.execute(f"select count(*) from candidate.main.{table}").fetchall()[0][0]
            for table in PUBLISHED_TABLES
            if table != "expectation_results"
        }
    rewritten = msgspec.structs.replace(release, history_of=continued, rows=rows)
    write_release(folder, rewritten)
    return rewritten


def _hand_over(connection: DuckDBPyConnection, release: Release, *, has_previous: bool) -> None:
    """Give the candidate the previous release's history, or an empty one."""
    known = set()
    if has_previous:
        found = connection.execute(
            "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'previous'"
        ).fetchall()
        known = {name for (name,) in found}
    began_at = f"timestamp '{_timestamp(release)}'"
    source = f"select {began_at} as began_at"
    if "history.beginning" in known:
        source = "select began_at from previous.history.beginning"
    elif has_previous:  # a release of a version that kept no history: it is the beginning
        source = "select released_at as began_at from previous.main.release"
    connection.execute("create schema if not exists candidate.history")
    connection.execute(f"create or replace table candidate.history.beginning as {source}")
    for table in VERSIONED:
        keys = ", ".join(MAIN_TABLES[table])
        empty = f"from candidate.main.{table} where false"
        sources = {
            table: f"select *, {began_at} as valid_from, {began_at} as valid_to {empty}",
            f"{table}_since": f"select {keys}, {began_at} as valid_from {empty}",
        }
        for name, nothing in sources.items():
            source = f"from previous.history.{name}" if f"history.{name}" in known else nothing
            connection.execute(f"create or replace table candidate.history.{name} as {source}")
    for name, rows in PAST_RELEASES.items():
        empty = f"select * from ({rows.format(catalog='candidate')}) where false"
        connection.execute(f"create or replace table candidate.history.{name} as {empty}")
        if f"history.{name}" in known:
            connection.execute(f"insert into candidate.history.{name} by name from previous.history.{name}")
    connection.execute("delete from candidate.main.release_changes")
    if "main.release_changes" in known:
        connection.execute("insert into candidate.main.release_changes by name from previous.main.release_changes")


def _note_changes(connection: DuckDBPyConnection, release: Release, table: str, keys: tuple[str, ...]) -> int:
    names = ", ".join((f"{keys[0]} as key", *keys[1:]))
    (found,) = connection.execute(
        f"""
        insert into candidate.main.release_changes by name
        select
            ? as release_id, timestamp '{_timestamp(release)}' as released_at, ? as table_name, {names},
            change, changed_columns
        from changes
        """,
        [release.release_id, table],
    ).fetchall()
    return int(found[0])


def _keep_versions(connection: DuckDBPyConnection, release: Release, table: str, before: str) -> None:
    """Move the versions that this release ends to the past, and note since when the new ones are valid."""
    keys = MAIN_TABLES[table]
    _fit_columns(connection, table)
    using = f"using ({', '.join(keys)})"
    connection.execute(
        f"""
        insert into candidate.history.{table} by name
        select
            ended.*,
            coalesce(since.valid_from, (select began_at from candidate.history.beginning)) as valid_from,
            timestamp '{_timestamp(release)}' as valid_to
        from {before} as ended
        semi join (from changes where change <> 'inserted') as changed {using}
        left join candidate.history.{table}_since as since {using}
        """
    )
    matches = " and ".join(f"since.{key} = changes.{key}" for key in keys)
    connection.execute(f"delete from candidate.history.{table}_since as since using changes where {matches}")
    connection.execute(
        f"""
        insert into candidate.history.{table}_since
        select {", ".join(keys)}, timestamp '{_timestamp(release)}' from changes where change <> 'deleted'
        """
    )


def _fit_columns(connection: DuckDBPyConnection, table: str) -> None:
    """Let the past versions have every column of the table. One that went stays; one that changed its type is text."""
    found = connection.execute(
        """
        select column_name, data_type, schema_name = 'history' from duckdb_columns()
        where table_name = ? and (database_name = 'candidate' or database_name = 'previous' and schema_name = 'main')
        order by database_name desc, column_index
        """,
        [table],
    ).fetchall()
    past = {column: kind for column, kind, is_past in found if is_past}
    for column, kind, is_past in found:
        if not is_past and column not in past:
            connection.execute(f'alter table candidate.history.{table} add column "{column}" {kind}')
            past[column] = kind
        elif kind != past[column] != "VARCHAR":
            connection.execute(f'alter table candidate.history.{table} alter "{column}" set data type varchar')
            past[column] = "VARCHAR"


def _forget(connection: DuckDBPyConnection, release: Release, keep_days: int) -> None:
    limit = f"timestamp '{release.released_at - timedelta(days=keep_days):%Y-%m-%d %H:%M:%S.%f}'"
    for table in VERSIONED:
        connection.execute(f"delete from candidate.history.{table} where valid_to <= {limit}")
        connection.execute(f"delete from candidate.history.{table}_since where valid_from <= {limit}")
    for table in ("main.release_changes", *(f"history.{name}" for name in PAST_RELEASES)):
        connection.execute(f"delete from candidate.{table} where released_at <= {limit}")
    connection.execute(f"update candidate.history.beginning set began_at = {limit} where began_at < {limit}")


def _timestamp(release: Release) -> str:
    return f"{release.released_at:%Y-%m-%d %H:%M:%S.%f}"


def _escape(path: Path) -> str:
    return str(path).replace("'", "''")
