"""The records of one kind of object, in memory, with the indexes its keys and filters need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .model import Field, ObjectType
from .values import index_key

Key = str | int
Record = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode
_SEPARATOR = "\x1f"


class Table:
    """Records by Marketo's key; a record is kept as JSON text, which takes a third of the memory of a dict.

    Args:
        kind: What the records look like.
    """

    def __init__(self, kind: ObjectType) -> None:
        self.kind = kind
        self._records: dict[Key, bytes] = {}
        self._by_dedupe: dict[str, Key] = {}
        self._by_field: dict[str, dict[str, list[Key]]] = {name: {} for name in self._indexed(kind)}

    @staticmethod
    def _indexed(kind: ObjectType) -> list[str]:
        unique = {kind.id_field, *(kind.dedupe_fields if len(kind.dedupe_fields) == 1 else ())}
        return [name for name in kind.searchable if name not in unique]

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[Record]:
        """All records, oldest first."""
        return (_decode(raw) for raw in list(self._records.values()))

    def add_field(self, field: Field) -> None:
        """Give the records a further field."""
        self.kind = self.kind.with_field(field)
        for name in self._indexed(self.kind):
            self._by_field.setdefault(name, {})

    def get(self, key: Key) -> Record | None:
        """One record, or None."""
        raw = self._records.get(key)
        return None if raw is None else _decode(raw)

    def put(self, record: Record) -> bytes:
        """Insert or replace a record, which has its key; returns it as it is kept."""
        key: Key = record[self.kind.id_field]
        before = self.get(key)
        if before is not None:
            self._unindex(key, before, record)
        if self.kind.dedupe_fields:
            self._by_dedupe[self.dedupe_key(record)] = key
        for name, index in self._by_field.items():
            found = self._entry(name, record)
            if found is not None and (before is None or self._entry(name, before) != found):
                index.setdefault(found, []).append(key)
        raw = self._records[key] = _encode(record)
        return raw

    def remove(self, key: Key) -> None:
        """Remove a record."""
        before = _decode(self._records.pop(key))
        self._unindex(key, before, {})

    def _unindex(self, key: Key, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Take out the entries that no longer hold."""
        if self.kind.dedupe_fields and not after:
            self._by_dedupe.pop(self.dedupe_key(before), None)
        for name, index in self._by_field.items():
            old = self._entry(name, before)
            if old is not None and old != self._entry(name, after):
                index[old].remove(key)
                if not index[old]:
                    del index[old]

    def _entry(self, name: str, record: Mapping[str, Any]) -> str | None:
        value = record.get(name)
        return None if value is None else index_key(self.kind.fields[name], value)

    def dedupe_key(self, record: Mapping[str, Any]) -> str:
        """The client's key as one text."""
        return _SEPARATOR.join(str(record[name]) for name in self.kind.dedupe_fields)

    def by_dedupe(self, record: Mapping[str, Any]) -> Key | None:
        """Marketo's key of the record with this client's key."""
        return self._by_dedupe.get(self.dedupe_key(record))

    def find(self, name: str, value: Any) -> list[Key]:
        """Keys of the records whose field has this value, oldest first."""
        if name == self.kind.id_field:
            key = self._as_key(value)
            return [key] if key is not None and key in self._records else []
        if self.kind.dedupe_fields == (name,):
            found = self._by_dedupe.get(str(value))
            return [] if found is None else [found]
        return list(self._by_field[name].get(index_key(self.kind.fields[name], value), ()))

    def _as_key(self, value: Any) -> Key | None:
        if self.kind.fields[self.kind.id_field].type != "integer":
            return str(value)
        try:
            return int(value)
        except (ValueError, TypeError):
            return None
