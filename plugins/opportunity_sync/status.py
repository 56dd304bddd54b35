"""What `opportunity-sync status` tells: the live release, how fresh its sources are, and the newest raw batches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from opportunity_sync.data_root import open_data_root
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.release import QUALITY, Release, live_release
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER


def status(settings: Settings, now: datetime) -> dict[str, Any]:
    """Collect the state of a data root, ready for JSON: times are ISO 8601 in UTC, ages are in seconds.

    Returns:
        `data_root`, `live` (None before the first publication) and `newest_batches` per Dataverse table.

    Raises:
        ReleaseError: the live file is damaged.
        LakeError: a manifest is unreadable.
    """
    root = open_data_root(settings.data)
    lake = Lake(root.raw)
    live = live_release(root)
    newest: dict[str, dict[str, Any] | None] = {}
    for table in READ_ORDER:
        names = lake.names(table)
        manifest = lake.manifest(table, names[-1]) if names else None
        newest[table] = _batch(manifest) if manifest else None
    return {
        "data_root": str(root.path),
        "live": {"file": str(root.live_file), **_live(settings, live, now)} if live else None,
        "newest_batches": newest,
    }


def staleness(found: Mapping[str, Any], max_age: timedelta) -> str | None:
    """What is wrong when readers do not see what Dynamics held at most `max_age` ago; None when they do.

    The age is that of the oldest source and not of the file: a release can be built anew from old batches.

    Args:
        found: what `status` gave.
        max_age: how old is too old.
    """
    live = found["live"]
    if live is None:
        return "There is no live release"
    ages = {table: source["age_seconds"] for table, source in live["sources"].items()}
    if unread := sorted(table for table, age in ages.items() if age is None):
        return f"Release {live['release_id']}: table {', '.join(unread)} was never fully read"
    oldest = max(ages, key=lambda table: int(ages[table]))
    if ages[oldest] <= max_age.total_seconds():
        return None
    return f"Release {live['release_id']}: table {oldest} was last read {ages[oldest] / 3600:.1f} hours ago"


def _batch(manifest: Manifest) -> dict[str, Any]:
    return {
        "batch": manifest.batch,
        "mode": manifest.mode,
        "rows": manifest.rows,
        "deletes": manifest.deletes,
        "started_at": _iso(manifest.started_at),
    }


def _live(settings: Settings, live: Release, now: datetime) -> dict[str, Any]:
    import duckdb

    root = open_data_root(settings.data)
    report = root.published / QUALITY
    with duckdb.connect(str(root.live_file), read_only=True) as connection:
        sources = connection.execute(
            "select table_name, rows, as_of, last_batch from release_tables order by table_name"
        ).fetchall()
        failed = connection.execute(
            """
            select suite, relation, expectation, column_name, severity, unexpected_count, element_count
            from expectation_results where not success order by all
            """
        ).fetchall()
    names = ("suite", "relation", "expectation", "column_name", "severity", "unexpected_count", "element_count")
    return {
        "release_id": live.release_id,
        "run_id": live.run_id,
        "released_at": _iso(live.released_at),
        "age_seconds": _age(live.released_at, now),
        "pipeline_version": live.pipeline_version,
        "built": live.built,
        "rows": live.rows,
        "expectations_passed": live.expectations_passed,
        "expectations_failed": live.expectations_failed,
        "quality_report": str(report) if report.exists() else None,
        "failed_expectations": [dict(zip(names, row, strict=True)) for row in failed],
        "sources": {
            table: {
                "rows": rows,
                "as_of": as_of and _iso(as_of.replace(tzinfo=UTC)),
                "age_seconds": as_of and _age(as_of.replace(tzinfo=UTC), now),
                "is_fresh": as_of is not None
                and now - as_of.replace(tzinfo=UTC) <= timedelta(hours=settings.freshness_hours),
                "last_batch": last_batch,
            }
            for table, rows, as_of, last_batch in sources
        },
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _age(moment: datetime, now: datetime) -> int:
    return int((now - moment).total_seconds())
