"""The leads a new instance begins with: from a file of its own, or made of Dynamics contacts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from emulator.seed import RawRow, read_rows

from .instance import Instance
from .values import stored

WITHOUT_LEAD = 7
"""Every so-manieth contact of the file has no lead."""
_EXTERNAL_ID = "externalPersonId"


def load_leads(instance: Instance, path: Path) -> None:
    """Leads from a JSON array of lead records; several may have one e-mail address.

    Raises:
        ValueError: A record is refused.
    """
    _insert(instance, ({name: msgspec.json.decode(raw) for name, raw in row.items()} for row in read_rows(path)))


def load_contacts(instance: Instance, path: Path) -> None:
    """Leads from `contacts.json` of a Dynamics seed, as a marketing department would have them.

    Every contact that is not merged has a lead with its id in the custom field and in `externalPersonId`, but every
    seventh of the file has none. The first contact with an e-mail address has a second lead with that address only,
    as a filled-in form makes one.

    Raises:
        ValueError: A record is refused.
    """
    _insert(instance, _leads_of(instance, path))


def _leads_of(instance: Instance, path: Path) -> Iterator[dict[str, Any]]:
    doubled = False
    for position, row in enumerate(read_rows(path), start=1):
        contact, email = _text(row, "contactid"), _text(row, "emailaddress1")
        if contact is None or _text(row, "merged") == "True" or position % WITHOUT_LEAD == 0:
            continue
        names = {"firstName": _text(row, "firstname"), "lastName": _text(row, "lastname")}
        email = email if email and email.isascii() else None
        yield {instance.contact_field: contact.lower(), _EXTERNAL_ID: contact.lower(), "email": email, **names}
        if email and not doubled:
            doubled = True
            yield {"email": email, "lastName": names["lastName"]}


def _text(row: RawRow, name: str) -> str | None:
    raw = row.get(name)
    value = None if raw is None else msgspec.json.decode(raw)
    return None if value is None else str(value)


def _insert(instance: Instance, records: Iterator[dict[str, Any]]) -> None:
    """Insert leads as duplicates may be: without a look-up."""
    table = instance.table("leads")
    with instance.call():
        for record in records:
            now = instance.clock.stamp()
            values = {name: stored(table.kind.fields[name], value) for name, value in record.items()}
            lead = {**values, "id": instance.new_key(table), "createdAt": now, "updatedAt": now}
            instance.put(table, {name: value for name, value in lead.items() if value is not None})
