"""Writes as a user of Dynamics makes them: create, update, delete with cascades, merge, mirrored connections."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from decimal import Decimal

from .errors import ApiError, bad_payload, no_row
from .model import LOOKUP_TYPE, Table
from .organisation import Organisation
from .seed import RawRow
from .values import NULL, apply_values, plain, raw, set_lookup

_ENDS = ("record1id", "record2id")
_SWAPPED = re.compile(r"^(_?record)([12])(.*)$", re.DOTALL)
_OWN = ("connectionid", "_relatedconnectionid_value", "ismaster", "createdon")
# (referencing table, lookup) of the relationships whose rows go, or move, with the customer they belong to.
# Cascading delete of customers: the sales documentation of opportunity_customer_accounts / _contacts.
_PARENTAL = (("opportunity", "customerid"), ("contact", "parentcustomerid"))
_LINKS = (
    ("opportunity", "parentaccountid"),
    ("opportunity", "parentcontactid"),
    ("account", "primarycontactid"),
    ("account", "parentaccountid"),
)


def read_payload(body: bytes) -> dict[str, object]:
    """A JSON object; decimals keep their digits.

    Raises:
        ApiError: 400 when it is none.
    """
    try:
        payload = json.loads(body, parse_float=Decimal)
    except ValueError as error:
        raise bad_payload("the request body is not JSON.") from error
    if not isinstance(payload, dict):
        raise bad_payload("the request body is not a JSON object.")
    return payload


def create(org: Organisation, table: Table, values: Mapping[str, object], *, internal: bool = False) -> str:
    """Create a row; returns its id.

    Raises:
        ApiError: 400 for a payload that does not fit, 412 for a key that exists.
    """
    store = org.store
    with store.transaction():
        given = values.get(table.primary_id)
        row_id = str(given).lower() if given else str(uuid.uuid4())
        if store.row_version(table.name, row_id) is not None:
            raise ApiError(412, "0x80040237", "A record with matching key values already exists.")
        now = raw(org.clock.stamp())
        row: RawRow = {table.primary_id: raw(row_id), "createdon": now, "modifiedon": now}
        state = 0 if "statecode" in table.columns else None
        row |= {"statecode": raw(state), "statuscode": raw(1)}
        if "ownerid" in table.columns:
            set_lookup(store, row, table.columns["ownerid"], "systemuser", store.named_id("user"))
        if "merged" in table.columns:
            row["merged"] = raw(False)
        apply_values(store, table, row, values, internal=internal)
        if (backdated := row.get("overriddencreatedon")) is not None and bytes(backdated) != b"null":
            row["createdon"] = backdated
        if table.name == "connection":
            _complete_connection(org, table, row)
            if "_relatedconnectionid_value" not in row:
                _create_mirror(org, table, row)
        store.put(table.name, row_id, row)
    return row_id


def update(
    org: Organisation,
    table: Table,
    row_id: str,
    values: Mapping[str, object],
    *,
    if_match: str | None = None,
    if_none_match: str | None = None,
    internal: bool = False,
) -> bool:
    """Update a row, or create it when there is none and no If-Match was given; True when it was created.

    Raises:
        ApiError: 404 for a missing row under If-Match, 412 for another version.
    """
    store = org.store
    with store.transaction():
        row = store.row(table.name, row_id)
        if row is None:
            if if_match is not None:
                raise no_row(table.name, row_id)
            create(org, table, {**values, table.primary_id: row_id}, internal=internal)
            return True
        if if_none_match == "*":
            raise ApiError(412, "0x80040237", "A record with matching key values already exists.")
        _check_version(org, table, row_id, if_match)
        row["modifiedon"] = raw(org.clock.stamp())
        apply_values(store, table, row, values, internal=internal)
        if table.name == "connection":
            _complete_connection(org, table, row)
            _update_mirror(org, table, row)
        store.put(table.name, row_id, row)
    return False


def delete(org: Organisation, table: Table, row_id: str, *, if_match: str | None = None, cascade: bool = True) -> None:
    """Delete a row and what goes with it: connections, a customer's opportunities and contacts.

    Raises:
        ApiError: 404 for a missing row, 412 for another version.
    """
    store = org.store
    with store.transaction():
        row = store.row(table.name, row_id)
        if row is None:
            raise no_row(table.name, row_id)
        _check_version(org, table, row_id, if_match)
        store.remove(table.name, row_id)
        if not cascade:
            return
        if table.name == "connection":
            mirror = plain(row, "_relatedconnectionid_value")
            if mirror is not None:
                store.remove("connection", str(mirror))
            return
        for connection in _connections_of(org, row_id):
            if store.row_version("connection", connection) is not None:
                delete(org, store.tables["connection"], connection)
        if table.name in ("account", "contact"):
            for name, column in _references(org, _PARENTAL, table):
                for found in store.referencing(name, f"_{column}_value", row_id):
                    if store.row_version(name, found) is not None:
                        delete(org, store.tables[name], found)
            for name, column in _references(org, _LINKS, table):
                _repoint(org, name, column, row_id, None, None)


def _check_version(org: Organisation, table: Table, row_id: str, if_match: str | None) -> None:
    if if_match in (None, "*"):
        return
    if if_match != f'W/"{org.store.row_version(table.name, row_id)}"':
        raise ApiError(
            412,
            "0x80060882",
            "The version of the existing record doesn't match the RowVersion property provided.",
        )


def _references(org: Organisation, pairs: tuple[tuple[str, str], ...], target: Table) -> list[tuple[str, str]]:
    return [
        (name, column)
        for name, column in pairs
        if column in org.store.tables[name].columns and target.name in org.store.tables[name].columns[column].targets
    ]


def _connections_of(org: Organisation, row_id: str) -> list[str]:
    return [found for end in _ENDS for found in org.store.referencing("connection", f"_{end}_value", row_id)]


def _repoint(org: Organisation, name: str, column: str, old: str, target: str | None, new: str | None) -> None:
    """Move every reference to a row to another row of the same table, or clear it."""
    store, table = org.store, org.store.tables[name]
    lookup = table.columns[column]
    for found in store.referencing(name, lookup.property, old):
        row = store.row(name, found)
        if row is None:
            continue
        set_lookup(store, row, lookup, target, new)
        row["modifiedon"] = raw(org.clock.stamp())
        apply_values(store, table, row, {}, internal=True)
        store.put(name, found, row)


# -- connections ------------------------------------------------------------------------------------------
def _complete_connection(org: Organisation, table: Table, row: RawRow) -> None:
    """Both ends are required; their type codes and the row's name follow from them."""
    codes = {name: t.object_type_code for name, t in org.store.tables.items()} | {"lead": 4, "systemuser": 8, "team": 9}
    for number, end in enumerate(_ENDS, start=1):
        if plain(row, f"_{end}_value") is None:
            raise bad_payload(f"'{end}' is required on a connection.")
        kind = plain(row, f"_{end}_value{LOOKUP_TYPE}")
        code = codes.get(str(kind))
        if code is not None and f"record{number}objecttypecode" in table.columns:
            row[f"record{number}objecttypecode"] = raw(code)
    formatted = row.get("_record2id_value@OData.Community.Display.V1.FormattedValue")
    row["name"] = formatted if formatted is not None else row.get("name", NULL)


