"""What each expectation says, as a sentence for people: the only place where expectations are put into words.

The data dictionary, `quality.html` and the pages in Airflow's UI all ask `in_words`; none of them shows the name of a
Great Expectations type without it. A new expectation needs its words here, which `tests/expectations/test_words.py`
demands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

RULES: Mapping[str, str] = {
    "columns_match_the_contract": "Every column that analysts were promised is there, with its type",
    "customer_has_a_type": "Every customer says whether it is an account or a contact",
    "merged_rows_have_a_master": "Every merged row says which row it was merged into",
    "account_agrees_with_rule": "Every opportunity's account is the one that its account_rule gives",
    "state_flags_agree_with_state": "is_closed and is_won agree with the state",
    "customer_contact_has_primary_role": "Every customer that is a known contact has the primary contact role",
    "account_has_a_name": "Every account of an opportunity is among the extracted accounts and has a name",
    "role_has_its_opportunity": "Every contact role belongs to a published opportunity",
    "role_has_its_contact": "Every contact role belongs to a published contact",
    "at_most_one_primary_role": "No opportunity has more than one primary contact role",
    "primary_exactly_when_from_customer": "A contact role is primary exactly when it comes from the customer",
    "primary_role_is_the_customer": "Every primary contact role is that of the opportunity's customer",
    "source_table_is_fresh": "Every source table was read recently",
    "few_references_are_unresolved": "Nearly every reference leads to a row that was extracted",
}
"""Rules of `rows.no_rows`, by name."""


def in_words(
    relation: str,
    expectation: str,
    column_name: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """What an expectation says, as a sentence without a full stop.

    Args:
        relation: what it is about, as in `expectation_results`.
        expectation: as in `expectation_results`: a Great Expectations type, or the name of a rule.
        column_name: as in `expectation_results`.
        kwargs: how it is configured, as in `validation.json`: gives the sentence its values. The published file does
            not have it, so it may be left out.
    """
    if expectation in RULES:
        return RULES[expectation]
    if expectation in TYPES:
        return TYPES[expectation](relation, column_name or "", kwargs or {})
    return expectation.removeprefix("expect_").replace("_", " ").capitalize()  # of an older version's release


def about(suite: str, relation: str) -> str:
    """What the expectations of a suite and relation look at, in words: `Published table contacts`."""
    return SUITES[suite].format(relation) if suite in SUITES else f"{suite} {relation}"


SUITES: Mapping[str, str] = {
    "extracted": "Columns of {} in Dynamics",
    "staging": "Rows of {} as extracted",
    "marts": "Published table {}",
    "release": "Release as a whole: {}",
}
"""Suites, by name."""


def _range(relation: str, column: str, kwargs: Mapping[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is not None and high is not None:
        return f"Every {column} is between {low:g} and {high:g}"
    if low is not None:
        return f"Every {column} is {'greater than' if kwargs.get('strict_min') else 'at least'} {low:g}"
    return f"Every {column} is within its range"


def _count(relation: str, column: str, kwargs: Mapping[str, Any]) -> str:
    if relation == "release":
        return "The file says which release it is, in one row"
    exactly = f", {kwargs['value']:,}" if "value" in kwargs else ""
    return f"There are as many {plural(relation)} as the extracted rows give{exactly}"


def _minimum(relation: str, column: str, kwargs: Mapping[str, Any]) -> str:
    least = f": there are at least {kwargs['min_value']:,}" if kwargs.get("min_value") else ""
    return f"The number of {plural(relation)} has not collapsed since the release before{least}"


def _pair(relation: str, column: str, kwargs: Mapping[str, Any]) -> str:
    later, _, earlier = column.partition(", ")
    return f"No {later} is before its {earlier}"


def _values(known: str) -> Callable[[str, str, Mapping[str, Any]], str]:
    def sentence(relation: str, column: str, kwargs: Mapping[str, Any]) -> str:
        values = kwargs.get("value_set")
        return known.format(column, f": {_list(values, 'or')}" if values else "")

    return sentence


TYPES: Mapping[str, Callable[[str, str, Mapping[str, Any]], str]] = {
    "expect_column_to_exist": lambda relation, column, kwargs: f"Dynamics still has column {column} of {relation}",
    "expect_column_values_to_not_be_null": lambda relation, column, kwargs: f"Every row has {_article(column)}",
    "expect_column_values_to_be_unique": lambda relation, column, kwargs: f"No {column} occurs twice",
    "expect_compound_columns_to_be_unique": lambda relation, column, kwargs: (
        f"No combination of {_list(column.split(', '))} occurs twice"
    ),
    "expect_column_values_to_be_in_set": _values("Every {} is one of the documented values{}"),
    "expect_column_distinct_values_to_equal_set": _values("Each {} that is due is there, and no other{}"),
    "expect_column_values_to_be_between": _range,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair,
    "expect_table_row_count_to_equal": _count,
    "expect_table_row_count_to_be_between": _minimum,
}
"""Types of Great Expectations: relation, column and configuration to sentence."""


def plural(relation: str) -> str:
    """A relation's name as a word: `opportunity_contact_roles` -> `contact roles`."""
    return relation.removeprefix("opportunity_").replace("_", " ")


def _article(column: str) -> str:
    return f"{'an' if column[:1] in 'aeio' else 'a'} {column}"


def _list(values: list[Any], last: str = "and") -> str:
    *first, final = (str(value) for value in values)
    return f"{', '.join(first)} {last} {final}" if first else final
