from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator import seed as seed_module
from emulator.organisation import Organisation
from emulator.seed import read_rows
from emulator.seeding import load

pytestmark = pytest.mark.slow

ID = "00000000-0000-4000-8000-0000000000{:02}"
LOOKUP_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"


@pytest.fixture
def seeded(tmp_path: Path) -> Any:
    opened: list[Organisation] = []

    def begin(**tables: Any) -> Organisation:
        data = tmp_path / "data"
        data.mkdir()
        for name, rows in tables.items():
            (data / f"{name}.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
        org = Organisation(tmp_path / "state")
        opened.append(org)
        load(org.store, data)
        return org

    yield begin
    for org in opened:
        org.store.close()


def test_versions_come_from_the_row_the_etag_or_the_counter(seeded: Any) -> None:
    rows = [
        {"accountid": ID.format(1), "versionnumber": 50},
        {"accountid": ID.format(2), "@odata.etag": 'W/"70"'},
        {"accountid": ID.format(3)},
    ]
    org = seeded(accounts=rows, contacts=[{"contactid": ID.format(4)}, {"contactid": ID.format(5)}])
    accounts = {row["accountid"][-1]: row["versionnumber"] for row in org.store.rows("account")}
    assert (accounts["1"], accounts["2"]) == (50, 70)
    rest = [accounts["3"], *(row["versionnumber"] for row in org.store.rows("contact"))]
    assert min(rest) > 70
    assert len(set(rest)) == 3
    assert org.store.version >= max(rest)


def test_rows_without_modifiedon_get_one_and_a_missing_statecode_stays_missing(seeded: Any) -> None:
    org = seeded(connections=[{"connectionid": ID.format(1)}])
    (row,) = org.store.rows("connection")
    assert row["modifiedon"].endswith("Z")
    assert "statecode" not in row


def test_types_a_seed_leaves_out_are_found(seeded: Any) -> None:
    org = seeded(
        accounts=[{"accountid": ID.format(1)}],
        opportunities=[{"opportunityid": ID.format(2), "_customerid_value": ID.format(1)}],
        connections=[
            {
                "connectionid": ID.format(3),
                "_record1id_value": ID.format(8),
                "record1objecttypecode": 2,
                "_record2id_value": ID.format(9),
                "record2objecttypecode": 3,
            }
        ],
    )
    assert org.store.rows("opportunity")[0][f"_customerid_value{LOOKUP_TYPE}"] == "account"
    connection = org.store.rows("connection")[0]
    assert (connection[f"_record1id_value{LOOKUP_TYPE}"], connection[f"_record2id_value{LOOKUP_TYPE}"]) == (
        "contact",
        "opportunity",
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "Boolean"),
        (5, "Integer"),
        (5_000_000_000, "BigInt"),
        (5.25, "Decimal"),
        ("text", "String"),
        ("x" * 5000, "Memo"),
        ("2026-01-02", "DateTime"),
        ("2026-01-02T03:04:05Z", "DateTime"),
        (ID.format(9), "Uniqueidentifier"),
    ],
)
def test_a_column_of_the_organisations_own_is_typed_by_its_values(seeded: Any, value: Any, kind: str) -> None:
    org = seeded(accounts=[{"accountid": ID.format(1), "new_own": value}, {"accountid": ID.format(2), "new_own": None}])
    column = org.store.tables["account"].columns["new_own"]
    assert (column.type, column.custom) == (kind, True)


def test_a_lookup_and_a_choice_of_the_organisations_own_are_recognised(seeded: Any) -> None:
    label = "@OData.Community.Display.V1.FormattedValue"
    row = {
        "accountid": ID.format(1),
        "_new_ref_value": ID.format(2),
        f"_new_ref_value{LOOKUP_TYPE}": "lead",
        "new_tier": 100000001,
        f"new_tier{label}": "Gold",
        "statuscode": 104800000,
        f"statuscode{label}": "Frozen",
    }
    columns = seeded(accounts=[row]).store.tables["account"].columns
    assert (columns["new_ref"].type, list(columns["new_ref"].targets)) == ("Lookup", ["lead"])
    assert (columns["new_tier"].type, columns["new_tier"].options) == ("Picklist", {100000001: ("Gold", None)})
    assert columns["statuscode"].options[104800000][0] == "Frozen"
    assert columns["statuscode"].options[1][0] == "Active"


def test_an_own_column_with_a_base_twin_is_money(seeded: Any) -> None:
    columns = (
        seeded(accounts=[{"accountid": ID.format(1), "new_fee": 1.5, "new_fee_base": 1.5}])
        .store.tables["account"]
        .columns
    )
    assert (columns["new_fee"].type, columns["new_fee_base"].type) == ("Money", "Money")


def test_own_columns_are_kept_in_the_state(start: Callable[..., Any], tmp_path: Path) -> None:
    first = start(state_dir=tmp_path / "state")
    first.emulator.add_column("account", "new_x", "Picklist", options={1: ("One", None)})
    first.emulator.drop_column("account", "fax")
    columns = start(state_dir=tmp_path / "state").emulator.server.org.store.tables["account"].columns
    assert columns["new_x"].options == {1: ("One", None)}
    assert "fax" not in columns


def test_an_existing_state_is_continued_not_seeded_again(start: Callable[..., Any], tmp_path: Path, seed: Path) -> None:
    first = start(state_dir=tmp_path / "state")
    first.emulator.store.update("account", "00000000-0000-4000-8000-00000000a001", {"name": "Kept"})
    version = first.emulator.store.version
    (seed / "accounts.json").write_text("[]")
    second = start(state_dir=tmp_path / "state")
    assert second.emulator.store.row("account", "00000000-0000-4000-8000-00000000a001")["name"] == "Kept"
    assert second.emulator.store.version == version


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"name": "x"}]', "a row has no accountid"),
        ('[{"accountid": null}]', "a row has no accountid"),
        ('{"accountid": "x"}', "not a JSON array of rows"),
        ("[{]", "not a JSON array of rows"),
        (json.dumps([{"accountid": ID.format(1)}] * 2), "a accountid occurs twice"),
    ],
)
def test_a_seed_that_is_none_is_refused_and_leaves_nothing(seeded: Any, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seeded(accounts=content)


def test_a_folder_without_seed_files_is_refused(seeded: Any) -> None:
    with pytest.raises(ValueError, match="none of the five seed files"):
        seeded()


@pytest.mark.parametrize(
    "layout",
    [
        "[\n{},\n{},\n{}\n]\n",
        "[{},\n{},\n{}]",
        "[\n{}\n,\n{}\n,\n{}\n]",
        "[{},{},{}]",
    ],
)
def test_large_files_are_streamed_in_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    monkeypatch.setattr(seed_module, "_WHOLE_FILE_LIMIT", 0)
    rows = [{"accountid": ID.format(n), "name": "brace } and ]", "deep": {"a": [1]}} for n in range(3)]
    for indent in (None, 1):
        (tmp_path / "accounts.json").write_text(
            layout.replace("{}", "%s") % tuple(json.dumps(row, indent=indent) for row in rows)
        )
        found = [
            {key: json.loads(bytes(raw)) for key, raw in row.items()} for row in read_rows(tmp_path / "accounts.json")
        ]
        assert found == rows
