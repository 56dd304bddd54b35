"""Suites over the candidate as a whole.

Critical: the row counts of the main tables agree with staging, and none has collapsed: a release with less than
`minimum_rows_share` of the live release's rows in a main table stops, because far more often than not that is a broken
read and not a sudden loss of half the business. A live table of fewer than `SMALL` rows sets no minimum, and neither
does a data root without a live release. A legitimate collapse is accepted once with
`opportunity-sync publish RELEASE_ID --accept-collapse`.

Warning: a source table was last read completely longer ago than `freshness_hours`, or never; the share of references
without a target is above `unresolved_share`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from opportunity_sync.expectations import Suite
from opportunity_sync.expectations.gx import import_gx
from opportunity_sync.expectations.rows import no_rows
from opportunity_sync.release import MAIN_TABLES

SMALL = 20
"""Live tables with fewer rows than this may shrink freely."""


@dataclass(frozen=True)
class Expected:
    """What these suites must know from outside the candidate."""

    staging_rows: Mapping[str, int]
    """Rows that main tables must have, counted in staging; empty when the warehouse holds newer batches by now."""
    live_rows: Mapping[str, int]
    """Rows per table of the live release; empty when there is none."""
    minimum_rows_share: float
    freshness_hours: float
    unresolved_share: float
    now: datetime


def suites(expected: Expected) -> list[Suite]:
    """Suites over the main tables, `release_tables` and `unresolved_references`."""
    gxe = import_gx().expectations
    oldest = (expected.now.astimezone(UTC) - timedelta(hours=expected.freshness_hours)).replace(tzinfo=None)
    found = []
    for table, key in MAIN_TABLES.items():
        live = expected.live_rows.get(table, 0)
        minimum = 0 if live < SMALL else ceil(expected.minimum_rows_share * live)
        counts = [gxe.ExpectTableRowCountToBeBetween(min_value=minimum, severity="critical")]
        if table in expected.staging_rows:
            counts.append(gxe.ExpectTableRowCountToEqual(value=expected.staging_rows[table], severity="critical"))
        found.append(Suite(name="release", relation=table, key=key, expectations=tuple(counts)))
    fresh = no_rows(
        "source_table_is_fresh",
        f"""
        select table_name, cast(as_of as varchar) as as_of from checked
        where as_of is null or as_of < timestamp '{oldest.isoformat(sep=" ")}'
        """,
        severity="warning",
    )
    found.append(Suite(name="release", relation="release_tables", key=("table_name",), expectations=(fresh,)))
    resolved = no_rows(
        "few_references_are_unresolved",
        f"""
        select relation, key, reference, target_id from checked
        where (select count(*) from checked) > {expected.unresolved_share} * (
            (select count(customer_id) from opportunities)
            + (select count(account_id) from contacts)
            + (select count(*) from opportunity_contact_roles where role_source = 'stakeholder')
            + (select count(*) from checked where relation not in ('opportunities', 'contacts'))
        )
        """,
        severity="warning",
    )
    found.append(
        Suite(
            name="release",
            relation="unresolved_references",
            key=("relation", "key", "reference"),
            expectations=(resolved,),
        )
    )
    return found
