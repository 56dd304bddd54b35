"""Columns and values of the organisation that is measured, as DuckDB expressions.

One definition serves both sides: `pages.py` renders it as Web API JSON, `lakes.py` writes it as Parquet batches. Every
expression is a function of the row number `i` alone, so any slice of any table can be made by itself; macros and
variables come from `organization.prepare`. Columns and types are those of the tables in Dynamics 365 Sales.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchColumn:
    """One column: its Dataverse attribute type and its value as a DuckDB expression of `i`."""

    name: str
    attribute_type: str
    value: str
    target: str | None = None
    """Expression giving the logical name of a lookup's target table."""
    several_targets: bool = False
    date_only: bool = False

    @property
    def is_lookup(self) -> bool:
        """Whether the Web API calls it `_<name>_value`."""
        return self.target is not None

    @property
    def api_name(self) -> str:
        """Name of the property in Web API answers."""
        return f"_{self.name}_value" if self.is_lookup else self.name

    @property
    def duckdb_type(self) -> str:
        """Type in Parquet."""
        return "DATE" if self.date_only else DUCKDB_TYPES[self.attribute_type]


DUCKDB_TYPES = {
    "Uniqueidentifier": "UUID",
    "Lookup": "UUID",
    "Customer": "UUID",
    "Owner": "UUID",
    "String": "VARCHAR",
    "Memo": "VARCHAR",
    "EntityName": "VARCHAR",
    "Picklist": "INTEGER",
    "State": "INTEGER",
    "Status": "INTEGER",
    "Integer": "INTEGER",
    "BigInt": "BIGINT",
    "Boolean": "BOOLEAN",
    "Money": "DECIMAL(19,4)",
    "Decimal": "DECIMAL(38,10)",
    "DateTime": "TIMESTAMP",
}


def _money(name: str, salt: int, share: float = 1.0) -> BenchColumn:
    amount = f"(below(i, {salt}, 9000000) / 100)::decimal(19,4)"
    return BenchColumn(name, "Money", f"case when chance(i, {salt + 1000}) < {share} then {amount} end")


def _lookup(name: str, kind: str, bound: str, salt: int, share: float = 1.0) -> BenchColumn:
    value = f"case when chance(i, {salt + 1000}) < {share} then guid('{kind}', below(i, {salt}, {bound})) end"
    return BenchColumn(name, "Lookup", value, target=f"'{kind}'")


def _stamps(salt: int) -> tuple[BenchColumn, ...]:
    return (
        BenchColumn("createdon", "DateTime", f"moment(i, {salt})"),
        BenchColumn("modifiedon", "DateTime", f"moment(i, {salt}) + to_seconds(below(i, {salt + 1}, 900000))"),
        BenchColumn("versionnumber", "BigInt", "10000000 + i"),
    )


_CUSTOMER = """case when chance(i, 1) < 0.72 then guid('account', below(i, 2, getvariable('accounts')))
    when chance(i, 1) < 0.97 then guid('contact', below(i, 2, getvariable('contacts'))) end"""
_CUSTOMER_TYPE = "case when chance(i, 1) < 0.72 then 'account' when chance(i, 1) < 0.97 then 'contact' end"
_STATE = "case when chance(i, 3) < 0.45 then 0 when chance(i, 3) < 0.75 then 1 else 2 end"

