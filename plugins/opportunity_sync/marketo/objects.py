"""What Marketo's objects are: their addresses, keys and permissions; their descriptions; what becomes of a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from opportunity_sync.marketo.errors import protocol_error, without_addresses

MOST_RECORDS = 300
"""Records, or values looked up, per call."""
LARGEST_BODY_BYTES = 1_000_000
_ENVELOPE_BYTES = 1_000
"""Room for what stands around the records of a body."""

STATUSES = frozenset({"created", "updated", "deleted", "skipped"})
LEAD_ABSENT = 1004
OBJECT_ABSENT = 1013
"""Of a skipped record: there is nothing with this key; when deleting, then, nothing is left to do."""


@dataclass(frozen=True)
class MarketoObject:
    """One kind of records."""

    name: str
    """In addresses, below `/rest/v1/`."""
    dedupe_fields: tuple[str, ...]
    """The key by which records are created or updated."""
    reading: str
    """Permission needed to read."""
    writing: str
    """Permission needed to write."""
    describe: str = "describe"


OBJECTS = {
    each.name: each
    for each in (
        MarketoObject(
            "opportunities", ("externalOpportunityId",), "Read-Only Opportunity", "Read-Write Named Opportunity"
        ),
        MarketoObject(
            "opportunities/roles",
            ("externalOpportunityId", "leadId", "role"),
            "Read-Only Opportunity",
            "Read-Write Named Opportunity",
        ),
        MarketoObject("companies", ("externalCompanyId",), "Read-Only Company", "Read-Write Company"),
        MarketoObject("leads", ("email",), "Read-Only Lead", "Read-Write Lead", describe="describe2"),
    )
}


def marketo_object(name: str) -> MarketoObject:
    """The object of that name.

    Raises:
        MarketoProtocolError: there is none.
    """
    if name not in OBJECTS:
        raise protocol_error(f"{name} is not one of the Marketo objects {', '.join(OBJECTS)}")
    return OBJECTS[name]


@dataclass(frozen=True)
class Field:
    """A field of an object, as the instance has it."""

    name: str
    data_type: str
    length: int | None
    """Longest text."""
    updateable: bool


@dataclass(frozen=True)
class Description:
    """An object as the instance has it."""

    name: str
    fields: Mapping[str, Field]
    dedupe_fields: tuple[str, ...]
    """Empty for leads, whose description names none."""
    searchable_fields: tuple[tuple[str, ...], ...]
    """Each one field, or several that are asked for together."""
    id_field: str | None


@dataclass(frozen=True)
class RecordResult:
    """What became of one record of a call."""

    status: str
    """`created`, `updated`, `deleted` or `skipped`."""
    marketo_id: str | None
    """`marketoGUID`, or the number of a lead or company."""
    code: int | None
    """The first reason of a skipped record."""
    message: str | None
    """Marketo's text for it, without e-mail addresses."""


class _DescribedField(msgspec.Struct, rename="camel"):
    name: str
    data_type: str
    length: int | None = None
    updateable: bool = False


class Described(msgspec.Struct, rename="camel"):
    """The answer of a describe endpoint."""

    name: str
    fields: list[_DescribedField]
    searchable_fields: list[list[str]] = []
    dedupe_fields: list[str] = []
    id_field: str | None = None

    def description(self) -> Description:
        """In our words."""
        fields = [Field(each.name, each.data_type, each.length, each.updateable) for each in self.fields]
        return Description(
            name=self.name,
            fields={each.name: each for each in fields},
            dedupe_fields=tuple(self.dedupe_fields),
            searchable_fields=tuple(tuple(each) for each in self.searchable_fields),
            id_field=self.id_field,
        )


class Reason(msgspec.Struct):
    """Code and text of an error, of a call or a record; the code is a number in quotes, or without."""

    code: int | str
    message: str = ""

    def number(self) -> int | None:
        """The code as a number; None when it is none."""
        text = str(self.code)
        return int(text) if text.isascii() and text.isdigit() else None


class AnsweredRecord(msgspec.Struct):
    """One record of the answer to a write."""

    status: str = ""
    marketo_guid: str | None = msgspec.field(default=None, name="marketoGUID")
    id: int | None = None
    reasons: list[Reason] = []
    reason: Reason | None = None
    """Adobe's description of leads has it in the singular."""

    def result(self) -> RecordResult:
        """In our words.

        Raises:
            MarketoProtocolError: an unknown status.
        """
        if self.status not in STATUSES:
            raise protocol_error("A record of Marketo's answer has a status the API does not promise")
        first = next(iter(self.reasons), self.reason)
        return RecordResult(
            status=self.status,
            marketo_id=self.marketo_guid or (None if self.id is None else str(self.id)),
            code=first.number() if first else None,
            message=without_addresses(first.message) if first else None,
        )


def cut_into_batches(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Cut records, in their order, into lists that each fit one call.

    Raises:
        MarketoProtocolError: one record alone is too large for a call.
    """
    batch: list[Mapping[str, Any]] = []
    size = _ENVELOPE_BYTES
    for record in records:
        own = len(msgspec.json.encode(record)) + 1
        if own + _ENVELOPE_BYTES > LARGEST_BODY_BYTES:
            raise protocol_error(f"One record of {own} bytes is too large for a call")
        if len(batch) == MOST_RECORDS or size + own > LARGEST_BODY_BYTES:
            yield batch
            batch, size = [], _ENVELOPE_BYTES
        batch.append(record)
        size += own
    if batch:
        yield batch


def check_batch(name: str, records: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
    """Refuse what Marketo would refuse, or answer ambiguously, before it is sent.

    Raises:
        MarketoProtocolError: too many records, or two with the same key.
    """
    if len(records) > MOST_RECORDS:
        raise protocol_error(f"{len(records)} records of {name} are too many for a call; the limit is {MOST_RECORDS}")
    keys = {tuple(record.get(field) for field in key) for record in records}
    if len(keys) < len(records):
        raise protocol_error(f"A call with {len(records)} records of {name} has only {len(keys)} keys")
