"""Every row of the rules as a YAML case: tests/sql/<relation>/<case>.yaml, run through the real transform stage.

A case has `rule`, `why`, the rows (`given`: one full read of each table, or `batches`: reads in the order listed) and
`expect`: published relation (or relation and `where`) -> all its rows, with the columns that matter. Ids may be short
names (`o1`). Optional: `today` (the run's day, default 2026-06-15), `settings` and `columns` (additional columns, or
other choice labels).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
import yaml

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Column, Lake
from opportunity_sync.release import DATABASE, Release, Run
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CORE, READ_ORDER
from opportunity_sync.warehouse import transform
from tests.lakes import START, columns_of, identity, write_batch

CASES = sorted(Path(__file__).parent.glob("*/*.yaml"))
KEYS = {"rule", "why", "today", "settings", "columns", "given", "batches", "expect"}
RULES = {
    *(f"1.{number}" for number in range(1, 8)),
    *(f"2.{number}" for number in range(1, 9)),
    *(f"3.{number}" for number in range(1, 14)),
    "4",
}
TYPES = {
    "Boolean": "BOOLEAN",
    "Integer": "INTEGER",
    "Lookup": "UUID",
    "Money": "DECIMAL(19,4)",
    "Picklist": "INTEGER",
    "Status": "INTEGER",
    "String": "VARCHAR",
}
"""Dataverse attribute type to DuckDB type, for the `columns` of a case."""

Tables = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Read:
    """One entry of `batches`: a read of one or more tables."""

    mode: Any
    at: datetime
    rows: Tables
    deletes: Mapping[str, list[str]]


@dataclass(frozen=True)
class Bench:
    """A data root of its own, with the settings and columns of one case."""

    settings: Settings
    extra: Mapping[str, Mapping[str, Column]]
    run: Run

    @property
    def root(self) -> DataRoot:
        return DataRoot(self.settings.data)

    def write(self, read: Read) -> None:
        lake = Lake(self.root.raw)
        for table in sorted({*read.rows, *read.deletes}, key=READ_ORDER.index):
            write_batch(
                lake,
                table,
                read.rows.get(table, ()),
                mode=read.mode,
                deletes=read.deletes.get(table, ()),
                at=read.at,
                extra=self.extra.get(table),
            )

    def transform(self) -> Release:
        return transform(self.settings, self.run)

    def make_live(self, release: Release) -> None:
        """What publishing does to the files that transform looks at."""
        self.root.releases.mkdir(exist_ok=True)
        (self.root.candidates / release.release_id).rename(self.root.releases / release.release_id)
        shutil.copyfile(self.root.releases / release.release_id / DATABASE, self.root.live_file)


def bench(path: Path, case: Mapping[str, Any]) -> Bench:
    extra = {
        table: {name: _column(table, name, **described) for name, described in columns.items()}
        for table, columns in case.get("columns", {}).items()
    }
    include = path / "include"
    include.mkdir()
    (include / "sql").symlink_to(Settings().sql, target_is_directory=True)
    tables = {
        table: {
            "columns": [*list(CORE[table])[1:], *(name for name in extra.get(table, ()) if name not in CORE[table])]
        }
        for table in READ_ORDER
    }
    (include / "tables.yaml").write_text(yaml.safe_dump({"tables": tables}), encoding="utf-8")
    today = case.get("today", date(2026, 6, 15))
    return Bench(
        settings=Settings(data=path / "data", include=include, **case.get("settings", {})),
        extra=extra,
        run=Run(run_id="test", started_at=datetime.combine(today, time(23, 30), UTC)),
    )


def _column(table: str, name: str, attribute_type: str, choices: Mapping[int, str] | None = None) -> Column:
    if name in CORE[table]:
        known = columns_of(table)[name]
        return msgspec.structs.replace(known, attribute_type=attribute_type, choices=dict(choices or {}))
    return Column(
        name=name,
        attribute_type=attribute_type,
        duckdb_type=TYPES[attribute_type],
        property=f"_{name}_value" if attribute_type == "Lookup" else name,
        label=name,
        choices=dict(choices or {}),
    )


def reads(case: Mapping[str, Any]) -> list[Read]:
    if "given" in case:
        return [Read("full", START, {table: case["given"].get(table, []) for table in READ_ORDER}, {})]
    return [
        Read(batch["mode"], batch["at"].replace(tzinfo=UTC), batch.get("rows", {}), batch.get("deletes", {}))
        for batch in case["batches"]
    ]


def check(folder: Path, expect: Mapping[str, list[dict[str, Any]]]) -> None:
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        for relation, rows in expect.items():
            columns = list(rows[0]) if rows else ["*"]
            assert all(set(row) == set(columns) for row in rows), "rows of one relation list the same columns"
            listed = ", ".join("*" if column == "*" else f'"{column}"' for column in columns)
            found = connection.execute(f"select {listed} from {relation}")
            kinds = [str(described[1]) for described in found.description or ()]
            actual = Counter(_shown(columns, row) for row in found.fetchall())
            wanted = Counter(
                _shown(columns, [_as(row[column], kind) for column, kind in zip(columns, kinds, strict=True)])
                for row in rows
            )
            assert actual == wanted, relation


def _as(value: Any, kind: str) -> Any:
    """A value of the case as DuckDB gives it."""
    if value is None:
        return None
    if kind == "UUID":
        return identity(value)
    if kind.startswith("DECIMAL"):
        return Decimal(str(value))
    return value


def _shown(columns: Iterable[str], row: Iterable[Any]) -> str:
    """A row as one comparable text; decimals without trailing zeros."""
    values = [value.normalize() if isinstance(value, Decimal) else value for value in row]
    return ", ".join(f"{column}={value!r}" for column, value in zip(columns, values, strict=False))


def load(path: Path) -> dict[str, Any]:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(case, dict)
    assert set(case) <= KEYS
    assert ("given" in case) != ("batches" in case)
    assert case["why"].endswith(".")
    assert path.parent.name in {relation.partition(" ")[0] for relation in case["expect"]}
    return case


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def one_of_each_rule_first(cases: Iterable[Path]) -> list[Any]:
    """The first case of every rule is quick enough for `make check`; the others are marked slow."""
    seen: set[str] = set()
    marked = []
    for path in cases:
        rule = str(load(path)["rule"])
        marked.append(pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] if rule in seen else []))
        seen.add(rule)
    return marked


@pytest.mark.parametrize("path", one_of_each_rule_first(CASES))
def test_rule(path: Path, tmp_path: Path) -> None:
    case = load(path)
    here = bench(tmp_path, case)
    for read in reads(case):
        here.write(read)
    check(here.root.candidates / here.transform().release_id, case["expect"])


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CASES if "batches" in load(path)], ids=name_of)
def test_rule_does_not_depend_on_the_order_in_which_batches_arrive(path: Path, tmp_path: Path) -> None:
    """Last batch first, and a published release between any two: what is incremental must not differ either."""
    case = load(path)
    here = bench(tmp_path, case)
    for read in reversed(reads(case)):
        here.write(read)
        release = here.transform()
        here.make_live(release)
    check(here.root.releases / release.release_id, case["expect"])


def test_every_rule_has_a_case() -> None:
    assert {load(path)["rule"] for path in CASES} == RULES
