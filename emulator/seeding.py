"""Loading a seed into a new organisation: versions, missing lookup types, columns of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from .model import LOOKUP_TYPE, LOOKUPS, Table
from .seed import Discovery, RawRow, read_rows
from .store import Store, comparable, encode_row

_NULL = b"null"
_CODES = {4: "lead", 8: "systemuser", 9: "team"}
_INDEXED = {
    "opportunity": ("_customerid_value", "_parentaccountid_value", "_parentcontactid_value"),
    "contact": ("_parentcustomerid_value", "_masterid_value"),
    "account": ("_primarycontactid_value", "_parentaccountid_value", "_masterid_value"),
    "connection": ("_record1id_value", "_record2id_value"),
    "connectionrole": (),
}


def load(store: Store, directory: Path) -> None:
    """Load `<entity set>.json` of the five tables into an empty organisation; a missing file is an empty table.

    Rows without a `versionnumber` (or etag) get versions above all others, rows without `modifiedon` get now.

    Raises:
        ValueError: The folder holds no seed, a file is not an array of rows, a row has no key or its key occurs twice.
    """
    if not any((directory / f"{table.entity_set}.json").exists() for table in store.tables.values()):
        raise ValueError(f"{directory} holds none of the five seed files (opportunities.json, contacts.json, ...)")
    with store.transaction():
        for name in store.tables:
            store.execute(f"delete from r_{name}")
        untyped = [found for name in store.tables for found in _load_table(store, name, directory)]
        versions = [store.execute(f"select max(version) from r_{name}").fetchone()[0] for name in store.tables]
        highest = max(version or 0 for version in versions)
        for name in store.tables:
            count = store.execute(f"select max(rowid) from r_{name}").fetchone()[0] or 0
            store.execute(f"update r_{name} set version = ? + rowid where version is null", (highest,))
            highest += count
        store.set_meta("version", str(highest))
        for name, properties in _INDEXED.items():
            store.execute(f"create index if not exists v_{name} on r_{name} (version)")
            store.execute(f"create index if not exists m_{name} on r_{name} (modified)")
            for prop in properties:
                lookup = f"json_extract(body, '$.\"{prop}\"')"
                store.execute(f"create index if not exists i_{name}{prop} on r_{name} ({lookup})")
        _add_missing_types(store, untyped)
        store.set_meta("seeded", directory.name)


def _load_table(store: Store, name: str, directory: Path) -> list[tuple[str, str, str]]:
    """Insert one table's rows; returns (table, id, property) of the polymorphic lookups without a type."""
    table = store.tables[name]
    path = directory / f"{table.entity_set}.json"
    discovery, now = Discovery(table), store.clock.stamp()
    several = [c.property for c in table.columns.values() if c.type in LOOKUPS and len(c.targets) > 1]
    untyped: list[tuple[str, str, str]] = []

    def prepared() -> Iterator[tuple[str, int | None, str, str]]:
        for row in read_rows(path):
            row_id, version, modified = _prepare(table, row, now)
            discovery.see(row)
            for prop in several:
                if prop + LOOKUP_TYPE not in row and bytes(row.get(prop, _NULL)) != _NULL:
                    untyped.append((name, row_id, prop))
            yield row_id, version, modified, encode_row(row)

    if path.exists():
        try:
            store.insert_all(name, prepared())
        except sqlite3.IntegrityError as error:
            raise ValueError(f"{path.name}: a {table.primary_id} occurs twice") from error
    after = discovery.apply(table)
    for column in after.columns.values():
        if table.columns.get(column.name) != column:
            store.set_column(name, column.name, column)
    return untyped


def _prepare(table: Table, row: RawRow, now: str) -> tuple[str, int | None, str]:
    """Take key, version and time of change out of a seed row; the version lives outside the body."""
    key = row.get(table.primary_id)
    if key is None or bytes(key) == _NULL:
        raise ValueError(f"{table.entity_set}.json: a row has no {table.primary_id}")
    version, etag = row.pop("versionnumber", None), row.pop("@odata.etag", None)
    number = int(bytes(version)) if version is not None and bytes(version) != _NULL else None
    if number is None and etag is not None:
        digits = "".join(c for c in msgspec.json.decode(etag, type=str) if c.isdigit())
        number = int(digits) if digits else None
    modified = row.get("modifiedon")
    if modified is None or bytes(modified) == _NULL:
        modified = row["modifiedon"] = msgspec.Raw(msgspec.json.encode(now))
    row.setdefault("createdon", modified)
    return msgspec.json.decode(key, type=str).lower(), number, comparable(msgspec.json.decode(modified, type=str))


def _add_missing_types(store: Store, untyped: Iterable[tuple[str, str, str]]) -> None:
    """A seed may leave out which table a lookup points to: take it from the object type code or the rows."""
    codes = {table.object_type_code: name for name, table in store.tables.items()} | _CODES
    for name, row_id, prop in untyped:
        row = store.row(name, row_id)
        if row is None:
            continue
        code = row.get(f"{prop[1:-8]}objecttypecode")
        kind = codes.get(int(bytes(code))) if code is not None and bytes(code) != _NULL else None
        target = msgspec.json.decode(row[prop], type=str).lower()
        if kind is None and prop == "_ownerid_value":
            kind = "systemuser"
        if kind is None:
            kind = next((table for table in ("account", "contact") if store.row(table, target) is not None), None)
        if kind is not None:
            row[prop + LOOKUP_TYPE] = msgspec.Raw(msgspec.json.encode(kind))
            store.execute(f"update r_{name} set body = ? where id = ?", (encode_row(row), row_id))