OPPORTUNITY: tuple[BenchColumn, ...] = (
    BenchColumn("opportunityid", "Uniqueidentifier", "guid('opportunity', i)"),
    BenchColumn("name", "String", "sentence(i, 4, 28)"),
    BenchColumn("customerid", "Customer", _CUSTOMER, target=_CUSTOMER_TYPE, several_targets=True),
    BenchColumn("statecode", "State", _STATE),
    BenchColumn("statuscode", "Status", f"case ({_STATE}) when 0 then 1 when 1 then 3 else 4 end"),
    _money("estimatedvalue", 5),
    _money("estimatedvalue_base", 5),
    _money("actualvalue", 6, 0.5),
    _money("actualvalue_base", 6, 0.5),
    _lookup("transactioncurrencyid", "transactioncurrency", "4", 7),
    BenchColumn("estimatedclosedate", "DateTime", "day(i, 8)", date_only=True),
    BenchColumn(
        "actualclosedate", "DateTime", f"case when ({_STATE}) <> 0 then day(i, 8) + 20 end::date", date_only=True
    ),
    BenchColumn("closeprobability", "Integer", "below(i, 9, 101)"),
    BenchColumn("salesstage", "Picklist", "below(i, 10, 4)"),
    BenchColumn(
        "ownerid", "Owner", "guid('systemuser', below(i, 11, 250))", target="'systemuser'", several_targets=True
    ),
    *_stamps(12),
    _lookup("parentaccountid", "account", "getvariable('accounts')", 14, 0.7),
    _lookup("parentcontactid", "contact", "getvariable('contacts')", 15, 0.3),
    BenchColumn("description", "Memo", "sentence(i, 16, 100)"),
    BenchColumn("currentsituation", "Memo", "case when chance(i, 17) < 0.5 then sentence(i, 17, 60) end"),
    BenchColumn("customerneed", "Memo", "case when chance(i, 18) < 0.5 then sentence(i, 18, 60) end"),
    BenchColumn("emailaddress", "String", "'buyer' || below(i, 19, 400000) || '@example.com'"),
    BenchColumn("stepname", "String", "pick(['1-Qualify', '2-Develop', '3-Propose', '4-Close'], i, 10)"),
    _money("budgetamount", 20, 0.6),
    _money("budgetamount_base", 20, 0.6),
    _money("totalamount", 21),
    _money("totallineitemamount", 22, 0.8),
    BenchColumn("discountpercentage", "Decimal", "(below(i, 23, 4000) / 100)::decimal(38,10)"),
    BenchColumn("exchangerate", "Decimal", "(0.8 + below(i, 24, 4) / 10)::decimal(38,10)"),
    BenchColumn("opportunityratingcode", "Picklist", "1 + below(i, 25, 3)"),
    BenchColumn("prioritycode", "Picklist", "1"),
    BenchColumn("purchasetimeframe", "Picklist", "case when chance(i, 26) < 0.7 then below(i, 26, 5) end"),
    _lookup("originatingleadid", "lead", "500000", 28, 0.4),
    BenchColumn("timezoneruleversionnumber", "Integer", "4"),
    BenchColumn("utcconversiontimezonecode", "Integer", "case when chance(i, 29) < 0.5 then 110 end"),
    BenchColumn("developproposal", "Boolean", "chance(i, 30) < 0.3"),
    BenchColumn("evaluatefit", "Boolean", "case when chance(i, 31) < 0.6 then chance(i, 27) < 0.5 end"),
    BenchColumn("isrevenuesystemcalculated", "Boolean", "chance(i, 32) < 0.5"),
    BenchColumn("decisionmaker", "Boolean", "case when chance(i, 33) < 0.8 then chance(i, 34) < 0.5 end"),
)
"""41 columns, about 1.6 kB per row as Web API JSON."""

_MERGED_CONTACT = "(i % 50 = 7)"
_MERGED_ACCOUNT = "(i % 100 = 7)"
_PARENT = """case when chance(i, 43) < 0.9 then guid('account', below(i, 44, getvariable('accounts')))
    when chance(i, 43) < 0.92 then guid('contact', below(i, 44, getvariable('contacts'))) end"""
_PARENT_TYPE = "case when chance(i, 43) < 0.9 then 'account' when chance(i, 43) < 0.92 then 'contact' end"

CONTACT: tuple[BenchColumn, ...] = (
    BenchColumn("contactid", "Uniqueidentifier", "guid('contact', i)"),
    BenchColumn("fullname", "String", "'Person ' || i || ' ' || below(i, 41, 900)"),
    BenchColumn("emailaddress1", "String", "'person' || i || '@example.com'"),
    BenchColumn("parentcustomerid", "Customer", _PARENT, target=_PARENT_TYPE, several_targets=True),
    BenchColumn("merged", "Boolean", _MERGED_CONTACT),
    BenchColumn("masterid", "Lookup", f"case when {_MERGED_CONTACT} then guid('contact', i - 1) end", "'contact'"),
    BenchColumn("statecode", "State", f"case when {_MERGED_CONTACT} or chance(i, 45) < 0.04 then 1 else 0 end"),
    *_stamps(46),
)

ACCOUNT: tuple[BenchColumn, ...] = (
    BenchColumn("accountid", "Uniqueidentifier", "guid('account', i)"),
    BenchColumn("name", "String", "sentence(i, 51, 20) || ' Ltd ' || i"),
    BenchColumn("merged", "Boolean", _MERGED_ACCOUNT),
    BenchColumn("masterid", "Lookup", f"case when {_MERGED_ACCOUNT} then guid('account', i - 1) end", "'account'"),
    BenchColumn("statecode", "State", f"case when {_MERGED_ACCOUNT} or chance(i, 52) < 0.04 then 1 else 0 end"),
    *_stamps(53),
)

