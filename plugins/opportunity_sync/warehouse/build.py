"""Build a candidate release from the warehouse: as a whole, or only the rows that changes could have touched.

Both run the same SQL models. An incremental build copies the live release and runs the models on a restricted copy of
the staging relations (`include/sql/scope/` says which rows): every touched row and all that those rows refer to. It is
taken only when nothing but row data changed since the live release was built: same models, settings, day, columns,
labels, connection roles and warehouse, which is what the fingerprint says.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opportunity_sync import __version__
from opportunity_sync.release import DATABASE, PUBLISHED_TABLES, Release, Run, new_release_id, write_release
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse.apply import LOGGED_BATCHES, naive_utc
from opportunity_sync.warehouse.models import Model, in_schema
from opportunity_sync.warehouse.state import sequence, warehouse_id

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STORAGE_VERSION = "v1.2.0"
"""File format of the published database: the oldest DuckDB that must be able to open it."""

SCOPED = {
    "opportunities": ("opportunity_id", "opportunities"),
    "opportunity_contact_roles": ("opportunity_id", "opportunities"),
    "contacts": ("contact_id", "needed_contacts"),
    "accounts": ("account_id", "needed_accounts"),
}
"""Marts built incrementally: their driving key, and the scope relation that holds the keys to replace."""

NEEDED = {
    "opportunities": ("opportunity_id", "opportunities"),
    "connections": ("connection_id", "needed_connections"),
    "contacts": ("contact_id", "needed_contacts"),
    "accounts": ("account_id", "needed_accounts"),
}
"""Staging relations: their key, and the scope relation that restricts them in an incremental build."""

UNSCOPED = ("release", "release_tables", "expectation_results")
"""Marts about the release itself: always built as a whole."""

DATAVERSE_TABLE = {"opportunities": "opportunity", "contacts": "contact", "accounts": "account"}

INCREMENTAL_SHARE = 0.1
"""When more than this share of the opportunities' number of keys changed, everything is derived anew."""


@dataclass(frozen=True)
class Blueprint:
    """All a build needs besides the warehouse."""

    models: dict[str, Model]
    additional: dict[str, dict[str, str]]
    """Per Dataverse table the descriptions of its additional columns."""
    fingerprint: str
    live: Release | None
    live_folder: Path | None


def build_candidate(
    connection: DuckDBPyConnection, settings: Settings, run: Run, blueprint: Blueprint, candidates: Path
) -> Release:
    """Build `candidates/<release_id>/opportunities.duckdb` and its `release.json`.

    Args:
        connection: the warehouse, opened for writing, its views up to date.
    """
    for leftover in candidates.glob("*"):  # the caller holds the lock, so nobody is building them
        if not (leftover / "release.json").exists():
            shutil.rmtree(leftover)
    now = datetime.now(UTC)
    release_id = new_release_id(now)
    folder = candidates / release_id
    folder.mkdir(parents=True)
    _set_variables(connection, settings, run, release_id, now)
    since = _incremental_since(connection, blueprint)
    database = folder / DATABASE
    if since is not None and blueprint.live_folder is not None:
        shutil.copyfile(blueprint.live_folder / DATABASE, database)
        connection.execute(f"attach '{_escape(database)}' as candidate")
        connection.execute(f"set variable since_sequence = {since}")
    else:
        connection.execute(f"attach '{_escape(database)}' as candidate (storage_version '{STORAGE_VERSION}')")
    connection.execute("attach ':memory:' as scope")
    try:
        _prepare_scope(connection, blueprint.models, incremental=since is not None)
        connection.execute("begin")
        _fill(connection, blueprint.models, incremental=since is not None)
        _comment(connection, blueprint)
        connection.execute("commit")
        connection.execute("checkpoint candidate")
        counts = {
            table: connection.execute(f"select count(*) from candidate.{table}").fetchall()[0][0]
            for table in PUBLISHED_TABLES
            if table != "expectation_results"
        }
    finally:
        connection.execute("use warehouse")
        connection.execute("detach scope")
        connection.execute("detach candidate")
    release = Release(
        release_id=release_id,
        run_id=run.run_id,
        started_at=run.started_at,
        released_at=now,
        pipeline_version=__version__,
        built="full" if since is None else "incremental",
        sequence=sequence(connection),
        warehouse_id=warehouse_id(connection),
        fingerprint=blueprint.fingerprint,
        rows=counts,
    )
    write_release(folder, release)
    return release