def _swapped(row: RawRow) -> RawRow:
    """The connection seen from its other end."""
    result: RawRow = {}
    for key, value in row.items():
        match = _SWAPPED.match(key)
        result[f"{match[1]}{3 - int(match[2])}{match[3]}" if match else key] = value
    return result


def _create_mirror(org: Organisation, table: Table, row: RawRow) -> None:
    store = org.store
    own, other = str(plain(row, "connectionid")), str(uuid.uuid4())
    mirror = _swapped(row)
    mirror["connectionid"] = raw(other)
    _complete_connection(org, table, mirror)
    row["ismaster"], mirror["ismaster"] = raw(True), raw(False)
    related = table.columns["relatedconnectionid"]
    set_lookup(store, row, related, "connection", other)
    set_lookup(store, mirror, related, "connection", own)
    store.put("connection", other, mirror)


def _update_mirror(org: Organisation, table: Table, row: RawRow) -> None:
    other = plain(row, "_relatedconnectionid_value")
    before = org.store.row("connection", str(other)) if other is not None else None
    if before is None:
        return
    mirror = _swapped(row)
    for key in list(mirror):
        if key.startswith(_OWN):
            del mirror[key]
    mirror |= {key: value for key, value in before.items() if key.startswith(_OWN)}
    _complete_connection(org, table, mirror)
    org.store.put("connection", str(other), mirror)


# -- merge ------------------------------------------------------------------------------------------------
def merge(org: Organisation, payload: Mapping[str, object]) -> None:
    """The Merge action of the Web API.

    Raises:
        ApiError: 400 for a payload that does not fit, 404 for a missing row, 501 for another table.
    """
    found = []
    for name in ("Target", "Subordinate"):
        entity = payload.get(name)
        if not isinstance(entity, dict):
            raise bad_payload(f"the parameter '{name}' of Merge is missing.")
        kind = str(entity.get("@odata.type", "")).removeprefix("#").removeprefix("Microsoft.Dynamics.CRM.")
        if kind not in ("account", "contact"):
            raise ApiError(501, "0x80060892", f"The stand-in does not speak merging rows of '{kind}'.")
        found.append((kind, str(entity.get(f"{kind}id", "")).lower()))
    content = payload.get("UpdateContent") or {}
    if found[0][0] != found[1][0] or not isinstance(content, dict):
        raise bad_payload("Target and Subordinate of Merge must be rows of one table.")
    values = {key: value for key, value in content.items() if key != f"{found[0][0]}id"}
    merge_rows(org, org.store.tables[found[0][0]], found[0][1], found[1][1], values)


def merge_rows(
    org: Organisation,
    table: Table,
    target_id: str,
    subordinate_id: str,
    content: Mapping[str, object] | None = None,
    *,
    cascade: bool = True,
) -> None:
    """Merge the subordinate into the target: it is deactivated, marked and keeps existing; references move.

    Args:
        cascade: False leaves references where they are (an organisation whose relationships do not cascade).
    """
    store = org.store
    with store.transaction():
        target, subordinate = store.row(table.name, target_id), store.row(table.name, subordinate_id)
        if target is None or subordinate is None:
            raise no_row(table.name, target_id if target is None else subordinate_id)
        if target_id == subordinate_id or plain(subordinate, "merged") is True:
            raise bad_payload("the subordinate of Merge is the target, or is merged already.")
        if cascade:
            for name, column in _references(org, _PARENTAL + _LINKS, table):
                _repoint(org, name, column, subordinate_id, table.name, target_id)
            for end in _ENDS:
                _repoint(org, "connection", end, subordinate_id, table.name, target_id)
        update(org, table, target_id, content or {})
        subordinate |= {"merged": raw(True), "statecode": raw(1), "statuscode": raw(2)}
        set_lookup(store, subordinate, table.columns["masterid"], table.name, target_id)
        subordinate["modifiedon"] = raw(org.clock.stamp())
        store.put(table.name, subordinate_id, subordinate)