# Rows 2p and 2p + 1 are the two stored ends of connection p: between an opportunity and a contact (three quarters) or
# a user. Even rows have the opportunity as record 1.
_PAIR = "(i // 2)"
_IS_CONTACT = f"chance({_PAIR}, 61) < 0.75"
_OPPORTUNITY_END = f"guid('opportunity', below({_PAIR}, 62, getvariable('opportunities')))"
_OTHER_END = f"""case when {_IS_CONTACT} then guid('contact', below({_PAIR}, 63, getvariable('contacts')))
    else guid('systemuser', below({_PAIR}, 63, 250)) end"""
_OTHER_TYPE = f"case when {_IS_CONTACT} then 'contact' else 'systemuser' end"
_OTHER_CODE = f"case when {_IS_CONTACT} then 2 else 8 end"
_OTHER_ROLE = f"case when chance({_PAIR}, 64) < 0.95 then guid('connectionrole', below({_PAIR}, 65, 30)) end"


def _side(first: str, second: str) -> str:
    return f"case when i % 2 = 0 then {first} else {second} end"


CONNECTION: tuple[BenchColumn, ...] = (
    BenchColumn("connectionid", "Uniqueidentifier", "guid('connection', i)"),
    BenchColumn(
        "record1id",
        "Lookup",
        _side(_OPPORTUNITY_END, _OTHER_END),
        target=_side("'opportunity'", _OTHER_TYPE),
        several_targets=True,
    ),
    BenchColumn("record1objecttypecode", "Picklist", _side("3", _OTHER_CODE)),
    BenchColumn("record1roleid", "Lookup", _side("null::uuid", _OTHER_ROLE), "'connectionrole'"),
    BenchColumn(
        "record2id",
        "Lookup",
        _side(_OTHER_END, _OPPORTUNITY_END),
        target=_side(_OTHER_TYPE, "'opportunity'"),
        several_targets=True,
    ),
    BenchColumn("record2objecttypecode", "Picklist", _side(_OTHER_CODE, "3")),
    BenchColumn("record2roleid", "Lookup", _side(_OTHER_ROLE, "null::uuid"), "'connectionrole'"),
    BenchColumn(
        "effectivestart", "DateTime", f"case when chance({_PAIR}, 66) < 0.2 then day({_PAIR}, 66)::timestamp end"
    ),
    BenchColumn(
        "effectiveend", "DateTime", f"case when chance({_PAIR}, 67) < 0.05 then day({_PAIR}, 67)::timestamp end"
    ),
    BenchColumn("statecode", "State", f"case when chance({_PAIR}, 68) < 0.05 then 1 else 0 end"),
    *_stamps(69),
)

CONNECTIONROLE: tuple[BenchColumn, ...] = (
    BenchColumn("connectionroleid", "Uniqueidentifier", "guid('connectionrole', i)"),
    BenchColumn("name", "String", "'Role ' || i"),
    BenchColumn("category", "Picklist", "case when i % 3 < 2 then 1000 else 1001 end"),
    BenchColumn("statecode", "State", "0"),
    *_stamps(71),
)

TABLES: dict[str, tuple[BenchColumn, ...]] = {
    "opportunity": OPPORTUNITY,
    "connection": CONNECTION,
    "contact": CONTACT,
    "account": ACCOUNT,
    "connectionrole": CONNECTIONROLE,
}
CHOICES: dict[str, dict[int, str]] = {
    "opportunity.statecode": {0: "Open", 1: "Won", 2: "Lost"},
    "opportunity.statuscode": {1: "In Progress", 2: "On Hold", 3: "Won", 4: "Canceled", 5: "Out-Sold"},
    "opportunity.salesstage": {0: "Qualify", 1: "Develop", 2: "Propose", 3: "Close"},
    "opportunity.opportunityratingcode": {1: "Hot", 2: "Warm", 3: "Cold"},
    "opportunity.prioritycode": {1: "Default Value"},
    "opportunity.purchasetimeframe": {
        0: "Immediate",
        1: "This Quarter",
        2: "Next Quarter",
        3: "This Year",
        4: "Unknown",
    },
    "contact.statecode": {0: "Active", 1: "Inactive"},
    "account.statecode": {0: "Active", 1: "Inactive"},
    "connection.statecode": {0: "Active", 1: "Inactive"},
    "connection.record1objecttypecode": {2: "Contact ", 3: "Opportunity", 8: "User"},
    "connection.record2objecttypecode": {2: "Contact ", 3: "Opportunity", 8: "User"},
    "connectionrole.statecode": {0: "Active", 1: "Inactive"},
    "connectionrole.category": {1000: "Stakeholder", 1001: "Sales Team"},
}
