"""Every expectation has words of its own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from opportunity_sync.expectations import Suite
from opportunity_sync.expectations.words import RULES, TYPES, in_words
from opportunity_sync.settings import PROJECT
from opportunity_sync.tables import load_tables


@pytest.mark.slow
def test_every_expectation_of_every_suite_has_words_and_there_are_no_others() -> None:
    from opportunity_sync.expectations import extracted, marts, release, staging
    from opportunity_sync.expectations.gx import column_name

    expected = release.Expected(
        staging_rows={"opportunities": 40},
        live_rows={"opportunities": 100},
        minimum_rows_share=0.5,
        freshness_hours=6,
        unresolved_share=0.05,
        now=datetime.now(UTC),
    )
    suites: list[Suite] = [
        *extracted.suites(load_tables(PROJECT / "include" / "tables.yaml")),
        *staging.suites(),
        *marts.suites(),
        *release.suites(expected),
    ]
    found = set()
    for suite in suites:
        for each in suite.expectations:
            kwargs = dict(each.configuration.kwargs)
            name = kwargs.get("rule", each.configuration.type)
            found.add(name)
            for configured in (kwargs, None):
                sentence = in_words(suite.relation, name, column_name(kwargs), configured)
                assert "expect" not in sentence
                assert not sentence.endswith(".")
    assert found == {*RULES, *TYPES}


@pytest.mark.parametrize(
    ("relation", "expectation", "column", "kwargs", "sentence"),
    [
        (
            "opportunities",
            "account_has_a_name",
            None,
            None,
            "Every account of an opportunity is among the extracted accounts and has a name",
        ),
        ("accounts", "expect_column_values_to_be_unique", "account_id", None, "No account_id occurs twice"),
        ("contacts", "expect_column_values_to_not_be_null", "email", None, "Every row has an email"),
        (
            "opportunity_contact_roles",
            "expect_compound_columns_to_be_unique",
            "opportunity_id, contact_id, role",
            None,
            "No combination of opportunity_id, contact_id and role occurs twice",
        ),
        (
            "opportunities",
            "expect_column_values_to_be_between",
            "close_probability",
            {"min_value": 0.0, "max_value": 100.0},
            "Every close_probability is between 0 and 100",
        ),
        (
            "opportunities",
            "expect_column_values_to_be_between",
            "version_number",
            {"min_value": 0.0, "strict_min": True},
            "Every version_number is greater than 0",
        ),
        (
            "opportunities",
            "expect_column_values_to_be_between",
            "version_number",
            None,
            "Every version_number is within its range",
        ),
        (
            "opportunity_contact_roles",
            "expect_table_row_count_to_be_between",
            None,
            {"min_value": 1200},
            "The number of contact roles has not collapsed since the release before: there are at least 1,200",
        ),
        (
            "opportunity_contact_roles",
            "expect_table_row_count_to_be_between",
            None,
            {"min_value": 0},
            "The number of contact roles has not collapsed since the release before",
        ),
        (
            "contacts",
            "expect_table_row_count_to_equal",
            None,
            {"value": 1200},
            "There are as many contacts as the extracted rows give, 1,200",
        ),
        (
            "release",
            "expect_table_row_count_to_equal",
            None,
            {"value": 1},
            "The file says which release it is, in one row",
        ),
        (
            "contacts",
            "expect_column_values_to_be_in_set",
            "state_code",
            {"value_set": [0, 1]},
            "Every state_code is one of the documented values: 0 or 1",
        ),
        (
            "contacts",
            "expect_column_values_to_be_in_set",
            "state_code",
            None,
            "Every state_code is one of the documented values",
        ),
        (
            "connections",
            "expect_column_pair_values_a_to_be_greater_than_b",
            "effective_end, effective_start",
            {},
            "No effective_end is before its effective_start",
        ),
        ("opportunity", "expect_column_to_exist", "name", None, "Dynamics still has column name of opportunity"),
        ("contacts", "rule_of_an_older_version", None, None, "Rule of an older version"),
    ],
)
def test_an_expectation_is_told_in_a_sentence(
    relation: str, expectation: str, column: str | None, kwargs: dict[str, object] | None, sentence: str
) -> None:
    assert in_words(relation, expectation, column, kwargs) == sentence
