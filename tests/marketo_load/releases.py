"""Small live releases, made directly: the load stage reads nothing of a release but its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from opportunity_sync.data_root import open_data_root
from opportunity_sync.settings import PROJECT, Settings
from tests.lakes import identity

CREATED = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 (published columns: naive UTC)
TABLES = {
    "opportunities": "opportunity_id uuid, name varchar, state varchar, amount_base decimal(19,4), close_date date, "
    "is_closed boolean, is_won boolean, close_probability integer, created_at timestamp, account_id uuid",
    "opportunity_contact_roles": "opportunity_id uuid, contact_id uuid, role varchar, role_source varchar, "
    "is_primary boolean, connected_at timestamp",
    "contacts": "contact_id uuid, full_name varchar, email varchar",
    "accounts": "account_id uuid, name varchar",
    "release": "release_id varchar",
}


def settings_for(data: Path, **changes: Any) -> Settings:
    return Settings(data=data, **({"include": PROJECT / "include"} | changes))


def opportunity(name: str, /, **changes: Any) -> dict[str, Any]:
    return {
        "opportunity_id": name,
        "name": f"Deal {name}",
        "state": "Open",
        "amount_base": Decimal("1000.5000"),
        "close_date": date(2026, 9, 1),
        "is_closed": False,
        "is_won": False,
        "close_probability": 40,
        "created_at": CREATED,
    } | changes


def role(opportunity_id: str, contact_id: str, text: str = "Champion", **changes: Any) -> dict[str, Any]:
    return {
        "opportunity_id": opportunity_id,
        "contact_id": contact_id,
        "role": text,
        "role_source": "stakeholder",
        "is_primary": False,
        "connected_at": CREATED,
    } | changes


def contact(name: str, /, **changes: Any) -> dict[str, Any]:
    return {"contact_id": name, "full_name": f"Person {name}", "email": f"{name}@example.com"} | changes


def publish(settings: Settings, release_id: str = "r1", **rows: Sequence[Mapping[str, Any]]) -> None:
    """Put a release into the place of the live file."""
    root = open_data_root(settings.data)
    root.published.mkdir(parents=True, exist_ok=True)
    aside = root.published / f"{release_id}.new"
    with duckdb.connect(str(aside)) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"create table {table} ({columns})")
        connection.execute("insert into release values (?)", [release_id])
        for table, listed in rows.items():
            file = root.published / f"{table}.json"
            file.write_text(json.dumps([_cells(row) for row in listed]), encoding="utf-8")
            kinds = dict(column.strip().rsplit(" ", 1) for column in TABLES[table].replace("(19,4)", "").split(", "))
            connection.execute(f"insert into {table} by name from read_json(?, columns = {kinds})", [str(file)])
            file.unlink()
    aside.replace(root.live_file)


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(identity(value))
        if name.endswith("_id") and value
        else value
        if isinstance(value, bool)
        else _text(value)
        for name, value in row.items()
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def key(name: str) -> str:
    """An id as Marketo is given it."""
    return str(identity(name))
