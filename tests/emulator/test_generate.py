"""The generator: same arguments, same bytes; every kind of row; proportions of a real organisation."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from emulator.generate import generate

pytestmark = pytest.mark.slow

SIZE = 4000
KEYS = {
    "accounts": "accountid",
    "contacts": "contactid",
    "opportunities": "opportunityid",
    "connections": "connectionid",
    "connectionroles": "connectionroleid",
}
TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
Organisation = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated")
    generate(path, opportunities=SIZE, seed=7)
    return path


@pytest.fixture(scope="module")
def rows(folder: Path) -> Organisation:
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in KEYS}


def ids(rows: Organisation, name: str) -> set[str]:
    return {row[KEYS[name]] for row in rows[name]}


def test_the_same_arguments_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path, opportunities=SIZE, seed=7)
    for name in KEYS:
        assert (tmp_path / f"{name}.json").read_bytes() == (folder / f"{name}.json").read_bytes()


def test_another_seed_gives_other_rows_and_ids(rows: Organisation, tmp_path: Path) -> None:
    generate(tmp_path, opportunities=SIZE, seed=8)
    other = json.loads((tmp_path / "opportunities.json").read_text(encoding="utf-8"))
    assert len(other) == SIZE
    assert not {row["opportunityid"] for row in other} & ids(rows, "opportunities")


def test_only_the_five_files_are_left(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.json" for name in KEYS)


def test_sizes_follow_the_number_of_opportunities(rows: Organisation) -> None:
    sizes = {name: len(found) for name, found in rows.items()}
    assert sizes["contacts"] == SIZE * 0.5
    assert sizes["accounts"] == SIZE * 0.2
    assert 1.98 * SIZE < sizes["connections"] < 2 * SIZE
    assert sizes["connectionroles"] == 12


def test_keys_are_unique_uuids(rows: Organisation) -> None:
    for name, key in KEYS.items():
        found = [row[key] for row in rows[name]]
        assert len(set(found)) == len(found)
        assert all(str(UUID(value)) == value and UUID(value).version == 4 for value in found)


def test_version_numbers_are_unique_in_the_whole_organisation(rows: Organisation) -> None:
    versions = [row["versionnumber"] for found in rows.values() for row in found]
    assert len(set(versions)) == len(versions)
    assert max(versions) < 2**63


def test_an_opportunity_has_41_columns_and_about_1600_bytes(rows: Organisation, folder: Path) -> None:
    columns = {key for row in rows["opportunities"] for key in row if "@" not in key}
    assert len(columns) == 41
    assert 1400 < (folder / "opportunities.json").stat().st_size / SIZE < 1900


def test_customers_are_accounts_contacts_nobody_and_a_few_that_do_not_exist(rows: Organisation) -> None:
    known = {"account": ids(rows, "accounts"), "contact": ids(rows, "contacts")}
    kinds: Counter[str] = Counter()
    for row in rows["opportunities"]:
        if row["_customerid_value"] is None:
            kinds["nobody"] += 1
            continue
        table = row["_customerid_value" + TYPE]
        kinds[table if row["_customerid_value"] in known[table] else f"missing {table}"] += 1
    assert 0.48 < kinds["account"] / SIZE < 0.56
    assert 0.43 < kinds["contact"] / SIZE < 0.51
    assert 0.004 < kinds["nobody"] / SIZE < 0.02
    assert kinds["missing account"] > 0
    assert kinds["missing contact"] > 0
    assert kinds["missing account"] + kinds["missing contact"] < SIZE / 300


def test_parents_of_contacts_are_accounts_contacts_absent_null_and_missing(rows: Organisation) -> None:
    accounts, size = ids(rows, "accounts"), len(rows["contacts"])
    kinds = Counter(row.get("_parentcustomerid_value" + TYPE) for row in rows["contacts"])
    assert 0.76 < kinds["account"] / size < 0.84
    assert kinds["contact"] > 0
    assert any("_parentcustomerid_value" not in row for row in rows["contacts"])
    assert any(row.get("_parentcustomerid_value", "") is None for row in rows["contacts"])
    typed = [row for row in rows["contacts"] if row.get("_parentcustomerid_value" + TYPE) == "account"]
    parents = {row["_parentcustomerid_value"] for row in typed}
    assert 0 < len(parents - accounts) < size / 200


def test_two_percent_are_merged_with_chains_cycles_and_lost_masters(rows: Organisation) -> None:
    masters = {row["contactid"]: row["_masterid_value"] for row in rows["contacts"] if row["merged"]}
    assert 0.015 < len(masters) / len(rows["contacts"]) <= 0.02
    ends: Counter[str] = Counter()
    for start in masters:
        seen, at = [start], masters[start]
        while at in masters and at not in seen:
            seen.append(at)
            at = masters[at]
        if at in seen:
            ends["cycle"] += 1
        elif at not in ids(rows, "contacts"):
            ends["missing"] += 1
        else:
            ends["chain" if len(seen) > 1 else "simple"] += 1
    assert set(ends) == {"cycle", "missing", "chain", "simple"}
    assert ends["simple"] > sum(ends.values()) / 3
    assert any(row["merged"] for row in rows["accounts"])


def test_connections_are_mirrored_but_a_few_have_lost_one_side(rows: Organisation) -> None:
    by_id = {row["connectionid"]: row for row in rows["connections"]}
    alone = 0
    for row in rows["connections"]:
        mirror = by_id.get(row["_relatedconnectionid_value"])
        if mirror is None:
            alone += 1
            continue
        assert mirror["_relatedconnectionid_value"] == row["connectionid"]
        for ours, theirs in ((1, 2), (2, 1)):
            for part in ("_record{}id_value", "record{}objecttypecode", "_record{}roleid_value"):
                assert row.get(part.format(ours)) == mirror.get(part.format(theirs))
        assert row["createdon"] == mirror["createdon"]
        assert row["statecode"] == mirror["statecode"]
        assert row["ismaster"] is not mirror["ismaster"]
    assert alone == SIZE // 200
    first_sides = Counter(row["record1objecttypecode"] for row in rows["connections"])
    assert first_sides[3] > SIZE * 0.9


def test_connections_have_every_kind_of_end_and_role(rows: Organisation) -> None:
    category = {row["connectionroleid"]: row["category"] for row in rows["connectionroles"]}
    ends, roles = Counter(), Counter()  # type: Counter[int], Counter[object]
    for row in rows["connections"]:
        for side in (1, 2):
            code = row[f"record{side}objecttypecode"]
            if code != 3:
                ends[code] += 1
                role = row.get(f"_record{side}roleid_value")
                roles["none" if role is None else category.get(role, "missing")] += 1
    assert set(ends) == {1, 2, 4, 8, 9}
    assert 0.84 < ends[2] / len(rows["connections"]) < 0.92
    assert set(roles) == {1000, 1001, 1002, 1, 3, "none", "missing"}
    assert 0.72 < roles[1000] / len(rows["connections"]) < 0.84
    assert any(row.get("effectiveend") for row in rows["connections"])
    assert {row["statecode"] for row in rows["connections"]} == {0, 1}
    opportunities = ids(rows, "opportunities")
    deals = [
        r[f"_record{s}id_value"] for r in rows["connections"] for s in (1, 2) if r[f"record{s}objecttypecode"] == 3
    ]
    missing = sum(deal not in opportunities for deal in deals)
    assert 0 < missing < SIZE / 500


def test_values_are_of_every_state_and_some_are_odd(rows: Organisation) -> None:
    found = rows["opportunities"]
    states = Counter(row["statecode"] for row in found)
    assert set(states) == {0, 1, 2}
    assert states[0] > states[1] > states[2]
    assert any(row["statecode"] == 1 and "actualvalue" not in row for row in found)
    assert any(row["statecode"] == 1 and "actualclosedate" not in row for row in found)
    assert any(row["salesstage"] == 104800003 for row in found)
    assert any(datetime.fromisoformat(row["modifiedon"]) < datetime.fromisoformat(row["createdon"]) for row in found)
    assert {row["_ownerid_value" + TYPE] for row in found} == {"systemuser", "team"}
    assert len({row["exchangerate"] for row in found}) == 4


def test_people_are_invented(rows: Organisation) -> None:
    mails = [row["emailaddress1"] for row in rows["contacts"]]
    assert all(mail.endswith(("@example.com", "@example.org")) for mail in mails)


def test_memory_does_not_grow_with_the_organisation(tmp_path: Path) -> None:
    peaks = []
    for size in (1000, 4000):
        tracemalloc.start()
        generate(tmp_path, opportunities=size, seed=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


@pytest.mark.parametrize("size", [1, 2, 60])
def test_a_tiny_organisation_is_valid_json(tmp_path: Path, size: int) -> None:
    generate(tmp_path, opportunities=size, seed=0)
    assert len(json.loads((tmp_path / "opportunities.json").read_text(encoding="utf-8"))) == size
    assert json.loads((tmp_path / "accounts.json").read_text(encoding="utf-8"))


def test_no_opportunities_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        generate(tmp_path, opportunities=0, seed=0)
