"""The transform stage: raw batches -> private warehouse -> candidate release."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opportunity_sync import __version__
from opportunity_sync.data_root import DataRoot, disk_errors, open_data_root, warehouse_lock
from opportunity_sync.errors import ReleaseError
from opportunity_sync.lake import Lake
from opportunity_sync.published import continued_release
from opportunity_sync.release import Release, Run, live_release
from opportunity_sync.settings import Settings
from opportunity_sync.tables import load_tables
from opportunity_sync.warehouse.apply import apply_batches
from opportunity_sync.warehouse.build import Blueprint, build_candidate
from opportunity_sync.warehouse.live_copy import copying_live, week_of
from opportunity_sync.warehouse.models import Model, load_models
from opportunity_sync.warehouse.state import open_warehouse, warehouse_id
from opportunity_sync.warehouse.views import create_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger("opportunity_sync.warehouse")


def transform(settings: Settings, run: Run, *, now: datetime | None = None) -> Release:
    """Apply all new raw batches to the warehouse and build a candidate release.

    Args:
        settings: settings of the data root.
        run: who asked for it, and the day that decides which connections are in effect.
        now: when the release is built; the present time unless a history is made up, as for the documentation.

    Returns:
        The candidate: `published/candidates/<release_id>/` holds its DuckDB file, not yet validated.

    Raises:
        ConfigurationError: `tables.yaml` or a model is wrong.
        LakeError: a raw batch is damaged.
        DataRootError: the data root is of a newer version or in use for too long, or its disk is full.
    """
    root = open_data_root(settings.data)
    selections = load_tables(settings.tables_file)
    models = load_models(settings.sql)
    lake = Lake(root.raw)
    log.info("transform: started")
    with disk_errors(root.path), warehouse_lock(root):
        live = _live(root)
        with copying_live(root, live, run) as live_copy, open_warehouse(root, settings, lake) as connection:
            applied = apply_batches(connection, lake)
            additional = create_views(connection, selections, models)
            blueprint = Blueprint(
                models=models,
                additional=additional,
                fingerprint=_fingerprint(connection, settings, run, models, additional),
                live=live,
                live_copy=live_copy,
                previous=continued_release(root, live),
            )
            release = build_candidate(connection, settings, run, blueprint, root.candidates, now)
    log.info(
        "transform: %d batches applied, candidate %s built (%s): %s",
        applied,
        release.release_id,
        release.built,
        ", ".join(f"{table} {count}" for table, count in release.rows.items()),
    )
    return release


def _live(root: DataRoot) -> Release | None:
    """The live release to continue from; None also when it is damaged: a whole build then replaces it."""
    try:
        return live_release(root)
    except ReleaseError as error:
        log.warning("transform: the live release is not used as a base: %s", error)
        return None


def _fingerprint(
    connection: DuckDBPyConnection,
    settings: Settings,
    run: Run,
    models: dict[str, Model],
    descriptions: dict[str, dict[str, str]],
) -> str:
    """All but row data that decides what a release contains, in one hash.

    The week is part of it, because one whole build a week undoes the growth of a file that is updated every hour. The
    day is not: which connections begin or end with it is known (`include/sql/scope/connections.sql`).
    """
    views = connection.execute(
        "select sql from duckdb_views() where schema_name = 'source' order by view_name"
    ).fetchall()
    types = connection.execute(
        "select table_name, column_name, data_type from duckdb_columns() where schema_name = 'source' order by all"
    ).fetchall()
    roles = connection.execute(
        """
        select count(*), bit_xor(hash(roles))
        from (select * exclude (raw_batch, read_at) from staging.connection_roles) as roles
        """
    ).fetchall()
    facts: dict[str, Any] = {
        "version": __version__,
        "warehouse": warehouse_id(connection),
        "week": week_of(run),
        "models": [model.sql for model in models.values()],
        "settings": [settings.customer_role, settings.stakeholder_categories, settings.role_when_missing],
        "views": views,
        "types": types,
        "descriptions": descriptions,
        "roles": roles,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
