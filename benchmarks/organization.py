"""The organisation that is measured: its size, and how to evaluate the expressions of `columns.py`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.columns import TABLES

if TYPE_CHECKING:
    import duckdb

ORGANIZATION_ID = "6d2a5a5e-0d8f-4b0c-9c55-0be9c4a1f001"

MACROS = """
create or replace macro guid(kind, n) as md5(kind || n)::uuid;
create or replace macro below(n, salt, bound) as (hash(n, salt) % bound)::bigint;
create or replace macro chance(n, salt) as below(n, salt, 1000) / 1000;
create or replace macro pick(choices, n, salt) as choices[1 + below(n, salt, len(choices))];
create or replace macro day(n, salt) as date '2023-01-02' + below(n, salt, 1400)::integer;
create or replace macro moment(n, salt) as timestamp '2023-01-02 06:00:00' + to_seconds(below(n, salt, 120000000));
create or replace macro sentence(n, salt, length) as substr(getvariable('prose'), 1 + below(n, salt, 9000), length);
"""
"""Deterministic pseudo-random values: `salt` tells the columns of one row apart."""

WORDS = (
    "renewal expansion service contract with new plant in northern region and budget approved by board pending legal "
    "review before quarter end discount asked twice competitor offers shorter delivery prototype running since spring"
)


@dataclass(frozen=True)
class Size:
    """Rows per table."""

    opportunities: int

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table, in the proportion 10 opportunities : 5 contacts : 1 account : 20 connection rows."""
        n = self.opportunities
        return {
            "opportunity": n,
            "connection": n * 2,
            "contact": max(n // 2, 1),
            "account": max(n // 10, 1),
            "connectionrole": 30,
        }


def prepare(connection: duckdb.DuckDBPyConnection, size: Size) -> None:
    """Define macros and row counts in a DuckDB connection, so that the expressions above can be used."""
    connection.execute(MACROS)
    connection.execute(
        f"set variable prose = array_to_string([pick(string_split('{WORDS}', ' '), k, 99) for k in range(1500)], ' ')"
    )
    for variable, table in (("opportunities", "opportunity"), ("contacts", "contact"), ("accounts", "account")):
        connection.execute(f"set variable {variable} = {size.rows[table]}")


def write_include(include: Path, sql: Path) -> None:
    """Make folder `include`: a `tables.yaml` that selects exactly the columns above, and the project's SQL models."""
    lines = ["tables:"]
    for table, columns in TABLES.items():
        lines += [f"  {table}:", "    columns:", *(f"      - {column.name}" for column in columns)]
    include.mkdir(parents=True, exist_ok=True)
    (include / "tables.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.rmtree(include / "sql", ignore_errors=True)
    shutil.copytree(sql, include / "sql")
