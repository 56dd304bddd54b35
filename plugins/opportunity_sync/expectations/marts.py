"""Suites over the candidate's tables: does it keep the analysts' contract?

Everything is critical here, because each rule is a promise of the contract: columns and types, unique and present keys,
references that lead somewhere, derived columns that agree with what they are derived from. Two exceptions are warnings:
an account kept without a name, since the contract says that this happens when the account was not extracted, and a
customer that is neither an account nor a contact, which has no account by rule 2.8.
"""

from __future__ import annotations

from typing import Any

from opportunity_sync.expectations import Suite
from opportunity_sync.expectations.contract import columns_match
from opportunity_sync.expectations.gx import import_gx
from opportunity_sync.expectations.rows import no_rows
from opportunity_sync.tables import READ_ORDER

ACCOUNT_RULES = (
    "customer_is_account",
    "account_of_customer_contact",
    "customer_contact_has_no_account",
    "customer_contact_missing",
    "customer_of_another_type",
    "no_customer",
)
"""Values of `account_rule`, rules section 2."""
ROLE_SOURCES = ("customer", "stakeholder")


def suites() -> list[Suite]:
    """One suite per published table."""
    return [
        _opportunities(),
        _roles(),
        _suite("contacts", ("contact_id",)),
        _suite("accounts", ("account_id",)),
        _release(),
        _release_tables(),
        _suite("reconciliations", ("table_name",)),
        _suite("unresolved_references", ("relation", "key", "reference")),
    ]


def _opportunities() -> Suite:
    gxe = import_gx().expectations
    return _suite(
        "opportunities",
        ("opportunity_id",),
        gxe.ExpectColumnValuesToNotBeNull(column="account_rule", severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="account_rule", value_set=list(ACCOUNT_RULES), severity="critical"),
        gxe.ExpectColumnValuesToBeInSet(column="customer_type", value_set=["account", "contact"], severity="warning"),
        gxe.ExpectColumnValuesToBeBetween(column="version_number", min_value=0, strict_min=True, severity="critical"),
        no_rows(
            "account_agrees_with_rule",
            """
            select opportunity_id, account_id from checked
            where not coalesce(case account_rule
                when 'customer_is_account' then customer_type = 'account' and account_id = customer_id
                when 'account_of_customer_contact' then customer_type = 'contact' and account_id is not null
                when 'customer_contact_has_no_account' then customer_type = 'contact' and account_id is null
                when 'customer_contact_missing' then customer_id is not null and account_id is null
                when 'customer_of_another_type'
                    then customer_id is not null and customer_type not in ('account', 'contact') and account_id is null
                when 'no_customer' then customer_id is null and account_id is null
            end, false)
            """,
            severity="critical",
        ),
        no_rows(
            "state_flags_agree_with_state",
            """
            select opportunity_id, state_code, is_closed, is_won from checked
            where is_closed is distinct from (state_code <> 0) or is_won is distinct from (state_code = 1)
            """,
            severity="critical",
        ),
        no_rows(
            "customer_contact_has_primary_role",
            """
            select checked.opportunity_id, checked.customer_id from checked
            semi join contacts on contacts.contact_id = checked.customer_id
            anti join opportunity_contact_roles as roles
                on roles.opportunity_id = checked.opportunity_id
                and roles.contact_id = checked.customer_id
                and roles.is_primary
            where checked.customer_type = 'contact'
            """,
            severity="critical",
        ),
        no_rows(
            "account_has_a_name",
            "select opportunity_id, account_id from checked where account_id is not null and account_name is null",
            severity="warning",
        ),
    )


def _roles() -> Suite:
    gxe = import_gx().expectations
    key = ("opportunity_id", "contact_id", "role")
    return _suite(
        "opportunity_contact_roles",
        key,
        gxe.ExpectColumnValuesToBeInSet(column="role_source", value_set=list(ROLE_SOURCES), severity="critical"),
        no_rows(
            "role_has_its_opportunity",
            """
            select checked.opportunity_id, checked.contact_id, checked.role from checked
            anti join opportunities on opportunities.opportunity_id = checked.opportunity_id
            """,
            severity="critical",
        ),
        no_rows(
            "role_has_its_contact",
            """
            select checked.opportunity_id, checked.contact_id, checked.role from checked
            anti join contacts on contacts.contact_id = checked.contact_id
            """,
            severity="critical",
        ),
        no_rows(
            "at_most_one_primary_role",
            "select opportunity_id from checked where is_primary group by opportunity_id having count(*) > 1",
            severity="critical",
        ),
        no_rows(
            "primary_exactly_when_from_customer",
            """
            select opportunity_id, contact_id, role from checked
            where is_primary is distinct from (role_source = 'customer')
            """,
            severity="critical",
        ),
        no_rows(
            "primary_role_is_the_customer",
            """
            select checked.opportunity_id, checked.contact_id, checked.role from checked
            inner join opportunities on opportunities.opportunity_id = checked.opportunity_id
            where
                checked.is_primary
                and (
                    opportunities.customer_type is distinct from 'contact'
                    or opportunities.customer_id is distinct from checked.contact_id
                )
            """,
            severity="critical",
        ),
    )


def _release() -> Suite:
    gxe = import_gx().expectations
    return _suite("release", ("release_id",), gxe.ExpectTableRowCountToEqual(value=1, severity="critical"))


def _release_tables() -> Suite:
    gxe = import_gx().expectations
    return _suite(
        "release_tables",
        ("table_name",),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="table_name", value_set=list(READ_ORDER), severity="critical"),
    )


def _suite(relation: str, key: tuple[str, ...], *more: Any) -> Suite:
    """The expectations every published table has, and more."""
    gxe = import_gx().expectations
    unique = (
        gxe.ExpectColumnValuesToBeUnique(column=key[0], severity="critical")
        if len(key) == 1
        else gxe.ExpectCompoundColumnsToBeUnique(column_list=list(key), severity="critical")
    )
    return Suite(
        name="marts",
        relation=relation,
        key=key,
        expectations=(
            columns_match(relation),
            *(gxe.ExpectColumnValuesToNotBeNull(column=column, severity="critical") for column in key),
            unique,
            *more,
        ),
    )
