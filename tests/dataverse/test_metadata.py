from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emulator.server import Emulator
from opportunity_sync.dataverse.errors import RequestRefusedError
from opportunity_sync.dataverse.metadata import DUCKDB_TYPES, columns, table_metadata
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.lake import Column
from opportunity_sync.tables import CORE, READ_ORDER, TYPED_LOOKUPS, Selection, load_tables
from tests.stand_in import Connect

TABLES_FILE = Path(__file__).parents[2] / "include" / "tables.yaml"


def selection(table: str, *additional: str, without: tuple[str, ...] = ()) -> Selection:
    chosen = load_tables(TABLES_FILE)[table]
    names = tuple(name for name in (*chosen.columns, *additional) if name not in without)
    return replace(chosen, columns=names, lines={name: number for number, name in enumerate(names, start=10)})


def found_columns(
    organisation: Emulator, connect: Connect, chosen: Selection, known: tuple[str, ...] = ()
) -> tuple[dict[str, Column], tuple[str, ...]]:
    metadata = table_metadata(connect(organisation), chosen.table, chosen.columns)
    found, missing = columns(metadata, chosen, known)
    return {column.name: column for column in found}, missing


@pytest.mark.parametrize("table", READ_ORDER)
def test_core_columns_have_the_types_the_sql_expects(organisation: Emulator, connect: Connect, table: str) -> None:
    found, missing = found_columns(organisation, connect, selection(table))
    assert missing == ()
    assert {name: column.duckdb_type for name, column in found.items()} == CORE[table]
    assert {name for name, column in found.items() if column.has_type} == TYPED_LOOKUPS & CORE[table].keys()


def test_lookups_are_read_by_their_value_property(organisation: Emulator, connect: Connect) -> None:
    found, _ = found_columns(organisation, connect, selection("opportunity", "parentaccountid"))
    assert found["customerid"].property == "_customerid_value"
    assert found["parentaccountid"].property == "_parentaccountid_value"
    assert not found["parentaccountid"].has_type, "it can only point to accounts"
    assert found["name"].property == "name"


def test_a_date_without_time_is_told_from_a_moment_by_its_behaviour(organisation: Emulator, connect: Connect) -> None:
    found, _ = found_columns(organisation, connect, selection("opportunity"))
    assert found["estimatedclosedate"].duckdb_type == "DATE"
    assert found["createdon"].duckdb_type == "TIMESTAMP"
    connections, _ = found_columns(organisation, connect, selection("connection"))
    assert connections["effectivestart"].duckdb_type == "TIMESTAMP", "format DateOnly, but behaviour UserLocal"


def test_choice_labels_come_from_metadata_without_stray_spaces(organisation: Emulator, connect: Connect) -> None:
    found, _ = found_columns(organisation, connect, selection("opportunity"))
    assert found["statecode"].choices == {0: "Open", 1: "Won", 2: "Lost"}
    assert found["salesstage"].choices == {0: "Qualify", 1: "Develop", 2: "Propose", 3: "Close"}
    connections, _ = found_columns(organisation, connect, selection("connection"))
    assert connections["record1objecttypecode"].choices[2] == "Contact"
    assert all(label == label.strip() for column in connections.values() for label in column.choices.values())


def test_every_column_has_a_label(organisation: Emulator, connect: Connect) -> None:
    found, _ = found_columns(organisation, connect, selection("opportunity"))
    assert all(column.label for column in found.values())


@pytest.mark.parametrize(
    ("kind", "duckdb_type"),
    [(kind, duckdb_type) for kind, duckdb_type in DUCKDB_TYPES.items() if kind != "Uniqueidentifier"],
)
def test_each_attribute_type_has_its_duckdb_type(
    organisation: Emulator, connect: Connect, kind: str, duckdb_type: str
) -> None:
    if kind not in ("Customer", "Owner", "State", "Status"):
        organisation.add_column("account", "new_extra", kind)
    name = {
        "Owner": "ownerid",
        "State": "statecode",
        "Status": "statuscode",
        "Customer": "parentcustomerid",
    }.get(kind, "new_extra")
    table = "contact" if kind == "Customer" else "account"
    chosen = selection(table, *((name,) if name not in CORE[table] else ()))
    found, _ = found_columns(organisation, connect, chosen)
    assert (found[name].attribute_type, found[name].duckdb_type) == (kind, duckdb_type)


def test_metadata_costs_one_request_per_choice_type_among_the_selected_columns(
    organisation: Emulator, connect: Connect
) -> None:
    client = connect(organisation)
    expected = {"account": {"State", "Lookup", "DateTime"}, "connectionrole": {"State", "Picklist", "DateTime"}}
    for table, casts in expected.items():
        organisation.clear_requests()
        table_metadata(client, table, selection(table).columns)
        paths = [request.path.rpartition("/")[2] for request in organisation.requests]
        assert sorted(paths[1:]) == sorted(f"Microsoft.Dynamics.CRM.{kind}AttributeMetadata" for kind in casts)


def test_a_column_that_never_existed_is_named_with_file_line_and_what_is_near(
    organisation: Emulator, connect: Connect
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        found_columns(organisation, connect, selection("opportunity", "stepnam"))
    for words in ("tables.yaml, line 28", "opportunity", "no column stepnam", "stepname"):
        assert words in str(caught.value)


def test_a_core_column_the_organisation_lacks_is_missing_not_an_error(organisation: Emulator, connect: Connect) -> None:
    organisation.drop_column("opportunity", "salesstage")
    found, missing = found_columns(organisation, connect, selection("opportunity"))
    assert missing == ("salesstage",)
    assert "salesstage" not in found


def test_a_column_an_earlier_batch_had_is_missing_not_an_error(organisation: Emulator, connect: Connect) -> None:
    _, missing = found_columns(organisation, connect, selection("opportunity", "new_gone"), known=("new_gone",))
    assert missing == ("new_gone",)


@pytest.mark.parametrize("column", ["versionnumber", "modifiedon"])
def test_a_column_that_orders_rows_cannot_be_missing(organisation: Emulator, connect: Connect, column: str) -> None:
    organisation.drop_column("opportunity", column)
    with pytest.raises(ConfigurationError, match=f"no column {column}"):
        found_columns(organisation, connect, selection("opportunity"), known=(column,))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("customeridname", "is derived from customerid"),
        ("entityimage", "has type Virtual"),
    ],
)
def test_a_column_that_cannot_be_read_is_named_with_the_reason(
    organisation: Emulator, connect: Connect, column: str, reason: str
) -> None:
    table = "opportunity" if column.startswith("customer") else "contact"
    with pytest.raises(ConfigurationError, match=f"column {column} of table {table} {reason}"):
        found_columns(organisation, connect, selection(table, column))


def test_an_unknown_table_is_refused(organisation: Emulator, connect: Connect) -> None:
    with pytest.raises(RequestRefusedError, match="404"):
        table_metadata(connect(organisation), "nosuchtable", ())


def test_change_tracking_is_read_from_metadata(organisation: Emulator, connect: Connect) -> None:
    client = connect(organisation)
    assert table_metadata(client, "contact", ()).change_tracking
    organisation.set_change_tracking("contact", False)
    found = table_metadata(client, "contact", ())
    assert not found.change_tracking
    assert (found.entity_set, found.key) == ("contacts", "contactid")
