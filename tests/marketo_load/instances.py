"""A Marketo instance in memory behind the interface of `MarketoClient`, for tests of what is sent and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from opportunity_sync.marketo.errors import QuotaUsedUpError, native_sync_on, quota_used_up
from opportunity_sync.marketo.objects import (
    OBJECTS,
    Description,
    Field,
    RecordResult,
    check_batch,
    cut_into_batches,
)

ROLES = "opportunities/roles"
Record = dict[str, Any]

FIELDS = {
    "companies": {"externalCompanyId": ("string", 100), "company": ("string", 255)},
    "leads": {
        "id": ("integer", None),
        "email": ("email", 255),
        "externalPersonId": ("string", 50),
        "lastName": ("string", 255),
    },
    "opportunities": {
        "externalOpportunityId": ("string", 50),
        "name": ("string", 255),
        "stage": ("string", 255),
        "amount": ("currency", None),
        "closeDate": ("date", None),
        "isClosed": ("boolean", None),
        "isWon": ("boolean", None),
        "probability": ("integer", None),
        "externalCreatedDate": ("datetime", None),
    },
    ROLES: {
        "externalOpportunityId": ("string", 50),
        "leadId": ("integer", None),
        "role": ("string", 50),
        "isPrimary": ("boolean", None),
        "externalCreatedDate": ("datetime", None),
    },
}
LOCKED = {"externalCompanyId", "externalOpportunityId", "leadId", "role", "id"}


class KilledError(BaseException):
    """The process died: nothing of ours runs any more."""


class FakeMarketo:
    """State of an instance, and the calls it has had."""

    base_url = "https://123-abc-456.mktorest.example"

    def __init__(self) -> None:
        self.records: dict[str, dict[tuple[Any, ...], Record]] = {name: {} for name in OBJECTS}
        self.fields = {
            name: {field: Field(field, kind, length, field not in LOCKED) for field, (kind, length) in fields.items()}
            for name, fields in FIELDS.items()
        }
        self.calls: list[tuple[str, str, int]] = []
        """Kind of call, object, records or values."""
        self.refuse: Callable[[str, Record], int | None] = lambda name, record: None
        """Code for a record that is to be skipped."""
        self.before: Callable[[str, str], None] = lambda kind, name: None
        """Called before a write takes effect; may raise."""
        self.after: Callable[[str, str], None] = lambda kind, name: None
        """Called after a write took effect and before it is answered; may raise."""
        self.native_sync = False
        self.calls_left: int | None = None
        self._next_id = 1000
        self._lock = threading.Lock()

    # -- what MarketoClient offers
    @property
    def calls_made(self) -> int:
        return len(self.calls)

    def usage_today(self) -> int:
        return len(self.calls)

    def describe(self, obj: str) -> Description:
        if self.native_sync and obj == ROLES:
            raise native_sync_on("Marketo answered 610 to GET opportunities/roles/describe")
        self._count("describe", obj, 0)
        searchable = (("id",), ("email",), ("externalPersonId",)) if obj == "leads" else ()
        return Description(obj, self.fields[obj], OBJECTS[obj].dedupe_fields, searchable, "marketoGUID")

    @staticmethod
    def batches(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
        return cut_into_batches(records)

    def upsert(
        self,
        obj: str,
        records: Sequence[Mapping[str, Any]],
        *,
        action: str = "createOrUpdate",
        lookup_field: str | None = None,
    ) -> list[RecordResult]:
        check_batch(obj, records, (lookup_field,) if lookup_field else OBJECTS[obj].dedupe_fields)
        self._count("upsert", obj, len(records))
        with self._lock:
            self.before("upsert", obj)
            results = [
                self._new_lead(dict(record)) if obj == "leads" else self._put(obj, dict(record)) for record in records
            ]
            self.after("upsert", obj)
            return results

    def delete(self, obj: str, keys: Sequence[Mapping[str, Any]]) -> list[RecordResult]:
        check_batch(obj, keys, OBJECTS[obj].dedupe_fields)
        self._count("delete", obj, len(keys))
        with self._lock:
            self.before("delete", obj)
            results = [self._remove(obj, dict(key)) for key in keys]
            self.after("delete", obj)
            return results

    def lookup(self, obj: str, filter_type: str, values: Sequence[str], fields: Sequence[str]) -> list[Record]:
        assert len(values) <= 300
        self._count("lookup", obj, len(values))
        wanted = {value.lower() for value in values}
        with self._lock:
            return [
                {field: record.get(field) for field in fields}
                for record in self.records[obj].values()
                if str(record.get(filter_type)).lower() in wanted
            ]

    # -- what tests do to it
    def add_lead(self, **fields: Any) -> int:
        self._next_id += 1
        self.records["leads"][(self._next_id,)] = {"id": self._next_id, **fields}
        return self._next_id

    def keys(self, obj: str) -> set[tuple[Any, ...]]:
        return set(self.records[obj])

    def writes(self) -> list[tuple[str, str, int]]:
        return [call for call in self.calls if call[0] in ("upsert", "delete")]

    def set_field(self, obj: str, name: str, **changes: Any) -> None:
        self.fields[obj][name] = replace(self.fields[obj][name], **changes)

    def _count(self, kind: str, obj: str, size: int) -> None:
        with self._lock:
            if self.calls_left is not None:
                if self.calls_left == 0:
                    raise self._quota()
                self.calls_left -= 1
            self.calls.append((kind, obj, size))

    def _quota(self) -> QuotaUsedUpError:
        return quota_used_up("The daily quota is used up")

    def _new_lead(self, record: Record) -> RecordResult:
        if (code := self.refuse("leads", record)) is not None:
            return RecordResult("skipped", None, code, "refused")
        return RecordResult("created", str(self.add_lead(**record)), None, None)

    def _put(self, obj: str, record: Record) -> RecordResult:
        key = tuple(record[field] for field in OBJECTS[obj].dedupe_fields)
        code = self.refuse(obj, record) or self._problem(obj, record)
        if code is not None:
            return RecordResult("skipped", None, code, "refused")
        existing = self.records[obj].get(key)
        given = {name: value for name, value in record.items() if value is not None}
        if existing is None:
            self.records[obj][key] = given
            return RecordResult("created", f"guid-{obj}-{key}", None, None)
        for name, value in record.items():
            existing.pop(name, None)
            if value is not None:
                existing[name] = value
        return RecordResult("updated", f"guid-{obj}-{key}", None, None)

    def _problem(self, obj: str, record: Record) -> int | None:
        for name, value in record.items():
            field = self.fields[obj].get(name)
            if field is None:
                return 1006
            if field.length and value is not None and len(value) > field.length:
                return 1003
        if obj == "opportunities" and not record["name"]:
            return 1002
        if obj == ROLES and (record["leadId"],) not in self.records["leads"]:
            return 1004
        if obj == ROLES and (record["externalOpportunityId"],) not in self.records["opportunities"]:
            return 1013
        return None

    def _remove(self, obj: str, record: Record) -> RecordResult:
        key = tuple(record[field] for field in OBJECTS[obj].dedupe_fields)
        assert set(record) == set(OBJECTS[obj].dedupe_fields)
        if obj == "opportunities" and any(role[0] == key[0] for role in self.records[ROLES]):
            return RecordResult("skipped", None, 1022, "in use")
        if (code := self.refuse(obj, record)) is not None:
            return RecordResult("skipped", None, code, "refused")
        if self.records[obj].pop(key, None) is None:
            return RecordResult("skipped", None, 1013, "not found")
        return RecordResult("deleted", f"guid-{obj}-{key}", None, None)
