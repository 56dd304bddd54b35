"""One Marketo instance: its records, its settings, and the journal it lives on in."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from emulator.clock import Clock

from .model import COMPANIES, OPPORTUNITIES, ROLES, TYPES, Field, leads
from .table import Key, Record, Table

CONTACT_FIELD = "dynamicsContactId"
"""API name of the leads' custom field with the contact's id, unless told otherwise."""
ACCESS = ("none", "read", "write")
FIRST_ID = 1000
_JOURNAL = "records.jsonl"


class _Line(msgspec.Struct, omit_defaults=True):
    """One line of the journal: a record as it is now, one that is gone, a field added, the last number given."""

    object: str = ""
    record: msgspec.Raw = msgspec.Raw()
    removed: Key | None = None
    field: dict[str, Any] | None = None
    last_id: int | None = None


def _field_line(path: str, field: Field) -> bytes:
    facts = {"name": field.name, "type": field.type, "length": field.length}
    return msgspec.json.encode(_Line(path, field=facts))


class Instance:
    """State and settings of one instance.

    Args:
        directory: Where it lives on; None: it is forgotten at the end.
        contact_field: API name of the leads' custom field with the contact's id.
    """

    def __init__(self, directory: Path | None = None, *, contact_field: str = CONTACT_FIELD) -> None:
        self.clock = Clock()
        self.lock = threading.RLock()
        self.contact_field = contact_field
        self._standard = (COMPANIES, leads(contact_field), OPPORTUNITIES, ROLES)
        self.tables = {kind.path: Table(kind) for kind in self._standard}
        self.native_crm_sync = False
        self.switched_off: set[str] = set()
        self._access: dict[str, str] = {}
        self._last_id = FIRST_ID
        self._pending: list[bytes] = []
        self._journal: BinaryIO | None = None
        self.is_new = True
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self._open_journal(directory / _JOURNAL)

    # -- records ------------------------------------------------------------------------------------------
    def table(self, path: str) -> Table:
        """The records of one kind of object.

        Raises:
            ValueError: There is no such object.
        """
        if path not in self.tables:
            raise ValueError(f"unknown object {path!r}, known are {sorted(self.tables)}")
        return self.tables[path]

    def new_key(self, table: Table) -> Key:
        """A key for a new record: a GUID or the next number."""
        if table.kind.id_field == "marketoGUID":
            return str(uuid.uuid4())
        self._last_id += 1
        return self._last_id

    def put(self, table: Table, record: Record) -> None:
        """Insert or replace a record."""
        raw = table.put(record)
        if self._journal is not None:
            self._pending.append(msgspec.json.encode(_Line(table.kind.path, record=msgspec.Raw(raw))))

    def remove(self, table: Table, key: Key) -> None:
        """Remove a record."""
        table.remove(key)
        if self._journal is not None:
            self._pending.append(msgspec.json.encode(_Line(table.kind.path, removed=key)))

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call at a time; what it changed is in the journal before its answer leaves."""
        with self.lock:
            try:
                yield
            finally:
                self._write_pending()

    def close(self) -> None:
        """Close the journal."""
        with self.lock:
            self._write_pending()
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    # -- settings -----------------------------------------------------------------------------------------
    def set_access(self, access: Mapping[str, str]) -> None:
        """What the API user may do.

        Args:
            access: `opportunities` (roles included), `companies`, `leads` to `none`, `read` or `write`; those not
                named are `write`.
        """
        for name, level in access.items():
            if level not in ACCESS or name not in {table.kind.permission for table in self.tables.values()}:
                raise ValueError(f"access {name!r}: {level!r} is not one of {ACCESS} on a known object")
        self._access = dict(access)

    def may(self, path: str, level: str) -> bool:
        """Whether the API user's permissions reach this level for this object."""
        granted = self._access.get(self.tables[path].kind.permission, "write")
        return ACCESS.index(granted) >= ACCESS.index(level)

    def set_feature(self, path: str, on: bool) -> None:
        """Switch an object's API on or off for the subscription (code 703 when off)."""
        self.table(path)
        (self.switched_off.discard if on else self.switched_off.add)(path)

    def add_field(self, path: str, name: str, type: str = "string", length: int | None = None) -> None:  # noqa: A002
        """Add a custom field, as an administrator does."""
        table = self.table(path)
        if name in table.kind.fields or type not in TYPES:
            raise ValueError(
                f"field {name!r} of {path}: there is one already, or {type!r} is not one of {sorted(TYPES)}"
            )
        field = Field(name, type, length or (255 if type == "string" else None))
        with self.call():
            table.add_field(field)
            if self._journal is not None:
                self._pending.append(_field_line(path, field))

    def describe(self) -> dict[str, object]:
        """What `/_control/health` reports."""
        return {
            "records": {path: len(table) for path, table in self.tables.items()},
            "native_crm_sync": self.native_crm_sync,
            "switched_off": sorted(self.switched_off),
            "access": dict(self._access),
            "contact_field": self.contact_field,
        }

    # -- journal ------------------------------------------------------------------------------------------
    def _open_journal(self, path: Path) -> None:
        """Read what is there, write it anew without what is gone, and keep it open."""
        if path.exists():
            self.is_new = False
            with path.open("rb") as stream:
                for line in stream:
                    if line.endswith(b"\n"):  # a line cut by a kill belongs to a call that was never answered
                        self._replay(msgspec.json.decode(line, type=_Line))
        aside = path.with_suffix(".new")
        with aside.open("wb") as stream:
            stream.writelines(line + b"\n" for line in self._snapshot())
        aside.replace(path)
        self._journal = path.open("ab")

    def _replay(self, line: _Line) -> None:
        if line.last_id is not None:
            self._last_id = line.last_id
            return
        table = self.tables[line.object]
        if line.field is not None:
            if line.field["name"] not in table.kind.fields:
                table.add_field(Field(**line.field))
        elif line.removed is not None:
            table.remove(line.removed)
        else:
            record = msgspec.json.decode(line.record, type=Record)
            table.put(record)
            key = record[table.kind.id_field]
            if isinstance(key, int):
                self._last_id = max(self._last_id, key)

    def _snapshot(self) -> Iterator[bytes]:
        yield msgspec.json.encode(_Line(last_id=self._last_id))
        for standard in self._standard:
            table = self.tables[standard.path]
            for name, field in table.kind.fields.items():
                if name not in standard.fields:
                    yield _field_line(standard.path, field)
            for record in table:
                yield msgspec.json.encode(_Line(standard.path, record=msgspec.Raw(msgspec.json.encode(record))))

    def _write_pending(self) -> None:
        if self._pending and self._journal is not None:
            self._journal.write(b"".join(line + b"\n" for line in self._pending))
            self._journal.flush()
        self._pending.clear()
