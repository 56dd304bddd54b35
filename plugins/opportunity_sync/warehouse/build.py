"""Build a candidate release from the warehouse: as a whole, or only the rows that changes could have touched.

Both run the same SQL models. An incremental build copies the live release and runs the models on a restricted copy of
the staging relations (`include/sql/scope/` says which rows): every touched row and all that those rows refer to. It is
taken only when nothing but row data changed since the live release was built: same models, settings, week, columns,
labels, connection roles and warehouse, which is what the fingerprint says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from opportunity_sync import __version__
from opportunity_sync.history import Derived, write_history
from opportunity_sync.release import (
    DATABASE,
    MAIN_TABLES,
    PUBLISHED_TABLES,
    Release,
    Run,
    new_release_id,
    write_release,
)
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse.apply import LOGGED_BATCHES
from opportunity_sync.warehouse.describe import comment, create_views
from opportunity_sync.warehouse.live_copy import LiveCopy
from opportunity_sync.warehouse.models import Model, in_schema
from opportunity_sync.warehouse.state import naive_utc, sequence, warehouse_id

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STORAGE_VERSION = "v1.2.0"
"""File format of the published database: the oldest DuckDB that must be able to open it."""

SCOPED = {
    "opportunities": ("opportunity_id", "opportunities"),
    "opportunity_contact_roles": ("opportunity_id", "opportunities"),
    "contacts": ("contact_id", "needed_contacts"),
    "accounts": ("account_id", "needed_accounts"),
    "opportunity_connections": ("opportunity_id", "opportunities"),
    "merged_accounts": ("account_id", "needed_accounts"),
    "merged_contacts": ("contact_id", "needed_contacts"),
}
"""Marts built incrementally: their driving key, and the scope relation that holds the keys to replace."""

NEEDED = {
    "opportunities": ("opportunity_id", "opportunities"),
    "connections": ("connection_id", "needed_connections"),
    "contacts": ("contact_id", "needed_contacts"),
    "accounts": ("account_id", "needed_accounts"),
}
"""Staging relations: their key, and the scope relation that restricts them in an incremental build."""

BY_RELATION = ("unresolved_references", "row_sources")
"""Marts with rows of several relations: column `relation` names it, column `key` is its key."""

UNSCOPED = ("release", "release_tables", "reconciliations", "expectation_results")
"""Marts about the release itself: always built as a whole."""

GROWING = "release_changes"
"""The mart that `history.py` fills."""

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
    live_copy: LiveCopy | None
    """A copy of the live release, when it may be continued."""
    previous: Path | None
    """Folder of the release whose history is continued: the live one, or the newest kept one if that is damaged."""


def build_candidate(
    connection: DuckDBPyConnection,
    settings: Settings,
    run: Run,
    blueprint: Blueprint,
    candidates: Path,
    now: datetime | None = None,
) -> Release:
    """Build `candidates/<release_id>/opportunities.duckdb` and its `release.json`.

    Args:
        connection: the warehouse, opened for writing, its views up to date.
    """
    now = now or datetime.now(UTC)
    release_id = new_release_id(now)
    folder = candidates / release_id
    folder.mkdir(parents=True)
    _set_variables(connection, settings, run, release_id, now)
    base = _base(connection, run, blueprint)
    connection.execute("attach ':memory:' as scope")
    release = Release(
        release_id=release_id,
        run_id=run.run_id,
        started_at=run.started_at,
        released_at=now,
        pipeline_version=__version__,
        built="full" if base is None else "incremental",
        sequence=sequence(connection),
        warehouse_id=warehouse_id(connection),
        fingerprint=blueprint.fingerprint,
        history_of=blueprint.previous.name if blueprint.previous else "",
        rows={},
    )
    if base is not None:
        connection.execute(f"set memory_limit = '{settings.incremental_memory_limit}'")
        connection.execute(f"set variable since_sequence = {base.sequence}")
        connection.execute(f"set variable live_day = date '{_day_of(base)}'")
    _prepare_scope(connection, blueprint.models, incremental=base is not None)
    _attach(connection, blueprint, folder / DATABASE, incremental=base is not None)
    connection.execute("begin")
    _fill(connection, blueprint.models, incremental=base is not None)
    derived = {
        table: Derived(SCOPED[table][0], f"scope.main.{SCOPED[table][1]}", f"scope.marts.{table}")
        for table in MAIN_TABLES
    }
    write_history(
        connection,
        release,
        blueprint.previous,
        derived=derived if base else None,
        keep_days=settings.history_days,
    )
    if base is None:  # else they are those of the copied release
        create_views(connection, blueprint.models)
        comment(connection, blueprint.models, blueprint.additional)
    connection.execute("commit")
    connection.execute("checkpoint candidate")
    counts = {
        table: connection.execute(f"select count(*) from candidate.{table}").fetchall()[0][0]
        for table in PUBLISHED_TABLES
        if table != "expectation_results"
    }
    connection.execute("use warehouse")
    for catalog in ("scope", "candidate", "previous"):
        connection.execute(f"detach database if exists {catalog}")
    release = msgspec.structs.replace(release, rows=counts)
    write_release(folder, release)
    return release


def _base(connection: DuckDBPyConnection, run: Run, blueprint: Blueprint) -> Release | None:
    """The live release, when an incremental build can start from it; else None."""
    live = blueprint.live
    if live is None or blueprint.live_copy is None:
        return None
    if live.warehouse_id != warehouse_id(connection) or live.fingerprint != blueprint.fingerprint:
        return None
    if run.started_at.astimezone(UTC).date() < _day_of(live):
        return None  # a run of an earlier day, tried again
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
    return live


def _attach(connection: DuckDBPyConnection, blueprint: Blueprint, database: Path, *, incremental: bool) -> None:
    """Attach the candidate's file as `candidate`: the copy of the live release, or a fresh one; and `previous`."""
    if incremental and blueprint.live_copy is not None:
        blueprint.live_copy.move_to(database)
        connection.execute(f"attach '{_escape(database)}' as candidate")
    else:
        if blueprint.live_copy is not None:
            blueprint.live_copy.drop()
        connection.execute(f"attach '{_escape(database)}' as candidate (storage_version '{STORAGE_VERSION}')")
    if blueprint.previous is not None:
        connection.execute(f"attach '{_escape(blueprint.previous / DATABASE)}' as previous (read_only)")


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
    """Fill the in-memory catalog `scope`: staging rows to derive from, intermediate rows, rows that replace others."""
    connection.execute("create schema scope.staging")
    connection.execute("create schema scope.intermediate")
    connection.execute("create schema scope.marts")
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
    for model in in_schema(models, "marts"):
        if incremental and model.name not in (*UNSCOPED, GROWING):
            connection.execute(f"create table marts.{model.name} as {model.sql}")


