"""Create, update and delete: opportunities, roles and companies alike, leads by their own rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import RecordError, RequestError
from .instance import Instance
from .table import Key, Record, Table
from .values import index_key, stored

Json = dict[str, Any]
MOST_RECORDS = 300
_ACTIONS = ("createOnly", "updateOnly", "createOrUpdate")
_LEAD_ACTIONS = (*_ACTIONS, "createDuplicate")


def sync(instance: Instance, table: Table, body: Mapping[str, Any], skips: Mapping[int, int]) -> list[Json]:
    """Create or update the records of a request body, one by one.

    Args:
        instance: The instance.
        table: Which records.
        body: `action`, `dedupeBy` or `lookupField`, `input`.
        skips: Position to record code: records a fault leaves out.

    Raises:
        RequestError: The request as a whole cannot be executed.
    """
    one = _lead_writer(instance, table, body) if table.kind.path == "leads" else _object_writer(instance, table, body)
    return _each(table, _input(body), one, skips)


def delete(instance: Instance, table: Table, body: Mapping[str, Any], skips: Mapping[int, int]) -> list[Json]:
    """Delete the records a request body names by key.

    Raises:
        RequestError: The request as a whole cannot be executed.
    """
    by = body.get("deleteBy", "dedupeFields")
    if by not in ("dedupeFields", "idField"):
        raise RequestError(1003, f"Invalid deleteBy '{by}'")
    by_id = by == "idField" or not table.kind.dedupe_fields
    seen: set[str] = set()

    def one(record: Record) -> tuple[str, Key]:
        _refuse_crm(instance, table)
        names = (table.kind.id_field,) if by_id else table.kind.dedupe_fields
        known = _key_values(table, record, names)
        for name in record:
            if name not in names:
                raise RecordError(1003, f"Only the key may be given, not '{name}'")
        _once(seen, known)
        key = _present(table, known, by_id=by_id)
        if key is None:
            raise RecordError(1004 if table.kind.path == "leads" else 1013)
        _refuse_in_use(instance, table, key)
        if table.kind.path == "leads":
            roles = instance.table("opportunities/roles")
            for role in roles.find("leadId", key):
                instance.remove(roles, role)
        instance.remove(table, key)
        return "deleted", key

    return _each(table, _input(body), one, skips)


def _input(body: Mapping[str, Any]) -> list[Record]:
    records = body.get("input")
    if not records:
        raise RequestError(701, "input cannot be blank")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise RequestError(609)
    if len(records) > MOST_RECORDS:
        raise RequestError(1003, f"Too many records: {len(records)}, at most {MOST_RECORDS}")
    return records


def _each(
    table: Table, records: list[Record], one: Callable[[Record], tuple[str, Key]], skips: Mapping[int, int]
) -> list[Json]:
    """One result per record, in the order of the input; all but leads carry their position in `seq`."""
    results: list[Json] = []
    for position, record in enumerate(records):
        result: Json = {} if table.kind.path == "leads" else {"seq": position}
        try:
            if position in skips:
                raise RecordError(skips[position])
            result["status"], result[table.kind.id_field] = one(record)
        except RecordError as error:
            result |= {"status": "skipped", "reasons": error.reasons()}
        results.append(result)
    return results


def _object_writer(instance: Instance, table: Table, body: Mapping[str, Any]) -> Callable[[Record], tuple[str, Key]]:
    action, by = body.get("action", "createOrUpdate"), body.get("dedupeBy", "dedupeFields")
    if action not in _ACTIONS:
        raise RequestError(1003, f"Invalid action '{action}'")
    if by not in ("dedupeFields", "idField") or (by == "idField" and action == "createOnly"):
        raise RequestError(1003, f"Invalid dedupeBy '{by}' with action '{action}'")
    if table.kind.path == "opportunities" and any(record.get("externalSalesPersonId") for record in _input(body)):
        raise RequestError(718)
    by_id = by == "idField"
    seen: set[str] = set()

    def one(record: Record) -> tuple[str, Key]:
        _refuse_crm(instance, table)
        names = (table.kind.id_field,) if by_id else table.kind.dedupe_fields
        known = _key_values(table, record, names)
        _once(seen, known)
        values = _values(table, record, names)
        key = _present(table, known, by_id=by_id)
        if key is not None:
            if action == "createOnly":
                raise RecordError(1017)
            return _write(instance, table, key, values)
        if action == "updateOnly" or by_id:
            raise RecordError(1013)
        for name in table.kind.required:
            if values.get(name) is None:
                raise RecordError(1002, f"Missing value for the required parameter '{name}'")
        if table.kind.path == "opportunities/roles":
            _require_ends(instance, known)
        return _write(instance, table, None, known | values)

    return one


def _lead_writer(instance: Instance, table: Table, body: Mapping[str, Any]) -> Callable[[Record], tuple[str, Key]]:
    action, lookup = body.get("action", "createOrUpdate"), body.get("lookupField", "email")
    if action not in _LEAD_ACTIONS:
        raise RequestError(1003, f"Invalid action '{action}'")
    if lookup not in table.kind.fields:
        raise RequestError(1006, f"Lookup field '{lookup}' not found")
    if lookup not in table.kind.searchable:
        raise RequestError(1011, f"Lookup field '{lookup}' not supported")
    if lookup == "id" and action != "updateOnly":
        raise RequestError(1003, "Lookup field 'id' is only for updateOnly")
    seen: set[str] = set()

    def one(record: Record) -> tuple[str, Key]:
        if "id" in record and lookup != "id":
            raise RecordError(1003, "id is not a value to set")
        for name in record:
            if name in table.kind.fields and table.kind.fields[name].of_company:
                raise RecordError(1021)
        values = _values(table, record, ("id",))
        company = values.get("externalCompanyId")
        if company is not None and not instance.table("companies").find("externalCompanyId", company):
            raise RecordError(1013, f"Company '{company}' not found")
        if action == "createDuplicate":
            return _write(instance, table, None, values)
        known = _key_values(table, record, (lookup,))
        _once(seen, {lookup: index_key(table.kind.fields[lookup], known[lookup])})
        found = table.find(lookup, known[lookup])
        if len(found) > 1:
            raise RecordError(1007)
        if found and action == "createOnly":
            raise RecordError(1005)
        if not found and action == "updateOnly":
            raise RecordError(1004)
        return _write(instance, table, found[0] if found else None, values)

    return one


def _refuse_crm(instance: Instance, table: Table) -> None:
    if instance.native_crm_sync and table.kind.crm_managed:
        raise RecordError(1018)


def _key_values(table: Table, record: Mapping[str, Any], names: tuple[str, ...]) -> Record:
    """The fields of a key, each with a value."""
    for name in record:
        if name not in table.kind.fields:
            raise RecordError(1006, f"Field '{name}' not found")
    known = {}
    for name in names:
        known[name] = stored(table.kind.fields[name], record.get(name))
        if known[name] is None:
            raise RecordError(1002, f"Missing value for the required parameter '{name}'")
    return known


def _once(seen: set[str], known: Mapping[str, Any]) -> None:
    """Refuse a key the request already had."""
    key = "\x1f".join(str(value) for value in known.values())
    if key in seen:
        raise RecordError(1036)
    seen.add(key)


def _present(table: Table, known: Mapping[str, Any], *, by_id: bool) -> Key | None:
    """Marketo's key of the record with this key, if there is one."""
    if not by_id:
        return table.by_dedupe(known)
    found = table.find(table.kind.id_field, known[table.kind.id_field])
    return found[0] if found else None


