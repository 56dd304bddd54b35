"""Every expectation passes on a healthy organisation and fails on data that breaks exactly its rule."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opportunity_sync import validate
from opportunity_sync.data_root import DataRoot
from opportunity_sync.expectations import Outcome, Suite
from opportunity_sync.release import DATABASE, Release
from opportunity_sync.tables import CORE
from tests.small_organisation import build, extract, organisation, settings_for

pytestmark = pytest.mark.slow

Name = tuple[str, str, str, str | None]
"""Suite, relation, expectation and column: what identifies an expectation."""

NOT_NULL, UNIQUE, COMPOUND_UNIQUE = (
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
)
BETWEEN, IN_SET, ORDERED = (
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_in_set",
    "expect_column_pair_values_a_to_be_greater_than_b",
)
ROW_COUNT, ROW_COUNT_BETWEEN = "expect_table_row_count_to_equal", "expect_table_row_count_to_be_between"


@dataclass(frozen=True)
class Case:
    """SQL that breaks one rule; run in the warehouse for suite `staging`, else in the candidate."""

    name: Name
    sql: str

    def __str__(self) -> str:
        return "-".join(str(part) for part in self.name if part)


def staging_cases() -> list[Case]:
    """What all staging relations have in common; their views read `current.<table>`."""
    relations = {
        "opportunities": ("opportunity", "opportunity_id"),
        "contacts": ("contact", "contact_id"),
        "accounts": ("account", "account_id"),
        "connections": ("connection", "connection_id"),
        "connection_roles": ("connectionrole", "connection_role_id"),
    }
    cases = []
    for relation, (table, key) in relations.items():
        source = next(iter(CORE[table]))

        def case(expectation: str, column: str, sql: str, relation: str = relation) -> None:
            cases.append(Case(("staging", relation, expectation, column), sql))

        case(NOT_NULL, key, f"update current.{table} set {source} = null where {one(table)}")
        case(UNIQUE, key, f"insert into current.{table} select * from current.{table} where {one(table)}")
        case(NOT_NULL, "version_number", f"update current.{table} set versionnumber = null where {one(table)}")
        case(BETWEEN, "version_number", f"update current.{table} set versionnumber = 0 where {one(table)}")
        case(
            ORDERED,
            "modified_at, created_at",
            f"update current.{table} set modifiedon = timestamp '2020-01-01' where {one(table)}",
        )
        if relation != "connection_roles":
            case(IN_SET, "state_code", f"update current.{table} set statecode = 7 where {one(table)}")
        if relation in ("contacts", "accounts"):
            cases.append(
                Case(
                    ("staging", relation, "merged_rows_have_a_master", None),
                    f"update current.{table} set merged = true, masterid = null where {one(table)}",
                )
            )
    return cases


def one(table: str) -> str:
    """A condition that picks one row."""
    key = next(iter(CORE[table]))
    return f"{key} = (select min({key}) from current.{table})"


EXTRACTED: list[Name] = [
    ("extracted", table, "expect_column_to_exist", column) for table, columns in CORE.items() for column in columns
]
"""Broken one table at a time by the two tests about columns that are gone."""

MART_KEYS = {
    "opportunities": ("opportunity_id",),
    "opportunity_contact_roles": ("opportunity_id", "contact_id", "role"),
    "contacts": ("contact_id",),
    "accounts": ("account_id",),
    "release": ("release_id",),
    "release_tables": ("table_name",),
    "reconciliations": ("table_name",),
    "unresolved_references": ("relation", "key", "reference"),
}
UNRESOLVED = "insert into unresolved_references values ('accounts', uuid(), 'masterid', 'account', uuid());"
SWEPT = "insert into reconciliations values ('account', timestamp '2026-06-01', 1, 0, 0, 0, 0, 'batch');"
FILL = {"unresolved_references": UNRESOLVED, "reconciliations": SWEPT}
"""A row for what is empty in a sound release."""


def mart_cases() -> list[Case]:
    """What all published tables have in common."""
    cases = []
    for relation, key in MART_KEYS.items():
        fill = FILL.get(relation, "")
        last = MART_COLUMNS[relation]
        cases.append(
            Case(("marts", relation, "columns_match_the_contract", None), f"alter table {relation} drop column {last}")
        )
        for column in key:
            cases.append(Case(("marts", relation, NOT_NULL, column), f"{fill} update {relation} set {column} = null"))
        cases.append(
            Case(
                ("marts", relation, UNIQUE if len(key) == 1 else COMPOUND_UNIQUE, ", ".join(key)),
                f"{fill} insert into {relation} select * from {relation} limit 1",
            )
        )
    return cases


MART_COLUMNS = {
    "opportunities": "amount",
    "opportunity_contact_roles": "connected_at",
    "contacts": "email",
    "accounts": "modified_at",
    "release": "run_id",
    "release_tables": "as_of",
    "reconciliations": "repaired",
    "unresolved_references": "target_id",
}


def flip(column: str, value: str, where: str = "true") -> str:
    """Change one opportunity."""
    return (
        f"update opportunities set {column} = {value} "
        f"where opportunity_id = (select min(opportunity_id) from opportunities where {where})"
    )


RULE_CASES = [
    Case(
        ("staging", "opportunities", BETWEEN, "close_probability"),
        f"update current.opportunity set closeprobability = 101 where {one('opportunity')}",
    ),
    Case(
        ("staging", "opportunities", "customer_has_a_type", None),
        "update current.opportunity set customerid_type = null where customerid is not null",
    ),
    Case(
        ("staging", "connections", ORDERED, "effective_end, effective_start"),
        f"update current.connection set effectiveend = timestamp '2020-01-01' where {one('connection')}",
    ),
    Case(("staging", "connection_roles", NOT_NULL, "name"), "update current.connectionrole set name = null"),
    Case(("marts", "opportunities", NOT_NULL, "account_rule"), flip("account_rule", "null")),
    Case(("marts", "opportunities", IN_SET, "account_rule"), flip("account_rule", "'guess'")),
    Case(("marts", "opportunities", IN_SET, "customer_type"), flip("customer_type", "'lead'")),
    Case(("marts", "opportunities", BETWEEN, "version_number"), flip("version_number", "0")),
    Case(
        ("marts", "opportunities", "account_agrees_with_rule", None),
        flip("account_id", "null", "account_rule = 'customer_is_account'"),
    ),
    Case(("marts", "opportunities", "state_flags_agree_with_state", None), flip("is_closed", "true", "state_code = 0")),
    Case(
        ("marts", "opportunities", "customer_contact_has_primary_role", None),
        "delete from opportunity_contact_roles where is_primary",
    ),
    Case(
        ("marts", "opportunities", "account_has_a_name", None),
        flip("account_name", "null", "account_id is not null"),
    ),
    Case(
        ("marts", "opportunity_contact_roles", IN_SET, "role_source"),
        "update opportunity_contact_roles set role_source = 'guess' where role_source = 'stakeholder'",
    ),
    Case(
        ("marts", "opportunity_contact_roles", "role_has_its_opportunity", None),
        "update opportunity_contact_roles set opportunity_id = uuid()",
    ),
    Case(
        ("marts", "opportunity_contact_roles", "role_has_its_contact", None),
        "update opportunity_contact_roles set contact_id = uuid()",
    ),
    Case(
        ("marts", "opportunity_contact_roles", "at_most_one_primary_role", None),
        "insert into opportunity_contact_roles "
        "select * replace ('Another' as role) from opportunity_contact_roles where is_primary limit 1",
    ),
    Case(
        ("marts", "opportunity_contact_roles", "primary_exactly_when_from_customer", None),
        "update opportunity_contact_roles set is_primary = false",
    ),
    Case(
        ("marts", "opportunity_contact_roles", "primary_role_is_the_customer", None),
        flip("customer_id", "uuid()", "account_rule = 'account_of_customer_contact'"),
    ),
    Case(
        ("marts", "release", ROW_COUNT, None),
        "insert into release select * replace ('another' as release_id) from release",
    ),
    Case(
        ("marts", "release_tables", "expect_column_distinct_values_to_equal_set", "table_name"),
        "delete from release_tables where table_name = 'contact'",
    ),
    *(
        Case(("release", table, ROW_COUNT_BETWEEN, None), f"delete from {table} where hash({key}) % 3 > 0")
        for table, (key, *_) in list(MART_KEYS.items())[:4]
    ),
    *(
        Case(
            ("release", table, ROW_COUNT, None),
            f"delete from {table} where {key} = (select min({key}) from {table})",
        )
        for table, key in (("opportunities", "opportunity_id"), ("contacts", "contact_id"), ("accounts", "account_id"))
    ),
    Case(
        ("release", "release_tables", "source_table_is_fresh", None),
        "update release_tables set as_of = as_of - interval 7 hour where table_name = 'contact'",
    ),
    Case(("release", "unresolved_references", "few_references_are_unresolved", None), UNRESOLVED * 6),
]
CASES = [*staging_cases(), *mart_cases(), *RULE_CASES]


@dataclass(frozen=True)
class Healthy:
    """A healthy candidate, what is expected of it, and what came out."""

    root: DataRoot
    release: Release
    parts: list[validate.Part]
    outcomes: dict[Name, Outcome]
    expectations: dict[Name, tuple[int, Suite]]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Healthy:
    settings = settings_for(tmp_path_factory.mktemp("healthy"))
    extract(settings, organisation())
    release = build(settings)
    root = DataRoot(settings.data)
    parts = validate.plan(settings, root, release, live=release)
    outcomes = validate.check(settings, parts)
    expectations = {
        declared_name(suite, expectation): (index, replace(suite, expectations=(expectation,)))
        for index, part in enumerate(parts)
        for suite in part.suites
        for expectation in suite.expectations
    }
    return Healthy(root, release, parts, {name_of(outcome): outcome for outcome in outcomes}, expectations)


def name_of(outcome: Outcome) -> Name:
    return (outcome.suite, outcome.relation, outcome.expectation, outcome.column_name)


def declared_name(suite: Suite, expectation: Any) -> Name:
    from opportunity_sync.expectations.gx import column_name

    kwargs = expectation.configuration.kwargs
    return (suite.name, suite.relation, kwargs.get("rule", expectation.configuration.type), column_name(kwargs))


def test_every_expectation_has_a_case_that_breaks_it(healthy: Healthy) -> None:
    names = [*EXTRACTED, *(case.name for case in CASES)]
    assert len(names) == len(set(names))
    assert set(names) == set(healthy.expectations) == set(healthy.outcomes)


def test_a_healthy_organisation_meets_every_expectation(healthy: Healthy) -> None:
    assert len(healthy.outcomes) > 130
    assert [outcome for outcome in healthy.outcomes.values() if not outcome.success] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_expectation_fails_on_data_that_breaks_it(case: Case, healthy: Healthy, tmp_path: Path) -> None:
    index, suite = healthy.expectations[case.name]
    part = healthy.parts[index]
    broken = tmp_path / part.file.name
    shutil.copy(part.file, broken)
    with duckdb.connect(str(broken)) as connection:
        connection.execute(case.sql)

    (outcome,) = run(part, broken, suite)

    assert healthy.outcomes[case.name].success
    assert not outcome.success
    assert outcome.problem is None
    assert outcome.severity == healthy.outcomes[case.name].severity
    assert set(outcome.keys and outcome.keys[0]) <= {*suite.key, *ALSO_SHOWN}


@pytest.mark.parametrize("table", CORE)
def test_every_column_that_is_gone_from_dynamics_is_named(table: str, healthy: Healthy, tmp_path: Path) -> None:
    outcomes = broken_extract(healthy, tmp_path, table, f"select _page from current.{table}")
    assert [outcome.column_name for outcome in outcomes if not outcome.success] == list(CORE[table])
    assert {outcome.severity for outcome in outcomes} == {"warning"}


def test_only_the_column_that_is_gone_is_named(healthy: Healthy, tmp_path: Path) -> None:
    outcomes = broken_extract(
        healthy, tmp_path, "opportunity", "select * exclude (salesstage) from current.opportunity"
    )
    assert [outcome.column_name for outcome in outcomes if not outcome.success] == ["salesstage"]


def broken_extract(healthy: Healthy, tmp_path: Path, table: str, view: str) -> list[Outcome]:
    part = healthy.parts[0]
    broken = tmp_path / part.file.name
    shutil.copy(part.file, broken)
    with duckdb.connect(str(broken)) as connection:
        connection.execute(f"create or replace view extracted.{table} as {view}")
    (suite,) = (suite for suite in part.suites if suite.relation == table)
    return run(part, broken, suite)


ALSO_SHOWN = {
    "account_id", "as_of", "column_name", "customer_id", "found", "is_closed", "is_won", "promised",
    "state_code", "target_id",
}  # fmt: skip
"""Columns besides the key that rules show: ids, codes, types and times, never a name or an e-mail address."""


def run(part: validate.Part, file: Path, suite: Suite) -> list[Outcome]:
    from opportunity_sync.expectations.gx import run_suites

    return run_suites(file, part.schema, [suite], memory_limit="1GB")


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (flip("account_rule", "'no_customer'", "customer_id is not null"), "no customer, but there is one"),
        (flip("account_id", "uuid()", "account_rule = 'no_customer'"), "an account without a customer"),
        (flip("account_id", "uuid()", "account_rule = 'customer_is_account'"), "another account than the customer"),
        (
            flip("account_id", "null", "account_rule = 'account_of_customer_contact'"),
            "no account of the contact",
        ),
        (flip("account_id", "uuid()", "account_rule = 'customer_contact_has_no_account'"), "an account from nowhere"),
        (flip("customer_type", "null", "account_rule = 'customer_is_account'"), "a customer without a type"),
    ],
)
def test_account_and_rule_agree_in_both_directions(sql: str, why: str, healthy: Healthy, tmp_path: Path) -> None:
    outcome = broken_outcome(healthy, tmp_path, ("marts", "opportunities", "account_agrees_with_rule", None), sql)
    assert outcome.unexpected_count == 1, why


@pytest.mark.parametrize(
    ("sql", "unexpected"),
    [
        ("alter table opportunities alter amount type double", "amount DECIMAL(19,4) DOUBLE"),
        ("alter table opportunities alter opportunity_id type varchar", "opportunity_id UUID VARCHAR"),
        ("alter table opportunities rename created_at to created", "created_at TIMESTAMP None"),
    ],
)
def test_a_column_of_another_type_breaks_the_contract(
    sql: str, unexpected: str, healthy: Healthy, tmp_path: Path
) -> None:
    outcome = broken_outcome(healthy, tmp_path, ("marts", "opportunities", "columns_match_the_contract", None), sql)
    assert [" ".join(str(value) for value in key.values()) for key in outcome.keys] == [unexpected]


def test_an_additional_column_keeps_the_contract(healthy: Healthy, tmp_path: Path) -> None:
    outcome = broken_outcome(
        healthy,
        tmp_path,
        ("marts", "opportunities", "columns_match_the_contract", None),
        "alter table opportunities add column new_region varchar",
    )
    assert outcome.success


def test_a_table_that_was_never_read_is_not_fresh(healthy: Healthy, tmp_path: Path) -> None:
    outcome = broken_outcome(
        healthy,
        tmp_path,
        ("release", "release_tables", "source_table_is_fresh", None),
        "update release_tables set as_of = null where table_name = 'account'",
    )
    assert outcome.keys == ({"table_name": "account", "as_of": None},)


def test_few_unresolved_references_are_no_warning(healthy: Healthy, tmp_path: Path) -> None:
    name = ("release", "unresolved_references", "few_references_are_unresolved", None)
    assert broken_outcome(healthy, tmp_path, name, UNRESOLVED * 3).success


def test_only_keys_of_unexpected_rows_are_kept_and_at_most_twenty(healthy: Healthy, tmp_path: Path) -> None:
    name = ("marts", "opportunities", IN_SET, "account_rule")
    outcome = broken_outcome(healthy, tmp_path, name, "update opportunities set account_rule = name")
    assert (outcome.unexpected_count, outcome.element_count, len(outcome.keys)) == (40, 40, 20)
    assert all(set(key) == {"opportunity_id"} for key in outcome.keys)
    assert "Deal" not in repr(outcome)


def broken_outcome(healthy: Healthy, tmp_path: Path, name: Name, sql: str) -> Outcome:
    index, suite = healthy.expectations[name]
    broken = tmp_path / DATABASE
    shutil.copy(healthy.parts[index].file, broken)
    with duckdb.connect(str(broken)) as connection:
        connection.execute(sql)
    (outcome,) = run(healthy.parts[index], broken, suite)
    return outcome


@pytest.mark.parametrize(
    ("live_rows", "minimum"),
    [({}, 0), ({"contacts": 19}, 0), ({"contacts": 20}, 10), ({"contacts": 21}, 11), ({"contacts": 1000}, 500)],
)
def test_the_minimum_of_rows_is_half_of_a_live_table_that_is_not_small(
    live_rows: dict[str, int], minimum: int, healthy: Healthy
) -> None:
    from opportunity_sync.expectations import release

    expected = release.Expected(
        staging_rows={},
        live_rows=live_rows,
        minimum_rows_share=0.5,
        freshness_hours=6,
        unresolved_share=0.05,
        now=datetime.now(UTC),
    )
    (suite,) = (suite for suite in release.suites(expected) if suite.relation == "contacts")
    values: list[Any] = [expectation.min_value for expectation in suite.expectations]
    assert values == [minimum]
