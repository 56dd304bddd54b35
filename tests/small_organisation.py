"""A small healthy organisation in a data root, for tests of validation and publishing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from opportunity_sync import warehouse
from opportunity_sync.data_root import DataRoot, open_data_root
from opportunity_sync.lake import Lake, Mode
from opportunity_sync.release import DATABASE, QUALITY, Release, Run, write_release
from opportunity_sync.settings import PROJECT, Settings
from tests.lakes import write_batch

CREATED, MODIFIED = datetime(2026, 1, 1), datetime(2026, 2, 1)  # noqa: DTZ001 (Dataverse columns: naive UTC)
OPPORTUNITIES, CONTACTS, ACCOUNTS, STAKEHOLDERS = 40, 30, 24, 24


def settings_for(path: Path, **changes: Any) -> Settings:
    """Settings of a data root, independent of the environment."""
    return Settings(data=path, include=PROJECT / "include", **changes)


def organisation() -> dict[str, list[dict[str, Any]]]:
    """Rows per Dataverse table: every account rule, both role sources, one merged contact."""
    stamps = {"createdon": CREATED, "modifiedon": MODIFIED, "statecode": 0}
    accounts = [{"accountid": f"a{i}", "name": f"Account {i}", **stamps} for i in range(ACCOUNTS)]
    contacts = [
        {
            "contactid": f"c{i}",
            "fullname": f"Secret Person {i}",
            "emailaddress1": f"secret{i}@example.com",
            **({"parentcustomerid": f"a{i}", "parentcustomerid_type": "account"} if i < ACCOUNTS else {}),
            **stamps,
        }
        for i in range(CONTACTS)
    ]
    contacts.append({"contactid": "merged", "fullname": "Secret Twin", "merged": True, "masterid": "c0", **stamps})
    opportunities = [
        {
            "opportunityid": f"o{i}",
            "name": f"Deal {i}",
            **_customer(i),
            **stamps,
            "statecode": i % 3,
            "statuscode": (1, 3, 4)[i % 3],
            "estimatedvalue": Decimal(1000 + i),
            "estimatedclosedate": date(2026, 9, 1),
            "closeprobability": i * 2,
        }
        for i in range(OPPORTUNITIES)
    ]
    connections = [
        {
            "connectionid": f"k{i}",
            "record1id": f"o{i}",
            "record1id_type": "opportunity",
            "record2id": f"c{i}",
            "record2id_type": "contact",
            "record2roleid": "decider",
            "effectivestart": CREATED,
            "effectiveend": datetime(2036, 1, 1),  # noqa: DTZ001
            **stamps,
        }
        for i in range(STAKEHOLDERS)
    ]
    roles = [{"connectionroleid": "decider", "name": "Decision Maker", "category": 1000, **stamps}]
    return {
        "opportunity": opportunities,
        "connection": connections,
        "contact": contacts,
        "account": accounts,
        "connectionrole": roles,
    }


def _customer(i: int) -> dict[str, Any]:
    if i == 0:
        return {}
    if i == 1:
        return {"customerid": "merged", "customerid_type": "contact"}
    if i % 2:
        return {"customerid": f"c{i % CONTACTS}", "customerid_type": "contact"}
    return {"customerid": f"a{i % ACCOUNTS}", "customerid_type": "account"}


def extract(settings: Settings, rows: Mapping[str, Sequence[Mapping[str, Any]]], *, mode: Mode = "full") -> None:
    """Put one batch per table into the lake, read just now."""
    lake = Lake(open_data_root(settings.data).raw)
    for table, listed in rows.items():
        write_batch(lake, table, listed, mode=mode, at=datetime.now(UTC))


def build(settings: Settings, run_id: str = "test") -> Release:
    """Transform what is in the lake; returns the candidate."""
    return warehouse.transform(settings, Run(run_id=run_id, started_at=datetime.now(UTC)))


def let_pass(settings: Settings, release: Release) -> Release:
    """Mark a candidate as validated, without Great Expectations: for tests of what comes after."""
    folder = DataRoot(settings.data).candidates / release.release_id
    with duckdb.connect(str(folder / DATABASE)) as connection:
        connection.execute(
            "insert into expectation_results values ('marts', 'release', 'test', null, 'critical', true, 0, 1)"
        )
    (folder / QUALITY).write_text(f"report of {release.release_id}", encoding="utf-8")
    validated = msgspec.structs.replace(release, validated=True, expectations_passed=1)
    write_release(folder, validated)
    return validated