def _fill(connection: DuckDBPyConnection, models: dict[str, Model], *, incremental: bool) -> None:
    for model in in_schema(models, "marts"):
        target = f"candidate.main.{model.name}"
        if not incremental or model.name in UNSCOPED:
            connection.execute("use warehouse" if model.name in UNSCOPED else "use scope")
        if not incremental:
            connection.execute(f"create table {target} as {model.sql}")
            continue
        if model.name == GROWING:
            continue
        if model.name in UNSCOPED:
            connection.execute(f"delete from {target}")
            connection.execute(f"insert into {target} by name {model.sql}")
            continue
        rows = f"scope.marts.{model.name}"
        if model.name in BY_RELATION:
            for relation, (_, ids) in NEEDED.items():
                connection.execute(
                    f"delete from {target} where relation = '{relation}' and key in (select id from scope.main.{ids})"
                )
            connection.execute(f"delete from {target} where relation = 'connection_roles'")
        else:
            key, ids = SCOPED[model.name]
            connection.execute(f"delete from {target} where {key} in (select id from scope.main.{ids})")
        connection.execute(f"insert into {target} by name from {rows}")


def _day_of(release: Release) -> date:
    """The day (UTC) that decided which connections were in effect."""
    return release.started_at.astimezone(UTC).date()


def _escape(text: object) -> str:
    return str(text).replace("'", "''")
