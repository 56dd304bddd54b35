"""Facts of the pages Releases and Release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opportunity_sync.pages.live import Live
from opportunity_sync.release import MAIN_TABLES

PAGE = 50
"""Releases, or changes, on one page."""
COLUMNS_SHOWN = 12


@dataclass(frozen=True)
class Changes:
    """What a release changed against the one before it."""

    tables: list[dict[str, Any]]
    """Per main table the rows `inserted`, `updated` and `deleted`."""
    columns: list[dict[str, Any]]
    """The columns that changed in most rows: `table_name`, `column_name`, `changed`."""
    total: int


@dataclass(frozen=True)
class ReleaseFacts:
    """One release, also one that is no longer on disk."""

    release: dict[str, Any]
    previous_id: str | None
    next_id: str | None
    changes: Changes
    table: str | None
    """The table that the list of changed rows is restricted to."""
    changed_rows: list[dict[str, Any]]
    page: int
    pages: int
    results: list[dict[str, Any]]
    """Expectation results, failed ones first."""


def changes_of(live: Live, release_id: str) -> Changes:
    """Count what a release changed."""
    counted = live.rows(
        """
        select table_name, change, count(*) as rows from release_changes where release_id = ? group by all
        """,
        [release_id],
    )
    found = {(row["table_name"], row["change"]): row["rows"] for row in counted}
    kinds = ("inserted", "updated", "deleted")
    columns = live.rows(
        """
        with
        changed as (
            select table_name, unnest(changed_columns) as column_name
            from release_changes where release_id = ? and change = 'updated'
        )

        select table_name, column_name, count(*) as changed
        from changed
        group by all
        order by changed desc, table_name, column_name
        limit ?
        """,
        [release_id, COLUMNS_SHOWN],
    )
    tables = [{"table": table} | {kind: found.get((table, kind), 0) for kind in kinds} for table in MAIN_TABLES]
    return Changes(tables, columns, sum(found.values()))


def list_releases(live: Live, page: int) -> tuple[list[dict[str, Any]], int]:
    """One page of the releases since the history began, newest first, with what each changed; and how many pages."""
    count = live.value("select count(*) from releases")
    found = live.rows(
        """
        with
        shown as (select * from releases order by release_id desc limit $limit offset $offset),
        bounds as (select min(release_id) as first, max(release_id) as last from shown),
        changes as (
            select release_id, count(*) as changed from release_changes
            where release_id between (select first from bounds) and (select last from bounds)
            group by release_id
        ),
        results as (
            select
                release_id,
                count(*) filter (success) as passed,
                count(*) filter (not success) as failed
            from expectation_results_history
            where release_id between (select first from bounds) and (select last from bounds)
            group by release_id
        )

        select shown.*, coalesce(changed, 0) as changed, coalesce(passed, 0) as passed, coalesce(failed, 0) as failed
        from shown
        left join changes using (release_id)
        left join results using (release_id)
        order by release_id desc
        """,
        {"limit": PAGE, "offset": (page - 1) * PAGE},
    )
    return found, max(-(-count // PAGE), 1)


def release_facts(live: Live, release_id: str, *, table: str | None, page: int) -> ReleaseFacts | None:
    """One release; None when there was none of that id since the history began."""
    found = live.rows("select * from releases where release_id = ?", [release_id])
    if not found:
        return None
    ((previous_id, next_id),) = live.connection.execute(
        """
        select
            max(release_id) filter (release_id < $id), min(release_id) filter (release_id > $id)
        from releases
        """,
        {"id": release_id},
    ).fetchall()
    changes = changes_of(live, release_id)
    listed = [row for row in changes.tables if table in (None, row["table"])]
    count = sum(row["inserted"] + row["updated"] + row["deleted"] for row in listed)
    return ReleaseFacts(
        release=found[0],
        previous_id=previous_id,
        next_id=next_id,
        changes=changes,
        table=table,
        changed_rows=_changed_rows(live, release_id, table, page) if count else [],
        page=page,
        pages=max(-(-count // PAGE), 1),
        results=live.rows(
            """
            select suite, relation, expectation, column_name, severity, success, unexpected_count, element_count
            from expectation_results_history where release_id = ?
            order by success, severity, suite, relation, expectation, column_name
            """,
            [release_id],
        ),
    )


def release_ids(live: Live, moments: list[datetime]) -> dict[datetime, str]:
    """Which release was built at each of some moments."""
    found = live.rows("select released_at, release_id from releases where list_contains(?, released_at)", [moments])
    return {row["released_at"]: row["release_id"] for row in found}


def _changed_rows(live: Live, release_id: str, table: str | None, page: int) -> list[dict[str, Any]]:
    """Changes in the order in which they were noted, which is by table; sorting would read all of a large release."""
    return live.rows(
        """
        with
        shown as (
            select row_number() over () as position, * from (
                select table_name, key, contact_id, role, change, changed_columns from release_changes
                where release_id = $release and table_name = coalesce($table, table_name)
                limit $limit offset $offset
            )
        )

        select shown.*, coalesce(opportunities.name, contacts.full_name, accounts.name) as name
        from shown
        left join opportunities
            on table_name in ('opportunities', 'opportunity_contact_roles') and opportunities.opportunity_id = shown.key
        left join contacts on table_name = 'contacts' and contacts.contact_id = shown.key
        left join accounts on table_name = 'accounts' and accounts.account_id = shown.key
        order by position
        """,
        {"release": release_id, "table": table, "limit": PAGE, "offset": (page - 1) * PAGE},
    )
