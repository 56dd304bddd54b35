"""Lookups by filter, with paging, and the descriptions of the objects."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import RecordError, RequestError
from .model import Field
from .table import Key, Record, Table
from .values import stored

Json = dict[str, Any]
MOST_VALUES = 300
MOST_ROWS = 300
MOST_LEADS = 1000
_LEAD_FIELDS = ("id", "email", "updatedAt", "createdAt", "lastName", "firstName")
_KEPT_PAGES = 1000
_MADE = "2015-02-03T22:36:23Z"


@dataclass(frozen=True)
class Lookup:
    """One question.

    Attributes:
        filter_type: Field, or `idField` or `dedupeFields`.
        values: Values of that field, as text.
        keys: Compound keys, instead of values.
        fields: Fields to answer with; empty: the object's usual ones.
        batch_size: Records per page.
        token: Which page; empty: the first.
    """

    filter_type: str
    values: tuple[str, ...]
    keys: tuple[Record, ...]
    fields: tuple[str, ...]
    batch_size: int
    token: str


def parse(parameters: Mapping[str, list[str]], body: Mapping[str, Any] | None) -> Lookup:
    """A question from query or form parameters, or from a JSON body (compound keys).

    Raises:
        RequestError: 701, 1001 or 1003.
    """
    if body is not None:
        keys = body.get("input")
        if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
            raise RequestError(701, "input cannot be blank")
        single = {name: str(body[name]) for name in ("batchSize", "nextPageToken") if body.get(name)}
        fields = tuple(str(name) for name in body.get("fields") or ())
        asked: tuple[str, ...] = ()
        kind = str(body.get("filterType") or "dedupeFields")
    else:
        keys, kind = [], _one(parameters, "filterType")
        asked, fields = _many(parameters, "filterValues"), _many(parameters, "fields")
        single = {name: _one(parameters, name) for name in ("batchSize", "nextPageToken") if name in parameters}
        if not kind or not asked:
            raise RequestError(701, f"{'filterValues' if kind else 'filterType'} cannot be blank")
    if max(len(asked), len(keys)) > MOST_VALUES:
        raise RequestError(1003, f"Too many values to filter by, at most {MOST_VALUES}")
    size = single.get("batchSize", str(MOST_ROWS))
    if not size.isdigit() or int(size) < 1:
        raise RequestError(1001, f"Invalid value '{size}'. Required of type 'integer'")
    token = single.get("nextPageToken", "")
    return Lookup(kind, asked, tuple(keys), fields, min(int(size), MOST_ROWS), token)


def _one(parameters: Mapping[str, list[str]], name: str) -> str:
    return parameters.get(name, [""])[0]


def _many(parameters: Mapping[str, list[str]], name: str) -> tuple[str, ...]:
    """Values separated by commas, and the parameter may come several times."""
    return tuple(value for text in parameters.get(name, ()) for value in text.split(",") if value)


class Pages:
    """The pages that are still to come, by token."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[Lookup, list[Key]]] = OrderedDict()

    def take(self, lookup: Lookup) -> list[Key]:
        """What is left of a question; its token can be used again, but not with another question."""
        asked, keys = self._waiting.get(lookup.token, (None, []))
        if asked is None or (asked.filter_type, asked.values, asked.keys) != (
            lookup.filter_type,
            lookup.values,
            lookup.keys,
        ):
            raise RequestError(1003, "Invalid nextPageToken")
        return keys

    def keep(self, lookup: Lookup, keys: list[Key]) -> str:
        """A token for what is left."""
        token = secrets.token_hex(20).upper() + "==="
        self._waiting[token] = (lookup, keys)
        while len(self._waiting) > _KEPT_PAGES:
            self._waiting.popitem(last=False)
        return token


def find(pages: Pages, table: Table, lookup: Lookup) -> Json:
    """Answer a lookup: `result`, `moreResult`, and `nextPageToken` when there is more.

    Raises:
        RequestError: The filter or a field cannot be used.
    """
    names = _shown(table, lookup)
    keys = pages.take(lookup) if lookup.token else list(dict.fromkeys(_matching(table, lookup)))
    if table.kind.path == "leads" and len(keys) > MOST_LEADS:
        raise RequestError(1003, "Too many results match the filter")
    page, rest = keys[: lookup.batch_size], keys[lookup.batch_size :]
    found = [record for record in map(table.get, page) if record is not None]
    answer: Json = {"result": [_row(table, seq, record, names) for seq, record in enumerate(found)]}
    answer["moreResult"] = bool(rest)
    if rest:
        answer["nextPageToken"] = pages.keep(lookup, rest)
    return answer


