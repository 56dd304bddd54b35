"""What the warehouse knows of a table's rows: keys and versions, for a comparison with Dynamics."""

from __future__ import annotations

import logging
from pathlib import Path

from opportunity_sync.data_root import DataRoot, warehouse_lock
from opportunity_sync.lake import Lake
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CORE
from opportunity_sync.warehouse.apply import apply_batches
from opportunity_sync.warehouse.state import open_warehouse
from opportunity_sync.warehouse.views import live_rows

log = logging.getLogger("opportunity_sync.warehouse")


def write_known_rows(settings: Settings, table: str, path: Path) -> int:
    """Apply all new raw batches, then write which rows of a table count as alive; waits for the warehouse.

    Rows that the filter column excludes (rule 1.4) are among them: Dynamics has them too.

    Args:
        settings: settings of the data root.
        table: Dataverse logical name.
        path: Parquet file to write: `id` UUID, `version` BIGINT, `alive_at` TIMESTAMP (when it was last seen alive).

    Returns:
        The number of rows.

    Raises:
        LakeError: a raw batch is damaged.
        DataRootError: another process holds the warehouse for too long.
    """
    root = DataRoot(settings.data)
    lake = Lake(root.raw)
    key = next(iter(CORE[table]))
    with warehouse_lock(root), open_warehouse(root, settings, lake) as connection:
        apply_batches(connection, lake)
        target = str(path).replace("'", "''")
        ((rows,),) = connection.execute(
            f"""
            copy (
                select rows.{key} as id, coalesce(rows.versionnumber, 0) as version, rows._alive_at as alive_at
                from {live_rows(table)}
            ) to '{target}' (format parquet)
            """
        ).fetchall()
    log.info("warehouse: %d rows of table %s count as alive", rows, table)
    return int(rows)