def _values(table: Table, record: Mapping[str, Any], key_names: tuple[str, ...]) -> Record:
    """The values to set, as they are kept."""
    values = {}
    for name, value in record.items():
        field = table.kind.fields.get(name)
        if field is None:
            raise RecordError(1006, f"Field '{name}' not found")
        if name in key_names:
            continue
        if not field.updateable:
            raise RecordError(1003, f"Field '{name}' cannot be set")
        values[name] = stored(field, value)
        if values[name] is None and name in table.kind.required:
            raise RecordError(1002, f"Missing value for the required parameter '{name}'")
    return values


def _require_ends(instance: Instance, known: Mapping[str, Any]) -> None:
    """A role needs its opportunity and its lead."""
    if not instance.table("opportunities").find("externalOpportunityId", known["externalOpportunityId"]):
        raise RecordError(1013, f"Opportunity '{known['externalOpportunityId']}' not found")
    if known["leadId"] not in instance.table("leads"):
        raise RecordError(1004)


def _refuse_in_use(instance: Instance, table: Table, key: Key) -> None:
    """An opportunity with roles and a company with leads stay."""
    if table.kind.path not in ("opportunities", "companies"):
        return
    name = table.kind.dedupe_fields[0]
    user = "opportunities/roles" if table.kind.path == "opportunities" else "leads"
    record = table.get(key) or {}
    if instance.table(user).find(name, record[name]):
        raise RecordError(1022)


def _write(instance: Instance, table: Table, key: Key | None, values: Mapping[str, Any]) -> tuple[str, Key]:
    """Insert a record, or set values of one; returns what happened and Marketo's key."""
    now = instance.clock.stamp()
    if key is None:
        status, key, before = "created", instance.new_key(table), {"createdAt": now}
    else:
        status, before = "updated", table.get(key) or {}
    record = {**before, **values, table.kind.id_field: key, "updatedAt": now}
    instance.put(table, {name: value for name, value in record.items() if value is not None})
    return status, key