def _incremental_since(connection: DuckDBPyConnection, blueprint: Blueprint) -> int | None:
    """The number of batches the live release had applied, when it can be continued; else None."""
    live = blueprint.live
    if live is None or live.warehouse_id != warehouse_id(connection) or live.fingerprint != blueprint.fingerprint:
        return None
    if live.sequence > sequence(connection) or live.sequence < sequence(connection) - LOGGED_BATCHES:
        return None
    (touches_all,) = connection.execute(
        "select count(*) from meta.batches where touches_all and sequence > ?", [live.sequence]
    ).fetchall()
    (changed,) = connection.execute(
        "select count(*) from meta.changed_keys where sequence > ?", [live.sequence]
    ).fetchall()
    if touches_all[0] or changed[0] > INCREMENTAL_SHARE * live.rows["opportunities"] + 1_000:
        return None
    return live.sequence


def _set_variables(
    connection: DuckDBPyConnection, settings: Settings, run: Run, release_id: str, now: datetime
) -> None:
    variables: dict[str, tuple[str, Any]] = {
        "today": ("date", run.started_at.astimezone(UTC).date()),
        "customer_role": ("varchar", settings.customer_role),
        "stakeholder_categories": ("integer[]", list(settings.stakeholder_categories)),
        "role_when_missing": ("varchar", settings.role_when_missing),
        "release_id": ("varchar", release_id),
        "released_at": ("timestamp", naive_utc(now)),
        "run_id": ("varchar", run.run_id),
        "pipeline_version": ("varchar", __version__),
    }
    for name, (kind, value) in variables.items():
        connection.execute(f"set variable {name} = cast(? as {kind})", [value])


def _prepare_scope(connection: DuckDBPyConnection, models: dict[str, Model], *, incremental: bool) -> None:
    """Fill the in-memory catalog `scope` with the staging relations to derive from and the intermediate relations."""
    connection.execute("create schema scope.staging")
    connection.execute("create schema scope.intermediate")
    if incremental:
        for model in in_schema(models, "scope"):
            connection.execute(f"create table scope.main.{model.name} as {model.sql}")
    for model in in_schema(models, "staging"):
        if incremental and model.name in NEEDED:
            key, ids = NEEDED[model.name]
            connection.execute(
                f"create table scope.staging.{model.name} as "
                f"select * from warehouse.staging.{model.name} semi join scope.main.{ids} on id = {key}"
            )
        else:
            connection.execute(
                f"create view scope.staging.{model.name} as select * from warehouse.staging.{model.name}"
            )
    connection.execute("use scope")
    for model in in_schema(models, "intermediate"):
        connection.execute(f"create table intermediate.{model.name} as {model.sql}")


def _fill(connection: DuckDBPyConnection, models: dict[str, Model], *, incremental: bool) -> None:
    for model in in_schema(models, "marts"):
        target = f"candidate.main.{model.name}"
        connection.execute("use warehouse" if model.name in UNSCOPED else "use scope")
        if not incremental or model.name in UNSCOPED:
            connection.execute(f"create or replace table {target} as {model.sql}")
            continue
        if model.name == "unresolved_references":
            for relation, (_, ids) in NEEDED.items():
                connection.execute(
                    f"delete from {target} where relation = '{relation}' and key in (select id from scope.main.{ids})"
                )
        else:
            key, ids = SCOPED[model.name]
            connection.execute(f"delete from {target} where {key} in (select id from scope.main.{ids})")
        connection.execute(f"insert into {target} by name {model.sql}")


def _comment(connection: DuckDBPyConnection, blueprint: Blueprint) -> None:
    for model in in_schema(blueprint.models, "marts"):
        connection.execute(f"comment on table candidate.main.{model.name} is '{_escape(model.description)}'")
        columns = connection.execute(
            "select column_name from duckdb_columns() where database_name = 'candidate' and table_name = ?",
            [model.name],
        ).fetchall()
        texts = blueprint.additional.get(DATAVERSE_TABLE.get(model.name, ""), {}) | model.columns
        for (column,) in columns:
            connection.execute(
                f"comment on column candidate.main.{model.name}.\"{column}\" is '{_escape(texts[column])}'"
            )


def _escape(text: object) -> str:
    return str(text).replace("'", "''")
