"""Facts of the page Overview."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from opportunity_sync.pages import moment
from opportunity_sync.pages.health import LiveState, Source
from opportunity_sync.pages.live import Live
from opportunity_sync.pages.releases import Changes, changes_of
from opportunity_sync.release import MAIN_TABLES

CHARTED = 24
"""Releases in the charts."""


@dataclass(frozen=True)
class Overview:
    """What is shown of the live release."""

    state: LiveState
    releases: list[dict[str, Any]]
    """The newest releases and their row counts, newest first."""
    charts: dict[str, list[tuple[str, int]]]
    """Per main table a release's moment and its rows, oldest first."""
    previous_id: str | None
    changes: Changes
    failures: list[dict[str, Any]]
    passed: int


def overview(live: Live, now: datetime) -> Overview:
    """Collect what the page shows of the live release."""
    releases = live.rows("select * from releases order by release_id desc limit ?", [CHARTED])
    failures = live.rows(
        """
        select suite, relation, expectation, column_name, severity, unexpected_count, element_count
        from expectation_results where not success order by severity, suite, relation, expectation, column_name
        """
    )
    sources = live.rows("select table_name, rows, as_of from release_tables order by table_name")
    critical = sum(failure["severity"] == "critical" for failure in failures)
    return Overview(
        state=LiveState(
            release_id=live.release_id,
            age=now - live.released_at,
            sources=[_source(row, now) for row in sources],
            critical=critical,
            warnings=len(failures) - critical,
        ),
        releases=releases,
        charts={
            table: [(moment(row["released_at"]), row[table]) for row in reversed(releases)] for table in MAIN_TABLES
        },
        previous_id=releases[1]["release_id"] if len(releases) > 1 else None,
        changes=changes_of(live, live.release_id),
        failures=failures,
        passed=live.value("select count(*) from expectation_results where success"),
    )


def newer_on_disk(live: Live) -> str | None:
    """The newest kept release when it is newer than the live one: somebody rolled back."""
    newest = max((path.parent.name for path in live.root.releases.glob("[0-9]*/release.json")), default="")
    return newest if newest > live.release_id else None


def _source(row: dict[str, Any], now: datetime) -> Source:
    as_of = row["as_of"]
    age: timedelta | None = None if as_of is None else now - as_of.replace(tzinfo=UTC)
    return Source(row["table_name"], row["rows"], moment(as_of), age)
