"""Putting the values of a write into a stored row: lookups by `@odata.bind`, type checks, derived columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from .errors import ApiError, bad_payload, bad_query, no_row
from .model import CHOICES, FORMATTED, LOOKUP_TYPE, LOOKUPS, Column, Table
from .seed import RawRow
from .store import Store

NULL = msgspec.Raw(b"null")
_BIND = "@odata.bind"
_REFERENCE = re.compile(r"(?:^|/)(\w+)\('?([0-9a-fA-F-]{36})'?\)$")
_OTHER_SETS = {
    "systemusers": "systemuser",
    "teams": "team",
    "transactioncurrencies": "transactioncurrency",
    "leads": "lead",
    "businessunits": "businessunit",
    "pricelevels": "pricelevel",
    "campaigns": "campaign",
    "organizations": "organization",
}
_SERVER_SIDE = {"versionnumber", "ismaster", "relatedconnectionid", "merged", "fullname"}


def raw(value: object) -> msgspec.Raw:
    """A value as JSON text; decimals keep their digits."""
    if isinstance(value, Decimal):
        return msgspec.Raw(str(value).encode())
    return msgspec.Raw(msgspec.json.encode(value))


def plain(row: Mapping[str, msgspec.Raw], prop: str) -> object:
    """The decoded value of a property; None when absent or null."""
    found = row.get(prop)
    return None if found is None else json.loads(bytes(found), parse_float=Decimal)


def set_lookup(store: Store, row: RawRow, column: Column, target: str | None, row_id: str | None) -> None:
    """Point a lookup to a row, or clear it."""
    prop = column.property
    for annotation in (FORMATTED, LOOKUP_TYPE):
        row.pop(prop + annotation, None)
    row[prop] = raw(row_id.lower()) if row_id else NULL
    if row_id and target:
        row[prop + LOOKUP_TYPE] = raw(target)
        known = store.tables.get(target)
        found = store.row(target, row_id) if known else None
        if known and found and (name := found.get(known.primary_name)) is not None:
            row[prop + FORMATTED] = name


def apply_values(store: Store, table: Table, row: RawRow, values: Mapping[str, object], *, internal: bool) -> None:
    """Write the payload of a create or update into the row.

    Args:
        store: The organisation's rows, to check references.
        table: The table.
        row: Changed in place.
        values: Web API payload. Internal callers may also give `_x_value` with its type annotation, and server-side
            columns, as a seed row has them; their references need not exist.
        internal: Whether the caller is a control, not a user of the Web API.

    Raises:
        ApiError: 400 for an unknown property, a wrong type, a malformed reference; 404 for a missing target.
    """
    for key, value in values.items():
        if key.endswith(_BIND):
            _bind(store, table, row, key.removesuffix(_BIND), value, internal)
        elif "@" in key:
            if internal and key.endswith((FORMATTED, LOOKUP_TYPE)) and value is not None:
                row[key] = raw(value)
        else:
            _set(store, table, row, key, value, internal)
    if internal:
        for key, value in values.items():
            if key.endswith(LOOKUP_TYPE) and value is not None:
                row[key] = raw(value)
    _derive(store, table, row, values)


def _bind(store: Store, table: Table, row: RawRow, navigation: str, value: object, internal: bool) -> None:
    found = table.navigation.get(navigation)
    if found is None:
        raise bad_payload(
            f"InnerException : An undeclared property '{navigation}' which only has property annotations in the "
            "payload but no property value was found in the payload."
        )
    column, only = found
    if value is None:
        set_lookup(store, row, column, None, None)
        return
    match = _REFERENCE.search(str(value))
    if match is None:
        raise bad_payload(f"the reference '{value}' of '{navigation}' is not of the form /entityset(guid).")
    sets = {t.entity_set: t.name for t in store.tables.values()} | _OTHER_SETS
    target = sets.get(match[1], match[1].removesuffix("s"))
    if target not in column.targets or (
        column.targets[target] == navigation and column.type != "Owner" and target != only
    ):
        raise bad_payload(f"'{navigation}' cannot refer to '{match[1]}'.")
    if column.targets[target] != navigation:
        raise bad_payload(f"'{navigation}' cannot refer to '{match[1]}'; use '{column.targets[target]}'.")
    if not internal and target in store.tables and store.row_version(target, match[2]) is None:
        raise no_row(target, match[2].lower())
    set_lookup(store, row, column, target, match[2])


def _set(store: Store, table: Table, row: RawRow, key: str, value: object, internal: bool) -> None:
    column = table.properties.get(key)
    if column is None and key in table.navigation and value is None:
        set_lookup(store, row, table.navigation[key][0], None, None)
        return
    if column is None:
        raise bad_payload(
            f"InnerException : The property '{key}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}'. Make "
            "sure to only use property names that are defined by the type."
        )
    if key == "versionnumber" or (not internal and key in _SERVER_SIDE) or key == table.primary_id:
        return
    if column.type in LOOKUPS:
        if not internal:
            raise bad_query(
                "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead."
            )
        target = next(iter(column.targets)) if len(column.targets) == 1 else None
        set_lookup(store, row, column, target, None if value is None else str(value))
        return
    _check(column, value)
    row.pop(key + FORMATTED, None)
    row[key] = raw(value)


def _check(column: Column, value: object) -> None:
    """Refuse a value that does not fit the column's type."""
    kind, fits = column.type, True
    if value is None:
        return
    if kind in ("Integer", "BigInt") or kind in CHOICES - {"MultiSelectPicklist"}:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind in ("Money", "Decimal", "Double"):
        fits = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    elif kind == "Boolean":
        fits = isinstance(value, bool)
    elif kind == "DateTime":
        fits = isinstance(value, str) and _is_moment(value)
    elif kind in ("String", "Memo", "Uniqueidentifier", "EntityName", "MultiSelectPicklist"):
        fits = isinstance(value, str)
        if fits and column.length is not None and len(str(value)) > column.length:
            raise ApiError(
                400,
                "0x80044331",
                f"A validation error occurred. The length of the '{column.name}' attribute exceeded the maximum "
                f"allowed length of '{column.length}'.",
            )
    if not fits:
        raise bad_payload(
            f"InnerException : Cannot convert a value to the type '{kind}' of the property '{column.name}'."
        )


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _derive(store: Store, table: Table, row: RawRow, values: Mapping[str, object]) -> None:
    """Columns Dataverse fills itself."""
    status, state = table.columns["statuscode"], table.columns["statecode"]
    if "statecode" in values and "statuscode" not in values:
        fitting = [value for value, (_, of) in status.options.items() if of == plain(row, "statecode")]
        row["statuscode"] = raw(fitting[0]) if fitting else NULL
    elif "statuscode" in values and "statecode" not in values and isinstance(values["statuscode"], int):
        of_state = status.options.get(values["statuscode"], ("", None))[1]
        if of_state is not None and of_state in state.options:
            row["statecode"] = raw(of_state)
    if table.name == "contact":
        if {"firstname", "lastname"} & values.keys() and "fullname" not in values:
            names = (plain(row, "firstname"), plain(row, "lastname"))
            row["fullname"] = raw(" ".join(str(name) for name in names if name))
        _split_customer(store, table, row, "parentcustomerid", "accountid", "parentcontactid")
    if table.name == "opportunity":
        _split_customer(store, table, row, "customerid", "accountid", "contactid")
        rate = plain(row, "exchangerate")
        for key in values:
            base = table.columns.get(f"{key}_base")
            if base is not None and f"{key}_base" not in values:
                amount = plain(row, key)
                if amount is None:
                    row[f"{key}_base"] = NULL
                else:
                    converted = Decimal(str(amount)) / Decimal(str(rate or 1))
                    row[f"{key}_base"] = raw(converted.quantize(Decimal("0.01")))


def _split_customer(store: Store, table: Table, row: RawRow, customer: str, account: str, contact: str) -> None:
    """The read-only lookups that mirror a customer column."""
    prop = table.columns[customer].property if customer in table.columns else ""
    kind, row_id = plain(row, prop + LOOKUP_TYPE), plain(row, prop)
    for name, target in ((account, "account"), (contact, "contact")):
        if name in table.columns:
            set_lookup(store, row, table.columns[name], target, str(row_id) if row_id and kind == target else None)