def _shown(table: Table, lookup: Lookup) -> tuple[str, ...]:
    if not lookup.fields:
        if table.kind.path == "leads":
            return _LEAD_FIELDS
        usual = (table.kind.id_field, *table.kind.dedupe_fields, "updatedAt", "createdAt", lookup.filter_type)
        return tuple(dict.fromkeys(name for name in usual if name in table.kind.fields))
    spelling = {name.lower(): name for name in table.kind.fields}
    for name in lookup.fields:
        if name.lower() not in spelling:
            raise RequestError(1006, f"Field '{name}' not found")
    return tuple(spelling[name.lower()] for name in lookup.fields)


def _matching(table: Table, lookup: Lookup) -> Iterable[Key]:
    kind = table.kind
    if lookup.keys:
        return _by_keys(table, lookup)
    name = {"idField": kind.id_field, "dedupeFields": ",".join(kind.dedupe_fields)}.get(
        lookup.filter_type, lookup.filter_type
    )
    if "," in name:
        raise RequestError(1003, "A compound key needs a JSON body")
    if name not in kind.fields:
        raise RequestError(1006, f"Field '{name}' not found")
    if name not in kind.searchable:
        raise RequestError(1011, f"Field '{name}' not supported")
    return (key for value in lookup.values for key in table.find(name, value))


def _by_keys(table: Table, lookup: Lookup) -> list[Key]:
    names = table.kind.dedupe_fields
    if lookup.filter_type != "dedupeFields" or not names:
        raise RequestError(1003, f"Invalid filterType '{lookup.filter_type}' with a list of keys")
    found = []
    for key in lookup.keys:
        if set(key) != set(names):
            raise RequestError(1003, f"A key has the fields {', '.join(names)}")
        try:
            match = table.by_dedupe({name: stored(table.kind.fields[name], key[name]) for name in names})
        except RecordError as error:
            raise RequestError(error.code, error.message) from error
        if match is not None:
            found.append(match)
    return found


def _row(table: Table, seq: int, record: Record, names: tuple[str, ...]) -> Json:
    """A record as it is shown. Of leads, empty fields are null; of all else, they are left out."""
    if table.kind.path == "leads":
        return {name: record.get(name) for name in dict.fromkeys(("id", *names))}
    shown = dict.fromkeys((table.kind.id_field, *names))
    return {"seq": seq, **{name: record[name] for name in shown if name in record}}


def describe(table: Table, *, crm_managed: bool) -> list[Json]:
    """What an object is: keys, filters, fields."""
    kind = table.kind
    single = [[name] for name in kind.searchable]
    compound = [list(kind.dedupe_fields)] if len(kind.dedupe_fields) > 1 else []
    return [
        {
            "name": kind.name,
            "apiName": kind.name,
            "displayName": kind.display_name,
            "pluralName": f"{kind.display_name}s" if kind.path != "companies" else "Companies",
            "description": f"{kind.display_name} object",
            "createdAt": _MADE,
            "updatedAt": _MADE,
            "idField": kind.id_field,
            "dedupeFields": list(kind.dedupe_fields),
            "searchableFields": compound + single,
            "relationships": [],
            "state": "approved",
            "version": "approved",
            "fields": [_field(field, crm_managed=crm_managed) for field in kind.fields.values()],
        }
    ]


def describe_leads(table: Table) -> list[Json]:
    """The older description of leads: one entry per field."""
    return [
        {
            "id": number,
            "displayName": field.display_name,
            "dataType": field.type,
            **_length(field),
            "rest": {"name": field.name, "readOnly": not field.updateable},
        }
        for number, field in enumerate(table.kind.fields.values(), start=1)
    ]


def describe_leads_2(table: Table) -> list[Json]:
    """The newer description of leads: what may be a filter, and all fields."""
    fields = [_field(field, crm_managed=False) for field in table.kind.fields.values()]
    return [{"name": table.kind.name, "searchableFields": [[name] for name in table.kind.searchable], "fields": fields}]


def _field(field: Field, *, crm_managed: bool) -> Json:
    return {
        "name": field.name,
        "displayName": field.display_name,
        "dataType": field.type,
        **_length(field),
        "updateable": field.updateable,
        "crmManaged": crm_managed,
    }


def _length(field: Field) -> Json:
    return {} if field.length is None else {"length": field.length}
