"""What Airflow knows about the published release: one asset, updated by every publication.

Another DAG may be scheduled on it: `schedule=[PUBLISHED]`, and finds the event's `extra` there.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset

from opportunity_sync.release import Release
from opportunity_sync.settings import Settings

PUBLISHED = Asset("published_opportunities", group="opportunity_sync")
"""The live release: `<data root>/published/opportunities.duckdb`."""

SWEPT = ("checked", "missing", "gone", "stale", "repaired")
"""Counts that an asset event carries of each table's newest sweep."""


def event_extra(settings: Settings, release: Release) -> dict[str, Any]:
    """What an asset event says about a release.

    Returns:
        `release_id`, `file`, `rows` per published table, `as_of` (ISO 8601, UTC) per source table,
        `reconciliations` (what the newest sweep found: `swept_at` and the counts `SWEPT`) per source table once swept,
        `expectations_passed` and `expectations_failed`.
    """
    import duckdb

    from opportunity_sync.data_root import DataRoot
    from opportunity_sync.release import DATABASE

    root = DataRoot(settings.data)
    with duckdb.connect(str(root.releases / release.release_id / DATABASE), read_only=True) as connection:
        fresh = connection.execute("select table_name, as_of from release_tables order by table_name").fetchall()
        swept = connection.execute(
            f"select table_name, swept_at, {', '.join(SWEPT)} from reconciliations order by table_name"
        ).fetchall()
    return {
        "release_id": release.release_id,
        "file": str(root.live_file),
        "rows": release.rows,
        "as_of": {table: as_of.isoformat() + "Z" if as_of else None for table, as_of in fresh},
        "reconciliations": {
            table: {"swept_at": swept_at.isoformat() + "Z"} | dict(zip(SWEPT, counts, strict=True))
            for table, swept_at, *counts in swept
        },
        "expectations_passed": release.expectations_passed,
        "expectations_failed": release.expectations_failed,
    }
