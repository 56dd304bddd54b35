"""Column lineage: what it says of the project's own models, checked by reading them, and how it reads SQL."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.lineage import Lineage, Source, column_sources, notes, trace
from opportunity_sync.release import PUBLISHED_MACROS, PUBLISHED_TABLES, PUBLISHED_VIEWS
from opportunity_sync.settings import PROJECT
from opportunity_sync.tables import CORE
from opportunity_sync.warehouse.models import load_models

SQL = PROJECT / "include" / "sql"


@cache
def own() -> dict[str, Lineage]:
    return trace(load_models(SQL))


def shown(sources: tuple[Source, ...]) -> set[str]:
    """Dataverse columns as `table.column`, all else with its kind before it."""
    return {
        f"{table}.{column}" if kind == "dataverse" else f"{kind} {table}.{column}" for kind, table, column in sources
    }


ACCOUNT_MERGES = {"account.merged", "account.masterid"}
MERGES = {"contact.merged", "contact.masterid", *ACCOUNT_MERGES}
ENDS = {"connection.record1id", "connection.record2id"}
TYPES = {"connection.record1objecttypecode", "connection.record2objecttypecode"}
SIDES = {"connection.record1roleid", "connection.record2roleid"}


@pytest.mark.parametrize(
    ("column", "sources", "lookups"),
    [
        ("opportunities.opportunity_id", {"opportunity.opportunityid"}, set()),
        ("opportunities.state_code", {"opportunity.statecode"}, set()),
        ("opportunities.state", {"opportunity.statecode"}, set()),
        ("opportunities.owner_type", {"opportunity.ownerid"}, set()),
        ("opportunities.is_won", {"opportunity.statecode"}, set()),
        (
            "opportunities.amount",
            {"opportunity.statecode", "opportunity.actualvalue", "opportunity.estimatedvalue"},
            set(),
        ),
        (
            "opportunities.close_date",
            {"opportunity.statecode", "opportunity.actualclosedate", "opportunity.estimatedclosedate"},
            set(),
        ),
        (
            "opportunities.account_id",
            {"opportunity.customerid", "contact.contactid", "contact.parentcustomerid", "account.accountid"},
            MERGES,
        ),
        (
            "opportunities.account_rule",
            {"opportunity.customerid", "contact.contactid", "contact.parentcustomerid", "account.accountid"},
            MERGES,
        ),
        (
            "opportunities.account_name",
            {"account.name"},
            MERGES | {"opportunity.customerid", "contact.contactid", "contact.parentcustomerid", "account.accountid"},
        ),
        ("contacts.account_id", {"contact.parentcustomerid", "account.accountid"}, ACCOUNT_MERGES),
        ("contacts.parent_contact_id", {"contact.parentcustomerid"}, set()),
        ("merged_accounts.survivor_id", {"account.accountid"}, ACCOUNT_MERGES),
        ("merged_accounts.is_resolved", {"account.merged"}, {"account.accountid", "account.masterid"}),
        (
            "opportunity_connections.role",
            {"connectionrole.name", "variable .role_when_missing", *SIDES},
            {"connectionrole.connectionroleid"},
        ),
        ("opportunity_connections.other_type", ENDS | TYPES, set()),
        ("row_sources.raw_batch", {"batches raw._batch"}, set()),
        ("release.pipeline_version", {"variable .pipeline_version"}, set()),
        ("release_tables.rows", {f"{table}.*" for table in CORE}, set()),
        (
            "release_tables.as_of",
            {"batches batches.started_at", "batches batches.continues"},
            {"batches batches.table_name"},
        ),
        ("reconciliations.gone", {"batches reconciliations.gone"}, set()),
        ("release_changes.change", {"pipeline release_changes.change"}, set()),
    ],
)
def test_the_lineage_of_published_columns_is_what_reading_the_models_gives(
    column: str, sources: set[str], lookups: set[str]
) -> None:
    relation, _, name = column.partition(".")
    origin = own()[f"marts.{relation}"].columns[name]
    assert shown(origin.sources) == sources
    assert shown(origin.lookups) == lookups


def test_a_contact_role_comes_from_the_customer_or_a_connection_whichever_is_there() -> None:
    roles = own()["marts.opportunity_contact_roles"]
    assert shown(roles.columns["role"].sources) == {
        "variable .customer_role",
        "variable .role_when_missing",
        "connectionrole.name",
        *SIDES,
    }
    assert shown(roles.columns["connected_at"].sources) == {"connection.createdon"}
    is_primary = roles.columns["is_primary"]
    assert shown(is_primary.sources) == {"variable .customer_role"}
    assert {"opportunity.customerid", "contact.merged", *ENDS} <= shown(is_primary.lookups)
    assert set(is_primary.lookups) <= {*roles.rows, *is_primary.sources}
    assert {"variable .stakeholder_categories", "variable .today", "connectionrole.category"} <= shown(roles.rows)


def test_history_has_the_lineage_of_what_it_keeps() -> None:
    present, past = own()["marts.opportunities"].columns, own()["views.opportunities_history"].columns
    assert {name: origin.sources for name, origin in past.items() if name in present} == {
        name: origin.sources for name, origin in present.items()
    }
    assert shown(past["valid_to"].sources) == {"variable .released_at"}
    assert own()["macros.opportunities_as_of"].columns.keys() == present.keys()
    assert shown(own()["views.releases"].columns["contacts"].sources) == {"contact.*"}
    assert shown(own()["views.expectation_results_history"].columns["success"].sources) == {
        "pipeline expectation_results.success"
    }


def test_every_published_relation_has_its_columns_and_their_dataverse_sources() -> None:
    found = column_sources(load_models(SQL))
    assert found.keys() == {*PUBLISHED_TABLES, *PUBLISHED_VIEWS, *PUBLISHED_MACROS}
    assert found["opportunities"]["amount_base"] == [
        ("opportunity", "statecode"),
        ("opportunity", "actualvalue_base"),
        ("opportunity", "estimatedvalue_base"),
    ]
    assert found["release_tables"]["rows"] == []
    named = {source for columns in found.values() for sources in columns.values() for source in sources}
    assert {(table, column) for table, column in named if column not in CORE[table]} == set()


def test_additional_columns_pass_through_every_layer() -> None:
    models = load_models(SQL)
    additional = {"opportunity": {"new_region_code": "new_region", "new_region": "new_region"}}
    found = column_sources(models, additional)
    for relation in ("opportunities", "opportunities_history", "opportunities_as_of"):
        assert found[relation]["new_region_code"] == [("opportunity", "new_region")]
    assert "new_region" not in found["contacts"]


def lineage_of(tmp_path: Path, sql: str, **others: str) -> Lineage:
    """The lineage of mart `tested`; other models by schema and name, for example `staging__people`."""
    for name, text in {"marts__tested": sql, **others}.items():
        schema, _, relation = name.partition("__")
        (tmp_path / schema).mkdir(exist_ok=True)
        (tmp_path / schema / f"{relation}.sql").write_text(f"-- One row per test.\n{text}")
    return trace(load_models(tmp_path))["marts.tested"]


def test_another_source_column_in_a_model_is_another_lineage(tmp_path: Path) -> None:
    staging = "select contactid as id, {} as email from source.contact"
    for column in ("emailaddress1", "fullname"):
        found = lineage_of(tmp_path, "select id, email from staging.people", staging__people=staging.format(column))
        assert shown(found.columns["email"].sources) == {f"contact.{column}"}


@pytest.mark.parametrize(
    ("join", "lookups", "rows"),
    [
        ("inner join", set(), {"contact.parentcustomerid", "account.accountid", "account.merged"}),
        ("left join", {"contact.parentcustomerid", "account.accountid", "account.merged"}, set()),
        (
            "full join",
            {"contact.parentcustomerid", "account.accountid", "account.merged"},
            {"contact.parentcustomerid", "account.accountid", "account.merged"},
        ),
        ("right join", set(), {"account.merged"}),
    ],
)
def test_an_outer_join_looks_up_values_and_an_inner_join_decides_rows(
    join: str, lookups: set[str], rows: set[str], tmp_path: Path
) -> None:
    found = lineage_of(
        tmp_path,
        f"""
        with companies as (select * from source.account where not merged)
        select companies.name
        from source.contact as people {join} companies on companies.accountid = people.parentcustomerid
        """,
    )
    assert shown(found.columns["name"].sources) == {"account.name"}
    assert shown(found.columns["name"].lookups) == lookups
    assert shown(found.rows) == rows


def test_the_left_side_of_a_right_join_is_looked_up(tmp_path: Path) -> None:
    found = lineage_of(
        tmp_path,
        """
        select people.fullname from source.contact as people
        right join source.account as companies on companies.accountid = people.parentcustomerid
        """,
    )
    assert shown(found.columns["fullname"].lookups) == {"account.accountid", "contact.parentcustomerid"}
    assert shown(found.counted) == {"account.*"}


@pytest.mark.parametrize("join", ["semi join", "anti join"])
def test_semi_and_anti_joins_decide_rows(join: str, tmp_path: Path) -> None:
    found = lineage_of(
        tmp_path,
        f"select fullname from source.contact as c {join} source.account as a on a.accountid = c.parentcustomerid",
    )
    assert shown(found.columns["fullname"].lookups) == set()
    assert shown(found.rows) == {"account.accountid", "contact.parentcustomerid"}


def test_every_step_of_a_recursion_is_followed_and_what_chooses_it_is_a_lookup(tmp_path: Path) -> None:
    found = lineage_of(
        tmp_path,
        """
        with recursive
        walk as (
            select contactid as start, contactid as id, fullname as a, emailaddress1 as b from source.contact
            union all
            select walk.start, people.contactid, walk.b, people.parentcustomerid_type
            from walk inner join source.contact as people on people.contactid = walk.id and people.masterid is null
        )
        select start, a from walk
        """,
    )
    assert shown(found.columns["a"].sources) == {
        "contact.fullname",
        "contact.emailaddress1",
        "contact.parentcustomerid",
    }
    assert shown(found.columns["a"].lookups) == {"contact.contactid", "contact.masterid"}
    assert shown(found.columns["start"].lookups) == set()


def test_unions_go_by_position_unless_they_go_by_name(tmp_path: Path) -> None:
    branches = (
        "select fullname as a, emailaddress1 as b from source.contact",
        "select name as b, accountid as a from source.account",
    )
    by_position = lineage_of(tmp_path, " union all ".join(branches))
    by_name = lineage_of(tmp_path, " union all by name ".join(branches))
    assert shown(by_position.columns["a"].sources) == {"contact.fullname", "account.name"}
    assert shown(by_name.columns["a"].sources) == {"contact.fullname", "account.accountid"}


def test_stars_leave_out_replace_and_keep_to_their_relation(tmp_path: Path) -> None:
    found = lineage_of(
        tmp_path,
        """
        select
            c.* exclude (contactid) replace (a.name as fullname),
            columns(* exclude (contactid, name, accountid, merged, masterid, createdon, modifiedon, versionnumber))
        from source.contact as c cross join source.account as a
        """,
    )
    assert "contactid" not in found.columns
    assert shown(found.columns["fullname"].sources) == {"account.name", "contact.fullname"}
    assert shown(found.columns["statecode_code"].sources) == {"contact.statecode", "account.statecode"}


def test_subqueries_settings_other_columns_and_windows_are_followed(tmp_path: Path) -> None:
    found = lineage_of(
        tmp_path,
        """
        select
            (select max(a.name) from source.account as a where a.accountid = people.parentcustomerid) as company,
            coalesce(getvariable('role_when_missing'), fullname) as role,
            upper(role) as loud,
            row_number() over (partition by emailaddress1 order by createdon) as position,
            1 as one
        from source.contact as people
        qualify position = 1
        """,
    )
    assert shown(found.columns["company"].sources) == {"account.name"}
    assert shown(found.columns["company"].lookups) == {"account.accountid", "contact.parentcustomerid"}
    assert (
        shown(found.columns["loud"].sources)
        == shown(found.columns["role"].sources)
        == {"variable .role_when_missing", "contact.fullname"}
    )
    assert shown(found.columns["position"].sources) == {"contact.emailaddress1", "contact.createdon"}
    assert found.columns["one"].sources == ()
    assert shown(found.rows) == {"contact.emailaddress1", "contact.createdon"}


def test_using_names_the_column_of_both_sides(tmp_path: Path) -> None:
    found = lineage_of(
        tmp_path,
        "select a.name from source.contact as c left join source.account as a using (masterid)",
    )
    assert shown(found.columns["name"].lookups) == {"contact.masterid", "account.masterid"}


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("select anything from staging.nowhere", "relation staging.nowhere"),
        ("select nothing from source.contact", "column nothing of source.contact"),
        ("select people.fullname from source.contact", "relation people"),
        (
            "select createdon from source.contact as c cross join source.account as a",
            "column createdon of c or a",
        ),
        ("select x from range(3) as numbers (x)", "relation range"),
        ("select x from source.contact cross join unnest([1]) as numbers (x)", "relation unnest"),
        ("select nothing from source.contact as c cross join source.account as a", "column nothing of c or a"),
    ],
)
def test_what_cannot_be_followed_is_an_error_that_names_the_model(sql: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"(?i)Model marts.tested reads {named}.*, and"):
        lineage_of(tmp_path, sql)


def test_a_model_the_lineage_cannot_follow_leaves_the_comments_without_sources(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert notes(load_models(SQL))["opportunities"]["state"] == " (from opportunity.statecode)"
    (tmp_path / "marts").mkdir()
    (tmp_path / "marts" / "tested.sql").write_text("-- One row per test.\nselect x from range(3) as numbers (x)")

    assert notes(load_models(tmp_path)) == {}

    assert "Model marts.tested reads relation RANGE" in caplog.text


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("opportunities.amount", " (from opportunity.statecode, opportunity.actualvalue, opportunity.estimatedvalue)"),
        ("opportunity_connections.outcome", " (from connection, contact, connectionrole, opportunity, account)"),
        ("release_tables.rows", ""),
        ("release.run_id", ""),
    ],
)
def test_a_comment_names_few_columns_or_else_their_tables(column: str, text: str) -> None:
    relation, _, name = column.partition(".")
    found = notes(load_models(SQL))[relation][name]
    assert found.partition("(")[0] == text.partition("(")[0]
    assert sorted(found.strip(" ()").split(", ")) == sorted(text.strip(" ()").split(", ")) or found == text
