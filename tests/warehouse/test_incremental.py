"""Which rows an incremental build must touch: every path from a changed row to an output row, one case each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import transform
from tests.lakes import START, identity, write_batch
from tests.warehouse.releases import content, make_live
from tests.warehouse.releases import rows as published_rows

pytestmark = pytest.mark.slow

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))

ORGANISATION: dict[str, list[dict[str, Any]]] = {
    "account": [
        {"accountid": "a1", "name": "One"},
        {"accountid": "a2", "name": "Two", "merged": True, "masterid": "a1"},
        {"accountid": "a3", "name": "Three", "merged": True, "masterid": "a2"},
        {"accountid": "a4", "name": "Four"},
    ],
    "contact": [
        {"contactid": "c1", "parentcustomerid": "a3", "parentcustomerid_type": "account"},
        {"contactid": "c2", "merged": True, "masterid": "c1"},
        {"contactid": "c3", "merged": True, "masterid": "c2"},
        {"contactid": "c4"},
    ],
    "opportunity": [
        {"opportunityid": "o1", "customerid": "c3", "customerid_type": "contact"},
        {"opportunityid": "o2", "customerid": "a3", "customerid_type": "account"},
        {"opportunityid": "o3", "customerid": "c9", "customerid_type": "contact"},
        {"opportunityid": "o4"},
    ],
    "connectionrole": [{"connectionroleid": "r1", "name": "Champion", "category": 1000}],
    "connection": [
        {
            "connectionid": name,
            "record1id": opportunity,
            "record1id_type": "opportunity",
            "record2id": contact,
            "record2id_type": "contact",
            "record2roleid": "r1",
            "createdon": START,
        }
        for name, opportunity, contact in (("k1", "o4", "c3"), ("k2", "o4", "c4"), ("k3", "o9", "c4"))
    ],
}


def connection(name: str) -> dict[str, Any]:
    return next(row for row in ORGANISATION["connection"] if row["connectionid"] == name) | {"versionnumber": 2}


CHANGES: dict[str, tuple[str, list[dict[str, Any]], list[str]]] = {
    "survivor of a merged customer gets another account": (
        "contact",
        [{"contactid": "c1", "parentcustomerid": "a4", "parentcustomerid_type": "account", "versionnumber": 2}],
        [],
    ),
    "survivor of a merged customer is deleted": ("contact", [], ["c1"]),
    "link in the middle of a merge chain is deleted": ("contact", [], ["c2"]),
    "merged contact is merged into another one": (
        "contact",
        [{"contactid": "c2", "merged": True, "masterid": "c4", "versionnumber": 2}],
        [],
    ),
    "unmerged contact is merged": (
        "contact",
        [{"contactid": "c4", "merged": True, "masterid": "c1", "versionnumber": 2}],
        [],
    ),
    "missing customer contact arrives": ("contact", [{"contactid": "c9", "parentcustomerid": None}], []),
    "survivor of a merged account is renamed": (
        "account",
        [{"accountid": "a1", "name": "Uno", "versionnumber": 2}],
        [],
    ),
    "survivor of a merged account is deleted": ("account", [], ["a1"]),
    "survivor of a merged account is merged too": (
        "account",
        [{"accountid": "a1", "merged": True, "masterid": "a4", "versionnumber": 2}],
        [],
    ),
    "missing opportunity of a connection arrives": ("opportunity", [{"opportunityid": "o9"}], []),
    "opportunity with connections is deleted": ("opportunity", [], ["o4"]),
    "connection moves to another opportunity": ("connection", [connection("k1") | {"record1id": "o1"}], []),
    "connection moves to another contact": ("connection", [connection("k2") | {"record2id": "c9"}], []),
    "connection is deactivated": ("connection", [connection("k2") | {"statecode": 1}], []),
    "connection is deleted": ("connection", [], ["k1"]),
    "connection to a missing opportunity is deleted": ("connection", [], ["k3"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_incremental_build_equals_whole_build_when(case: str, tmp_path: Path) -> None:
    data = DataRoot(tmp_path)
    lake = Lake(data.raw)
    for table, rows in ORGANISATION.items():
        write_batch(lake, table, rows)
    first = transform(Settings(data=tmp_path), RUN)
    make_live(data, first)
    table, rows, deletes = CHANGES[case]
    write_batch(lake, table, rows, mode="changes", deletes=deletes, at=START + timedelta(hours=1))
    incremental = transform(Settings(data=tmp_path), RUN)
    data.live_file.unlink()
    whole = transform(Settings(data=tmp_path), RUN)
    assert (incremental.built, whole.built) == ("incremental", "full")
    assert content(data, incremental) == content(data, whole)
    assert content(data, incremental) != content(data, first)


@pytest.mark.parametrize("days_later", [1, 2, 3, 4])
def test_incremental_build_follows_connections_that_begin_or_end_with_the_day(days_later: int, tmp_path: Path) -> None:
    """RUN is on a Monday; rule 3.8 holds on each day of the week as it does in a whole build."""
    data = DataRoot(tmp_path)
    lake = Lake(data.raw)
    day = RUN.started_at.replace(hour=0)
    boundaries = [
        {"connectionid": f"{kind}{shift}", "effective" + kind: day + timedelta(days=shift)}
        for kind in ("start", "end")
        for shift in (-1, 0, 1, 2, 3)
    ]
    contacts = [{"contactid": row["connectionid"]} for row in boundaries]
    ends = [connection("k1") | row | {"record2id": row["connectionid"]} for row in boundaries]
    for table, stored in ORGANISATION.items():
        write_batch(lake, table, stored + {"connection": ends, "contact": contacts}.get(table, []))
    make_live(data, transform(Settings(data=tmp_path), RUN))
    later = Run(run_id="test", started_at=RUN.started_at + timedelta(days=days_later))
    incremental = transform(Settings(data=tmp_path), later)
    data.live_file.unlink()
    whole = transform(Settings(data=tmp_path), later)
    assert (incremental.built, whole.built) == ("incremental", "full")
    assert content(data, incremental) == content(data, whole)
    given = {
        "start": [shift for shift in (-1, 0, 1, 2, 3) if shift <= days_later],
        "end": [shift for shift in (-1, 0, 1, 2, 3) if shift >= days_later],
    }
    found = {str(row[0]) for row in published_rows(data, incremental, "opportunity_contact_roles", "contact_id")}
    assert {f"{kind}{shift}" for kind, shifts in given.items() for shift in shifts} == {
        row["connectionid"] for row in boundaries if str(identity(row["connectionid"])) in found
    }
