"""One organisation as the server sees it: its state, who may read what, what is switched on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .clock import Clock
from .errors import ApiError, no_privilege
from .model import Column, column_from_json, column_to_json
from .query import MAX_PAGE
from .store import Store

DEPTHS = ("None", "Basic", "Global")


class Organisation:
    """State and settings of one organisation.

    Args:
        state_dir: Where the state is kept.
        page_size: Rows per page when the client asks for no fewer, at most 5000.
    """

    def __init__(self, state_dir: Path, page_size: int = MAX_PAGE) -> None:
        self.clock = Clock()
        self.store = Store(state_dir, self.clock)
        self.page_size = max(1, min(page_size, MAX_PAGE))
        self.tracking_days = 7
        self.member = True
        self._read_depth: dict[str, str] = {}
        for name in self.store.tables:
            self._set_tracking(name, self.store.get_meta(f"tracking:{name}") != "off")

    # -- privileges ---------------------------------------------------------------------------------------
    def set_privileges(self, *, member: bool = True, read: Mapping[str, str] | None = None) -> None:
        """Who the caller is: a member of the organisation or not; read depth per table.

        Args:
            member: False answers 403 `0x80072560` to everything.
            read: Table to `None` (no read), `Basic` (rows of one's own: no change tracking) or `Global`; tables
                not named are `Global`.
        """
        for table, depth in (read or {}).items():
            if table not in self.store.tables or depth not in DEPTHS:
                raise ValueError(f"read privilege {table!r}: {depth!r} is not one of {DEPTHS} on a known table")
        self.member = member
        self._read_depth = dict(read or {})

    def require_member(self) -> None:
        """Refuse a caller that is no user of this organisation."""
        if not self.member:
            raise ApiError(403, "0x80072560", "The user is not a member of the organization.")

    def require_read(self, table: str, depth: str = "Basic") -> None:
        """Refuse a caller whose read privilege on this table does not reach the depth."""
        if DEPTHS.index(self._read_depth.get(table, "Global")) < DEPTHS.index(depth):
            raise no_privilege(table, depth, self.store.named_id("user"), self.store.named_id("business_unit"))

    # -- change tracking ----------------------------------------------------------------------------------
    def set_change_tracking(self, table: str, enabled: bool) -> None:
        """Switch change tracking of a table on or off (kept in the state)."""
        self.store.set_meta(f"tracking:{table}", "on" if enabled else "off")
        self._set_tracking(table, enabled)

    def _set_tracking(self, table: str, enabled: bool) -> None:
        self.store.tables[table] = replace(self.store.tables[table], change_tracking=enabled)

    def expire_change_tracking(self, table: str | None = None) -> None:
        """Make every delta token given out so far for this table (or all) invalid."""
        with self.store.transaction():
            oldest = str(self.store.next_version())
            for name in self.store.tables if table is None else (table,):
                self.store.set_meta(f"oldest:{name}", oldest)

    def oldest_version(self, table: str) -> int:
        """Delta tokens with a lower version are expired."""
        return int(self.store.get_meta(f"oldest:{table}") or 0)

    # -- columns ------------------------------------------------------------------------------------------
    def drop_column(self, table: str, column: str) -> None:
        """Remove a column with its values, as an administrator does; a new one of the same name starts empty."""
        found = self._column(table, column)
        with self.store.transaction():
            self.store.forget_values(table, found.property)
            self.store.set_column(table, column, None)

    def add_column(self, table: str, column: str, type: str = "String", **facts: object) -> None:  # noqa: A002
        """Add a custom column.

        Args:
            table: Logical name of the table.
            column: Logical name of the column.
            type: Dataverse AttributeType.
            **facts: Further fields of `emulator.model.Column`, as in `metadata.json`: `options={1: "Hot"}`, ...
        """
        if column in self.store.tables[table].columns:
            raise ValueError(f"{table} already has a column {column!r}")
        self.store.set_column(table, column, column_from_json(column, {"type": type, "custom": True, **facts}))

    def change_column(self, table: str, column: str, **facts: object) -> None:
        """Change what is said about a column; the rows and their versions stay as they are.

        Args:
            table: Logical name of the table.
            column: Logical name of the column.
            **facts: Fields to replace, as `metadata.json` writes them: `display`, `description`, `options` (all of
                them), `targets`, `type`, `behavior`, ...
        """
        known = column_to_json(self._column(table, column))
        self.store.set_column(table, column, column_from_json(column, {**known, **facts}))

    def _column(self, table: str, column: str) -> Column:
        found = self.store.tables[table].columns.get(column)
        if found is None:
            raise ValueError(f"{table} has no column {column!r}")
        return found

    def describe(self) -> dict[str, object]:
        """What `/_control/health` reports."""
        return {
            "organization_id": self.store.named_id("organization"),
            "version": self.store.version,
            "rows": {name: self.store.count(name) for name in self.store.tables},
            "tracking": {name: table.change_tracking for name, table in self.store.tables.items()},
            "read": json.loads(json.dumps(self._read_depth)),
            "member": self.member,
        }
