"""The Dataverse Web API below `/api/data/v9.2/`: which request is answered by what."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from . import definitions, reading, writes
from .errors import ApiError, bad_payload, bad_query, no_segment, not_spoken
from .model import Table
from .organisation import Organisation
from .query import Preferences, Resource, parse_options, parse_path, parse_prefer

SERVICE = "/api/data/v9.2/"
_GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_JSON = "application/json; odata.metadata=minimal"


@dataclass(frozen=True)
class Call:
    """A request, without its transport. `path` is what follows the service root, percent-decoded."""

    method: str
    path: str
    query: str
    base: str
    prefer: list[str] = field(default_factory=list)
    if_match: str | None = None
    if_none_match: str | None = None
    body: bytes = b""

    @property
    def root(self) -> str:
        """Absolute service root, ending in a slash."""
        return f"{self.base}{SERVICE}"


@dataclass(frozen=True)
class Reply:
    """An answer, without its transport."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = _JSON


def answer(org: Organisation, call: Call) -> Reply:
    """Answer one authenticated request.

    Raises:
        ApiError: For everything that is not a success.
    """
    org.require_member()
    resource = parse_path(call.path)
    if resource.name == "$metadata":
        raise not_spoken("the $metadata document (EntityDefinitions are)")
    if resource.name == "$batch":
        raise not_spoken("$batch")
    if resource.name == "WhoAmI":
        return _who_am_i(org, call)
    if resource.name == "EntityDefinitions":
        return Reply(200, json.dumps(definitions.answer(org, call.method, call.root, resource, call.query)).encode())
    if resource.name == "Merge":
        writes.merge(org, _payload(call))
        return Reply(204)
    table = next((t for t in org.store.tables.values() if t.entity_set == resource.name), None)
    if table is None:
        if resource.name in _KNOWN_UNSPOKEN or call.method == "POST":
            raise not_spoken(f"'{resource.name}'")
        raise no_segment(resource.name)
    return _rows(org, call, table, resource)


_KNOWN_UNSPOKEN = {
    "RetrieveMetadataChanges",
    "GlobalOptionSetDefinitions",
    "RelationshipDefinitions",
    "RetrieveTotalRecordCount",
    "RetrieveCurrentOrganization",
    "systemusers",
    "teams",
    "businessunits",
    "organizations",
    "transactioncurrencies",
    "leads",
}


def _who_am_i(org: Organisation, call: Call) -> Reply:
    document = {
        "@odata.context": f"{call.root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
        "BusinessUnitId": org.store.named_id("business_unit"),
        "UserId": org.store.named_id("user"),
        "OrganizationId": org.store.named_id("organization"),
    }
    return Reply(200, json.dumps(document).encode())


def row_key(resource: Resource) -> str:
    """The GUID in `set(guid)`.

    Raises:
        ApiError: 400 when it is none, 501 for an alternate key.
    """
    key = (resource.key or "").strip("'")
    if "=" in key:
        raise not_spoken("alternate keys")
    if not _GUID.match(key):
        raise bad_query(f"Bad Request - Error in query syntax: '{key}' is not a GUID.")
    return key.lower()


def _rows(org: Organisation, call: Call, table: Table, resource: Resource) -> Reply:
    prefer = parse_prefer(call.prefer)
    if resource.key is None and resource.rest is None:
        if call.method == "GET":
            org.require_read(table.name)
            options = parse_options(call.query)
            return Reply(200, reading.read_page(org, call.root, table, options, prefer), _applied(prefer))
        if call.method == "POST":
            return _created(org, call, table, writes.create(org, table, _payload(call)), prefer)
    elif resource.key is None and resource.rest == "$count" and call.method == "GET":
        org.require_read(table.name)
        number = reading.count(org, table, parse_options(call.query))
        return Reply(200, str(number).encode(), content_type="text/plain")
    elif resource.key is None and call.method == "POST":
        return _bulk(org, call, table, unquote(resource.rest or ""))
    elif resource.rest is not None:
        raise not_spoken(f"'/{resource.rest}' behind a row")
    elif resource.key is not None:
        return _row(org, call, table, row_key(resource), prefer)
    raise ApiError(405, "0x80060888", f"The requested resource does not support http method '{call.method}'.")


def _row(org: Organisation, call: Call, table: Table, row_id: str, prefer: Preferences) -> Reply:
    if call.method == "GET":
        org.require_read(table.name)
        body = reading.read_one(org, call.root, table, row_id, parse_options(call.query), prefer)
        return Reply(200, body, _applied(prefer))
    if call.method == "DELETE":
        writes.delete(org, table, row_id, if_match=call.if_match)
        return Reply(204)
    if call.method == "PATCH":
        created = writes.update(
            org, table, row_id, _payload(call), if_match=call.if_match, if_none_match=call.if_none_match
        )
        if created:
            return _created(org, call, table, row_id, prefer)
        if prefer.representation:
            return Reply(
                200,
                reading.read_one(org, call.root, table, row_id, parse_options(call.query), prefer),
                _applied(prefer),
            )
        return Reply(204, headers={"OData-EntityId": f"{call.root}{table.entity_set}({row_id})"})
    raise ApiError(405, "0x80060888", f"The requested resource does not support http method '{call.method}'.")


def _created(org: Organisation, call: Call, table: Table, row_id: str, prefer: Preferences) -> Reply:
    address = {"OData-EntityId": f"{call.root}{table.entity_set}({row_id})"}
    if prefer.representation:
        body = reading.read_one(org, call.root, table, row_id, parse_options(call.query), prefer)
        return Reply(201, body, {**address, **_applied(prefer)})
    return Reply(204, headers=address)


def _bulk(org: Organisation, call: Call, table: Table, action: str) -> Reply:
    name = action.removeprefix("Microsoft.Dynamics.CRM.").rstrip("()")
    if name not in ("CreateMultiple", "UpdateMultiple"):
        raise not_spoken(f"the action '{name}'")
    targets = _payload(call).get("Targets")
    if not isinstance(targets, list) or not all(isinstance(item, dict) for item in targets):
        raise bad_payload("the parameter 'Targets' is missing or no list of rows.")
    with org.store.transaction():
        if name == "CreateMultiple":
            ids = [writes.create(org, table, item) for item in targets]
            context = f"{call.root}$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
            return Reply(200, json.dumps({"@odata.context": context, "Ids": ids}).encode())
        for item in targets:
            key = item.pop(table.primary_id, None)
            if not isinstance(key, str):
                raise bad_payload(f"a row of 'Targets' has no {table.primary_id}.")
            writes.update(org, table, key.lower(), item, if_match="*")
    return Reply(204)


def _payload(call: Call) -> dict[str, object]:
    return writes.read_payload(call.body)


def _applied(prefer: Preferences) -> dict[str, str]:
    applied = prefer.applied()
    return {"Preference-Applied": applied} if applied else {}
