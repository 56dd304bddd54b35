"""The sample organisation: well formed, invented, and with a named case for every rule.

What the sync makes of it is compared with `expected.json` in tests/sql/test_sample_data.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[2] / "sample_data"
KEYS = {
    "accounts": "accountid",
    "contacts": "contactid",
    "opportunities": "opportunityid",
    "connections": "connectionid",
    "connectionroles": "connectionroleid",
}
TABLES = {"account", "contact", "opportunity", "connection", "connectionrole"}
RULES = (
    *(f"1.{number}" for number in range(1, 8)),
    *(f"2.{number}" for number in range(1, 8)),
    *(f"3.{number}" for number in range(1, 14)),
    "4",
)
ROWS: dict[str, list[dict[str, Any]]] = {
    name: json.loads((SAMPLE / f"{name}.json").read_text(encoding="utf-8")) for name in KEYS
}
CHANGES: list[dict[str, Any]] = json.loads((SAMPLE / "changes.json").read_text(encoding="utf-8"))
EXPECTED: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text(encoding="utf-8"))
README = (SAMPLE / "README.md").read_text(encoding="utf-8")
LETTERS = {"A": "a", "B": "b", "C": "c", "D": "d"}


def all_ids() -> set[str]:
    return {row[KEYS[name]] for name, found in ROWS.items() for row in found}


def test_keys_and_references_are_uuids_and_keys_are_unique() -> None:
    found = [row[KEYS[name]] for name, rows in ROWS.items() for row in rows]
    assert len(set(found)) == len(found)
    for rows in ROWS.values():
        for row in rows:
            for key, value in row.items():
                if value is not None and (key in KEYS.values() or key.endswith("_value")):
                    assert str(UUID(value)) == value


@pytest.mark.parametrize("name", KEYS)
def test_every_row_has_the_system_columns(name: str) -> None:
    for row in ROWS[name]:
        assert {"createdon", "modifiedon", "versionnumber"} <= set(row)


def test_version_numbers_are_unique_in_the_organisation() -> None:
    versions = [row["versionnumber"] for rows in ROWS.values() for row in rows]
    assert len(set(versions)) == len(versions)


def test_mirror_rows_show_the_same_connection_from_the_other_side() -> None:
    by_id = {row["connectionid"]: row for row in ROWS["connections"]}
    mirrored = [row for row in ROWS["connections"] if "_relatedconnectionid_value" in row]
    assert len(mirrored) == 68
    for row in mirrored:
        mirror = by_id[row["_relatedconnectionid_value"]]
        for ours, theirs in ((1, 2), (2, 1)):
            for part in ("_record{}id_value", "record{}objecttypecode", "_record{}roleid_value"):
                assert row.get(part.format(ours)) == mirror.get(part.format(theirs))
        for column in ("effectivestart", "effectiveend", "statecode", "createdon"):
            assert row.get(column) == mirror.get(column)


def test_people_are_invented() -> None:
    mails = [row["emailaddress1"] for row in ROWS["contacts"] if "emailaddress1" in row]
    mails += [change["values"]["emailaddress1"] for change in CHANGES if "emailaddress1" in change["values"]]
    assert len(mails) == 30
    assert all(mail.lower().endswith(("@example.com", "@example.org")) for mail in mails)


def test_every_rule_has_a_case_in_the_readme() -> None:
    named = set(re.findall(r"^\| ([\d.]+) \|", README, flags=re.MULTILINE))
    assert named == set(RULES)


def test_rows_named_in_the_readme_exist_and_those_it_calls_missing_do_not() -> None:
    missing = {"A90", "A91", "A92", "B90", "C90", "C91", "C92", "D90"}
    created = {change["id"] for change in CHANGES if change["op"] == "create"}
    tables = README[README.index("## Which rows count") :]
    for name in set(re.findall(r"\b[ABCD]\d\d\b", tables)):
        identifier = f"00000000-0000-4000-8000-0000000{LETTERS[name[0]]}{name[1:]:>04}"
        assert (identifier in all_ids()) == (name not in missing and name not in {"D41", "D42"}), name
        assert identifier in all_ids() | created or name in missing
    for name in set(re.findall(r"\bE\d\d\b", tables)):
        sides = {f"00000000-0000-4000-8000-0000000e{name[1:]:>03}{side}" for side in (1, 2)}
        assert sides & all_ids(), name


def test_every_opportunity_has_an_expected_result() -> None:
    assert [case["opportunity_id"] for case in EXPECTED["opportunities"]] == [
        row["opportunityid"] for row in ROWS["opportunities"]
    ]


def test_totals_of_the_expected_result_agree_with_its_rows() -> None:
    cases = EXPECTED["opportunities"]
    roles = [role for case in cases for role in case["roles"]]
    assert Counter(case["account_rule"] for case in cases) == EXPECTED["account_rules"]
    assert Counter(role["role_source"] for role in roles) == EXPECTED["role_sources"]
    unresolved = EXPECTED["unresolved_references"]
    assert Counter(reference["relation"] for reference in unresolved) == EXPECTED["unresolved_counts"]
    assert EXPECTED["rows"] == {
        "opportunities": len(cases),
        "opportunity_contact_roles": len(roles),
        "contacts": sum(row.get("merged") is not True for row in ROWS["contacts"]),
        "accounts": sum(row.get("merged") is not True for row in ROWS["accounts"]),
        "unresolved_references": len(unresolved),
    }


def test_awkward_values_are_there() -> None:
    assert any(len(row["name"]) > 255 for row in ROWS["opportunities"])
    long_roles = [row["name"] for row in ROWS["connectionroles"] if len(row["name"]) > 50]
    assert len(long_roles) == 2
    assert len({name[:50] for name in long_roles}) == 1
    categories = {row.get("category") for row in ROWS["connectionroles"]}
    assert categories >= {1000, 1001, 1002, 1, None}
    other_ends = {row["record2objecttypecode"] for row in ROWS["connections"] if row["record1objecttypecode"] == 3}
    assert other_ends == {1, 2, 4, 8, 9}
    for name in ("accounts", "contacts", "opportunities"):
        assert False in [row.get("new_synctomkto") for row in ROWS[name]]
    assert {row.get("new_synctomkto", "absent") for row in ROWS["opportunities"]} == {True, False, None, "absent"}
    assert {row["_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] for row in ROWS["opportunities"]} == {
        "systemuser",
        "team",
    }
    assert len({row["_transactioncurrencyid_value"] for row in ROWS["opportunities"]}) == 3
    roles_absent = [row for row in ROWS["connections"] if not any("roleid_value" in key for key in row)]
    roles_null = [row for row in ROWS["connections"] if row.get("_record1roleid_value", "") is None]
    assert roles_absent
    assert roles_null
    assert any("statecode" not in row for row in ROWS["connections"])
    assert any(row["modifiedon"] < row["createdon"] for row in ROWS["opportunities"])


def test_changes_are_what_a_user_of_dynamics_can_do() -> None:
    known = all_ids()
    for change in CHANGES:
        assert set(change) == {"why", "op", "table", "id", "values"}
        assert change["table"] in TABLES
        assert re.match(r"\d\.\d+ ", change["why"])
        match change["op"]:
            case "create":
                assert change["id"] not in known
                assert change["values"][f"{change['table']}id"] == change["id"]
                known.add(change["id"])
            case "update":
                assert change["id"] in known
            case "delete":
                known.remove(change["id"])
            case "merge":
                assert {change["id"], change["values"]["subordinateid"]} <= known
            case other:
                pytest.fail(f"unknown operation {other}")
        for key, value in change["values"].items():
            if key.endswith("@odata.bind"):
                target = re.fullmatch(r"/(\w+)\(([0-9a-f-]{36})\)", value)
                assert target is not None
                assert target[1] in KEYS
                assert target[2] in known


def test_rules_about_time_are_in_the_changes() -> None:
    named = {change["why"].split(" ")[0] for change in CHANGES}
    assert named >= {"1.1", "1.2", "1.3", "1.5", "1.7", "3.12", "3.13"}
