"""What the transform stage makes of sample_data/ is what sample_data/expected.json says, worked out by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Column, Lake
from opportunity_sync.release import DATABASE, Run
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CORE, READ_ORDER, TYPED_LOOKUPS
from opportunity_sync.warehouse import transform
from tests.lakes import write_batch

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[2] / "sample_data"
ENTITY_SETS = {
    "opportunity": "opportunities",
    "connection": "connections",
    "contact": "contacts",
    "account": "accounts",
    "connectionrole": "connectionroles",
}
TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))
FILTER = Column(
    name="new_synctomkto", attribute_type="Boolean", duckdb_type="BOOLEAN", property="new_synctomkto", label="Sync"
)
FILTERED = ("opportunity", "contact", "account")
EXPECTED: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text(encoding="utf-8"))
Row = dict[str, Any]


def rows_of(table: str, extra: Iterable[str] = ()) -> list[Row]:
    """Rows in Web API shape as extraction stores them: logical names, `<lookup>_type` behind typed lookups."""
    found = json.loads((SAMPLE / f"{ENTITY_SETS[table]}.json").read_text(encoding="utf-8"))
    selected = {*CORE[table], *extra}
    rows = []
    for row in found:
        stored: Row = {}
        for key, value in row.items():
            name = key.partition("@")[0].removeprefix("_").removesuffix("_value")
            if name not in selected:
                continue
            if key.endswith(TYPE):
                stored[f"{name}_type"] = value
            elif "@" not in key:
                stored[name] = value
        rows.append({key: value for key, value in stored.items() if key in _stored_names(table, extra)})
    return rows


def _stored_names(table: str, extra: Iterable[str]) -> set[str]:
    return {*CORE[table], *extra, *(f"{name}_type" for name in CORE[table] if name in TYPED_LOOKUPS)}


def release(path: Path, *, filtered: bool = False) -> Path:
    extra = {table: [FILTER.name] if filtered and table in FILTERED else [] for table in READ_ORDER}
    include = path / "include"
    include.mkdir()
    (include / "sql").symlink_to(Settings().sql, target_is_directory=True)
    columns = {table: {"columns": [*list(CORE[table])[1:], *extra[table]]} for table in READ_ORDER}
    (include / "tables.yaml").write_text(yaml.safe_dump({"tables": columns}), encoding="utf-8")
    settings = Settings(data=path / "data", include=include)
    for table in READ_ORDER:
        more = {FILTER.name: FILTER} if extra[table] else None
        write_batch(Lake(DataRoot(settings.data).raw), table, rows_of(table, extra[table]), extra=more)
    return DataRoot(settings.data).candidates / transform(settings, RUN).release_id / DATABASE


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("sample"))


def query(database: Path, sql: str) -> list[Row]:
    """Rows with ids, dates and timestamps as text, decimals as numbers."""
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute(sql)
        names = [described[0] for described in found.description or ()]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in found.fetchall()]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if value is None or isinstance(value, str | bool | int):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


def as_set(rows: Iterable[Row]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)


def test_row_counts(database: Path) -> None:
    counted = {name: len(query(database, f"select * from {name}")) for name in EXPECTED["rows"]}
    assert counted == EXPECTED["rows"]


def test_account_and_rule_of_every_opportunity(database: Path) -> None:
    found = query(database, "select opportunity_id, account_id, account_rule, customer_id from opportunities")
    wanted = [{key: value for key, value in case.items() if key != "roles"} for case in EXPECTED["opportunities"]]
    assert as_set(found) == as_set(wanted)


def test_every_contact_role(database: Path) -> None:
    found = query(
        database, "select opportunity_id, contact_id, role, role_source, is_primary from opportunity_contact_roles"
    )
    wanted = [
        {"opportunity_id": case["opportunity_id"]} | role
        for case in EXPECTED["opportunities"]
        for role in case["roles"]
    ]
    assert as_set(found) == as_set(wanted)


def test_date_of_the_oldest_connection(database: Path) -> None:
    (wanted,) = EXPECTED["connected_at"]
    found = query(database, "select opportunity_id, contact_id, role, connected_at from opportunity_contact_roles")
    assert wanted in found


def test_amounts_states_and_dates(database: Path) -> None:
    found = query(
        database,
        "select opportunity_id, state, is_closed, is_won, amount, amount_base, close_date from opportunities",
    )
    for row in found:
        row |= {name: float(row[name]) for name in ("amount", "amount_base") if row[name] is not None}
    for wanted in EXPECTED["values"]:
        assert wanted in found


def test_every_unresolved_reference(database: Path) -> None:
    found = query(database, "select relation, key, reference, target_table, target_id from unresolved_references")
    assert as_set(found) == as_set(EXPECTED["unresolved_references"])


def test_with_the_marketing_filter_selected(tmp_path: Path) -> None:
    database = release(tmp_path, filtered=True)
    ids = {row["opportunity_id"][-2:] for row in query(database, "select opportunity_id from opportunities")}
    assert {"20", "21", "22", "35"} <= ids
    assert "19" not in ids
    assert len(ids) == 39
    contacts = {row["contact_id"][-2:] for row in query(database, "select contact_id from contacts")}
    assert ("14" in contacts, "15" in contacts, "16" in contacts) == (False, True, True)
    accounts = {row["account_id"][-2:] for row in query(database, "select account_id from accounts")}
    assert "13" not in accounts
    rules = {
        row["opportunity_id"][-2:]: (row["account_rule"], row["account_name"], (row["account_id"] or "")[-2:])
        for row in query(database, "select opportunity_id, account_rule, account_name, account_id from opportunities")
    }
    assert rules["22"] == ("customer_contact_missing", None, "")
    assert rules["35"] == ("customer_is_account", None, "13")
