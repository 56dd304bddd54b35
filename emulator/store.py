"""The organisation's state in SQLite: rows, the organisation-wide version counter, deletes, own columns."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from .clock import Clock
from .model import (
    Column,
    Table,
    column_from_json,
    column_to_json,
    standard_tables,
    with_column,
    without_column,
)
from .seed import RawRow

_decode_row = msgspec.json.Decoder(RawRow).decode
_REPORTED = "(id, version) not in (select id, version from unreported where tbl = ?)"


def comparable(stamp: str) -> str:
    """A DateTime as text that compares in time order: `2026-01-02T03:04:05Z` to `...05.000Z`."""
    head, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{head}.{(fraction + '000')[:3]}Z"


class Store:
    """One organisation. All methods may be called from any thread.

    Args:
        directory: Where `organisation.sqlite` lives; created when missing.
        clock: The server's clock.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "organisation.sqlite"
        self.clock = clock
        self.lock = threading.RLock()
        self._depth = 0
        self._reporting = True
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self.tables: dict[str, Table] = standard_tables()
        self._db.execute("create table if not exists meta (key text primary key, value text)")
        self._db.execute(
            "create table if not exists deleted (tbl text, id text, version integer, primary key (tbl, id))"
        )
        self._db.execute(
            "create table if not exists unreported (tbl text, id text, version integer, primary key (tbl, id))"
        )
        for name in self.tables:
            self._db.execute(
                f"create table if not exists r_{name} "
                "(id text primary key, version integer, modified text, body text not null)"
            )
        self._load_overlay()

    # -- settings of the organisation ---------------------------------------------------------------------
    def get_meta(self, key: str) -> str | None:
        """A stored setting, or None."""
        with self.lock:
            found = self._db.execute("select value from meta where key = ?", (key,)).fetchone()
        return found[0] if found else None

    def set_meta(self, key: str, value: str) -> None:
        """Store a setting."""
        with self.lock:
            self._db.execute("insert or replace into meta values (?, ?)", (key, value))

    def named_id(self, name: str) -> str:
        """A GUID that belongs to this organisation for good, e.g. `organization`, `user`, `business_unit`."""
        with self.lock:
            found = self.get_meta(f"id:{name}")
            if found is None:
                found = str(uuid.uuid4())
                self.set_meta(f"id:{name}", found)
        return found

    @property
    def version(self) -> int:
        """The last `versionnumber` given out."""
        return int(self.get_meta("version") or 0)

    def next_version(self) -> int:
        """A new, higher `versionnumber`."""
        with self.lock:
            value = self.version + 1
            self.set_meta("version", str(value))
        return value

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; may be nested."""
        with self.lock:
            if self._depth == 0:
                self._db.execute("begin immediate")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("rollback")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("commit")

    @contextmanager
    def unreported(self) -> Iterator[None]:
        """Writes that change tracking never reports, as when it lapses; later writes of the same rows are."""
        with self.transaction():
            before, self._reporting = self._reporting, False
            try:
                yield
            finally:
                self._reporting = before

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            self._db.close()

    # -- metadata -----------------------------------------------------------------------------------------
    def _load_overlay(self) -> None:
        overlay = json.loads(self.get_meta("columns") or "{}")
        for table, columns in overlay.items():
            for name, raw in columns.items():
                base = self.tables[table]
                self.tables[table] = (
                    without_column(base, name) if raw is None else with_column(base, column_from_json(name, raw))
                )

    def set_column(self, table: str, name: str, column: Column | None) -> None:
        """Add or replace a column (`None` drops it) and keep that in the state."""
        with self.transaction():
            overlay = json.loads(self.get_meta("columns") or "{}")
            overlay.setdefault(table, {})[name] = None if column is None else column_to_json(column)
            self.set_meta("columns", json.dumps(overlay))
            base = self.tables[table]
            self.tables[table] = without_column(base, name) if column is None else with_column(base, column)

    @property
    def seeded(self) -> bool:
        """True once a seed was loaded completely."""
        return self.get_meta("seeded") is not None

    def execute(self, sql: str, parameters: Iterable[object] = ()) -> sqlite3.Cursor:
        """Run one statement (for seeding); inside a transaction of the caller's."""
        with self.lock:
            return self._db.execute(sql, tuple(parameters))

    def insert_all(self, table: str, rows: Iterable[tuple[str, int | None, str, str]]) -> None:
        """Insert rows as (id, version or None, comparable modifiedon, body); for seeding."""
        with self.lock:
            self._db.executemany(f"insert into r_{table} values (?, ?, ?, ?)", rows)

    # -- rows ---------------------------------------------------------------------------------------------
    def select(
        self,
        table: str,
        where: str = "1",
        parameters: Sequence[object] = (),
        order: str = "id",
        limit: int = -1,
        offset: int = 0,
    ) -> list[tuple[str, int, bytes]]:
        """Live rows as (id, version, JSON body)."""
        with self.lock:
            return self._db.execute(
                f"select id, version, cast(body as blob) from r_{table} where {where} "
                f"order by {order} limit ? offset ?",
                (*parameters, limit, offset),
            ).fetchall()

    def count(self, table: str, where: str = "1", parameters: Sequence[object] = ()) -> int:
        """Number of live rows."""
        with self.lock:
            found = self._db.execute(f"select count(*) from r_{table} where {where}", parameters).fetchone()
        return int(found[0])

    def row(self, table: str, row_id: str) -> RawRow | None:
        """One live row as property to raw JSON, or None."""
        found = self.select(table, "id = ?", (row_id.lower(),))
        return _decode_row(found[0][2]) if found else None

    def row_version(self, table: str, row_id: str) -> int | None:
        """The row's `versionnumber`, or None when there is no such row."""
        with self.lock:
            found = self._db.execute(f"select version from r_{table} where id = ?", (row_id.lower(),)).fetchone()
        return int(found[0]) if found else None

    def put(self, table: str, row_id: str, body: RawRow) -> int:
        """Write one row whole under a new version; returns the version."""
        with self.transaction():
            version = self.next_version()
            modified = comparable(msgspec.json.decode(body["modifiedon"], type=str))
            self._db.execute(
                f"insert or replace into r_{table} values (?, ?, ?, ?)", (row_id, version, modified, encode_row(body))
            )
            if not self._reporting:
                self._db.execute("insert or replace into unreported values (?, ?, ?)", (table, row_id, version))
        return version

    def reported_between(
        self, table: str, after: int, until: int, last: tuple[int, str], limit: int
    ) -> list[tuple[str, int, bytes]]:
        """Rows created or changed that change tracking reports, in order, after the position `last`."""
        return self.select(
            table,
            f"version > ? and version <= ? and (version, id) > (?, ?) and {_REPORTED}",
            (after, until, *last, table),
            "version, id",
            limit,
        )

    def forget_values(self, table: str, prop: str) -> None:
        """Take a property out of every row; versions stay as they are."""
        with self.transaction():
            for row_id, _, body in self.select(table, f"body like '%{prop}%'"):
                row = {key: value for key, value in _decode_row(body).items() if key.partition("@")[0] != prop}
                self._db.execute(f"update r_{table} set body = ? where id = ?", (encode_row(row), row_id))

    def remove(self, table: str, row_id: str) -> bool:
        """Delete one row, and log the delete where change tracking is on; False when there was none."""
        with self.transaction():
            gone = self._db.execute(f"delete from r_{table} where id = ?", (row_id,)).rowcount
            if gone:
                version = self.next_version()
                if self.tables[table].change_tracking and self._reporting:
                    self._db.execute("insert or replace into deleted values (?, ?, ?)", (table, row_id, version))
        return bool(gone)

    def deleted_between(
        self, table: str, after: int, until: int, last: tuple[int, str], limit: int
    ) -> list[tuple[str, int]]:
        """Deletes of rows that are still gone, as (id, version), in order, after the position `last`."""
        with self.lock:
            return self._db.execute(
                "select id, version from deleted where tbl = ? and version > ? and version <= ? "
                f"and (version, id) > (?, ?) and id not in (select id from r_{table}) order by version, id limit ?",
                (table, after, until, *last, limit),
            ).fetchall()

    def referencing(self, table: str, prop: str, row_id: str) -> list[str]:
        """Ids of the rows of `table` whose lookup `prop` holds this id."""
        return [found[0] for found in self.select(table, f"json_extract(body, '$.\"{prop}\"') = ?", (row_id,))]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All live rows, decoded, with `versionnumber`: for assertions in tests."""
        return [_decoded(version, body) for _, version, body in self.select(table)]

    def decoded_row(self, table: str, row_id: str) -> dict[str, Any] | None:
        """One live row, decoded, with `versionnumber`."""
        found = self.select(table, "id = ?", (row_id.lower(),))
        return _decoded(found[0][1], found[0][2]) if found else None


def _decoded(version: int, body: bytes) -> dict[str, Any]:
    return {**msgspec.json.decode(body), "versionnumber": version}


def encode_row(row: RawRow) -> str:
    """The row as JSON text, numbers with the digits they came with."""
    return "{" + ",".join(f"{json.dumps(key)}:{bytes(value).decode()}" for key, value in row.items()) + "}"
