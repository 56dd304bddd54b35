"""Write raw batches from Python rows, for tests of everything behind the lake."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, get_args
from uuid import UUID, uuid5

import duckdb

from opportunity_sync.lake import Column, Lake, Manifest, Mode, data_file
from opportunity_sync.tables import CORE, TYPED_LOOKUPS

NAMESPACE = UUID("6f6d0f2c-5c58-4b6a-8a39-1d2a7d6b5f10")
START = datetime(2026, 6, 1, tzinfo=UTC)

CHOICES = {
    ("opportunity", "statecode"): {0: "Open", 1: "Won", 2: "Lost"},
    ("opportunity", "statuscode"): {1: "In Progress", 2: "On Hold", 3: "Won", 4: "Canceled", 5: "Out-Sold"},
    ("opportunity", "salesstage"): {0: "Qualify", 1: "Develop", 2: "Propose", 3: "Close"},
    ("contact", "statecode"): {0: "Active", 1: "Inactive"},
    ("account", "statecode"): {0: "Active", 1: "Inactive"},
    ("connection", "statecode"): {0: "Active", 1: "Inactive"},
    ("connectionrole", "category"): {1: "Business", 1000: "Stakeholder", 1001: "Sales Team", 1002: "Service"},
}


def identity(name: str) -> UUID:
    """A stable UUID for a short name such as `o1`; a UUID is taken as it is."""
    try:
        return UUID(name)
    except ValueError:
        return uuid5(NAMESPACE, name)


def columns_of(table: str, extra: Mapping[str, Column] | None = None) -> dict[str, Column]:
    """The core columns of a table as an organisation would describe them, and more."""
    columns = {
        name: Column(
            name=name,
            attribute_type=_attribute_type(name, kind),
            duckdb_type=kind,
            property=f"_{name}_value" if name in TYPED_LOOKUPS else name,
            has_type=name in TYPED_LOOKUPS,
            label=name,
            choices=CHOICES.get((table, name), {}),
        )
        for name, kind in CORE[table].items()
    }
    return columns | dict(extra or {})


@cache
def _scratch(process: int) -> duckdb.DuckDBPyConnection:
    """A database in memory for all batches of a process: to open one takes longer than to write most batches."""
    return duckdb.connect()


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows, a hundred at a time: a statement costs more than its rows."""
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        marks = ", ".join(f"({', '.join('?' for _ in row)})" for row in part)
        connection.execute(f"insert into {table} values {marks}", [cell for row in part for cell in row])


def write_batch(
    lake: Lake,
    table: str,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    mode: Mode = "full",
    deletes: Sequence[str] = (),
    at: datetime = START,
    extra: Mapping[str, Column] | None = None,
    without: Sequence[str] = (),
    continues: bool = True,
) -> Manifest:
    """Write one batch whose every row was extracted, and every delete observed, at `at`.

    Rows hold Dataverse logical names; ids may be short names; `versionnumber` defaults to 1. A row may carry its own
    `_extracted_at`.
    """
    assert mode in get_args(Mode)
    columns = {name: column for name, column in columns_of(table, extra).items() if name not in without}
    stored = {name: kind for column in columns.values() for name, kind in column.stored().items()}
    with lake.new_batch(table, mode) as batch, _scratch(os.getpid()).cursor() as connection:
        files = []
        if rows:
            listed = ", ".join(f'"{name}" {kind}' for name, kind in stored.items())
            connection.execute(f"create temp table rows ({listed}, _extracted_at timestamp, _page integer)")
            filled = []
            for row in rows:
                values = {"versionnumber": 1} | dict(row)
                unknown = values.keys() - stored.keys() - {"_extracted_at"}
                assert not unknown, f"columns {unknown} are not selected for {table}"
                moment = values.pop("_extracted_at", at)
                cells = [_cell(values.get(name), kind) for name, kind in stored.items()]
                filled.append([*cells, _naive(moment), 1])
            _insert(connection, "rows", filled)
            path = batch.folder / "rows-0001.parquet"
            connection.execute(f"copy rows to '{path}' (format parquet)")
            files.append(data_file(path, len(rows)))
        if deletes:
            connection.execute("create temp table deletes (id uuid, _observed_at timestamp)")
            _insert(connection, "deletes", [[identity(name), _naive(at)] for name in deletes])
            path = batch.folder / "deletes.parquet"
            connection.execute(f"copy deletes to '{path}' (format parquet)")
            files.append(data_file(path, len(deletes)))
        manifest = Manifest(
            table=table,
            batch=batch.name,
            mode=mode,
            organization_id="00000000-0000-0000-0000-00000000aaaa",
            entity_set=table,
            started_at=at,
            finished_at=at + timedelta(seconds=1),
            pages=1,
            rows=len(rows),
            deletes=len(deletes),
            delta_link=f"link-{batch.name}" if continues and mode != "window" else None,
            columns=tuple(columns.values()),
            files=tuple(files),
            run_id="test",
        )
        return lake.commit(batch, manifest)


def _cell(value: Any, kind: str) -> Any:
    if kind == "UUID" and isinstance(value, str):
        return identity(value)
    if isinstance(value, datetime):
        return _naive(value)
    return value


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _attribute_type(name: str, kind: str) -> str:
    if name in ("statecode", "statuscode"):
        return {"statecode": "State", "statuscode": "Status"}[name]
    if name in ("salesstage", "category") or name.endswith("objecttypecode"):
        return "Picklist"
    return {"UUID": "Lookup", "VARCHAR": "String", "INTEGER": "Integer", "BIGINT": "BigInt", "BOOLEAN": "Boolean"}.get(
        kind, "DateTime" if kind in ("DATE", "TIMESTAMP") else "Money"
    )
