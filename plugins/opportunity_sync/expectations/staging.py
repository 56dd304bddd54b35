"""Suites over `staging.<relation>`: is what Dynamics sent complete and plausible?

Critical: keys are unique and present, every row has a version number above zero, every customer has a type. Without
these the newest version of a row or its account cannot be decided.

Warning: implausible values that are published as they are: probability outside 0 to 100, a state outside the documented
ones, modified before created, a connection that ends before it starts, a merged row without the row it was merged into.
"""

from __future__ import annotations

from typing import Any

from opportunity_sync.expectations import Suite
from opportunity_sync.expectations.gx import import_gx
from opportunity_sync.expectations.rows import no_rows

STATES = {"opportunities": (0, 1, 2), "contacts": (0, 1), "accounts": (0, 1), "connections": (0, 1)}
"""Documented values of `statecode`: Open, Won, Lost for opportunities; Active, Inactive for the others."""


def suites() -> list[Suite]:
    """One suite per staging relation."""
    gxe = import_gx().expectations
    return [
        _suite(
            "opportunities",
            "opportunity_id",
            gxe.ExpectColumnValuesToBeBetween(
                column="close_probability", min_value=0, max_value=100, severity="warning"
            ),
            no_rows(
                "customer_has_a_type",
                """
                select opportunity_id from checked where customer_id is not null and customer_type is null
                """,
                severity="critical",
            ),
        ),
        _suite("contacts", "contact_id", _merged_rows_have_a_master("contact_id")),
        _suite("accounts", "account_id", _merged_rows_have_a_master("account_id")),
        _suite(
            "connections",
            "connection_id",
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="effective_end",
                column_B="effective_start",
                or_equal=True,
                ignore_row_if="either_value_is_missing",
                severity="warning",
            ),
        ),
        _suite(
            "connection_roles",
            "connection_role_id",
            gxe.ExpectColumnValuesToNotBeNull(column="name", severity="warning"),
        ),
    ]


def _suite(relation: str, key: str, *more: Any) -> Suite:
    gxe = import_gx().expectations
    states = (
        [gxe.ExpectColumnValuesToBeInSet(column="state_code", value_set=list(STATES[relation]), severity="warning")]
        if relation in STATES
        else []
    )
    return Suite(
        name="staging",
        relation=relation,
        key=(key,),
        expectations=(
            gxe.ExpectColumnValuesToNotBeNull(column=key, severity="critical"),
            gxe.ExpectColumnValuesToBeUnique(column=key, severity="critical"),
            gxe.ExpectColumnValuesToNotBeNull(column="version_number", severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(
                column="version_number", min_value=0, strict_min=True, severity="critical"
            ),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="modified_at",
                column_B="created_at",
                or_equal=True,
                ignore_row_if="either_value_is_missing",
                severity="warning",
            ),
            *states,
            *more,
        ),
    )


def _merged_rows_have_a_master(key: str) -> Any:
    return no_rows(
        "merged_rows_have_a_master",
        f"select {key} from checked where is_merged and master_id is null",
        severity="warning",
    )
