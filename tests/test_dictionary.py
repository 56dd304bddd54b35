"""The data dictionary: complete, true to the models and the suites, and changed by whatever changes them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from docs.dictionary import Facts, collect, data_dictionary, grain
from opportunity_sync.release import PUBLISHED_MACROS, PUBLISHED_TABLES, PUBLISHED_VIEWS
from opportunity_sync.settings import PROJECT

pytestmark = pytest.mark.slow

INCLUDE = PROJECT / "include"


@pytest.fixture(scope="module")
def facts() -> Facts:
    return collect(INCLUDE)


@pytest.fixture(scope="module")
def page() -> str:
    return data_dictionary(INCLUDE)


def cells(page: str, relation: str, column: str) -> list[str]:
    """Type, meaning and origin of a column, as the page has them."""
    section = page.partition(f"\n## {relation}\n")[2].partition("\n## ")[0]
    (row,) = (line for line in section.splitlines() if line.startswith(f"| `{column}` | "))
    return row.strip("|").split(" | ")[1:]


def test_every_column_has_a_type_a_meaning_and_an_origin(facts: Facts, page: str) -> None:
    assert [*facts.columns] == [*PUBLISHED_TABLES, *PUBLISHED_VIEWS]
    for relation, columns in facts.columns.items():
        assert columns, relation
        for name, kind, _ in columns:
            shown, meaning, origin = (cell.strip() for cell in cells(page, relation, name))
            assert shown == kind
            assert len(meaning) > 2, (relation, name)
            assert len(origin) > 4, (relation, name)


def test_the_constants_are_those_columns_that_read_nothing(facts: Facts, page: str) -> None:
    constants = {
        f"{relation}.{name}"
        for relation, columns in facts.columns.items()
        for name, _, _ in columns
        if "constant" in cells(page, relation, name)[2]
    }
    assert constants == {
        "opportunities_history.is_current",
        "opportunity_contact_roles_history.is_current",
        "opportunity_explanations.step",
        "opportunity_explanations.topic",
        "release_tables.table_name",
        "row_sources.relation",
        "unresolved_references.reference",
        "unresolved_references.relation",
    }


@pytest.mark.parametrize(
    ("relation", "column", "origin"),
    [
        ("opportunities", "created_at", "`opportunity.createdon`"),
        ("accounts", "state_code", "`account.statecode`"),
        ("opportunities", "amount", "`opportunity`: statecode, actualvalue, estimatedvalue"),
        (
            "contacts",
            "account_id",
            "`contact.parentcustomerid`; `account.accountid`; found through `account.masterid`, `account.merged`",
        ),
        (
            "opportunity_contact_roles",
            "is_primary",
            "setting `OPPORTUNITY_SYNC_CUSTOMER_ROLE`; found through what decides the rows",
        ),
        ("release", "run_id", "the run: run_id"),
        ("row_sources", "raw_batch", "raw batches: the raw batch's name"),
        ("reconciliations", "gone", "raw batches: reconciliations.gone"),
        ("release_changes", "change", "the pipeline: the comparison with the release before fills it in"),
        ("expectation_results_history", "success", "the pipeline: validation fills it in"),
        ("releases", "accounts", "the number of rows of `account`; found through `account.merged`"),
    ],
)
def test_origins_are_in_words(relation: str, column: str, origin: str, page: str) -> None:
    assert cells(page, relation, column)[2].strip() == origin


def test_every_expectation_is_listed_with_its_severity_and_its_words(facts: Facts, page: str) -> None:
    assert len(facts.guards) > 130
    for each in facts.guards:
        if each.suite == "extracted":
            assert re.search(rf"\| `{each.relation}` \| .*\b{each.columns}\b", page), each
        else:
            assert f"{each.sentence} | {each.severity} | `{each.expectation}` |" in page, each
    assert {each.severity for each in facts.guards} == {"critical", "warning"}


def test_the_list_at_the_top_leads_to_every_relation(page: str) -> None:
    slugs = {
        re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    }
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) == len(PUBLISHED_TABLES) + len(PUBLISHED_VIEWS) + len(PUBLISHED_MACROS)
    assert set(links) <= slugs


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("Companies. One row per live, unmerged account.", "live, unmerged account"),
        ("Every one. One row per connection row and end; stored twice.", "connection row and end"),
        ("Which release this file is. One row.", "one row only"),
    ],
)
def test_the_grain_is_what_the_description_says_a_row_is(description: str, words: str) -> None:
    assert grain(description) == words


def test_another_source_column_in_a_model_changes_the_page(page: str, tmp_path: Path) -> None:
    include = tmp_path / "include"
    shutil.copytree(INCLUDE, include)
    staging = include / "sql" / "staging" / "contacts.sql"
    staging.write_text(staging.read_text(encoding="utf-8").replace("emailaddress1 as email", "fullname as email"))

    changed = data_dictionary(include)

    assert cells(page, "contacts", "email")[2].strip() == "`contact.emailaddress1`"
    assert cells(changed, "contacts", "email")[2].strip() == "`contact.fullname`"
    assert page.count("contact.emailaddress1") == 1
    assert "contact.emailaddress1" not in changed


def test_comments_in_the_file_say_the_same_with_few_sources_behind(facts: Facts, page: str) -> None:
    comments = {name: comment for name, _, comment in facts.columns["opportunities"]}
    assert comments["state"] == "Label of state_code (from opportunity.statecode)"
    assert cells(page, "opportunities", "state")[1].strip() == "Label of state_code"
