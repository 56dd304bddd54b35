"""Table and column definitions: `EntityDefinitions` and below, as Dataverse sends them."""

from __future__ import annotations

import re
from collections.abc import Callable

from .attributes import BASE_PROPERTIES, CASTS, CRM, Json, label, metadata_id, type_name, with_shadows
from .errors import ApiError, bad_query, no_property, no_segment, not_spoken
from .filters import matches, parse
from .model import Table
from .organisation import Organisation
from .query import Resource, parse_options

_KEY = re.compile(r"^(?:LogicalName='([^']*)'|([0-9a-fA-F-]{36}))$")
_SEGMENT = re.compile(r"^Attributes(?:\((.*?)\))?(?:/(?:Microsoft\.Dynamics\.CRM\.)?(\w+))?$")
_EXPAND = re.compile(r"([A-Za-z]+)(?:\(([^()]*(?:\([^()]*\)[^()]*)*)\))?(?:,|$)")


def answer(org: Organisation, method: str, root: str, resource: Resource, query: str) -> Json:
    """Answer a request below `EntityDefinitions`.

    Raises:
        ApiError: 404 for an unknown table or column, 400 for an unknown property, 501 for what is not spoken.
    """
    if method != "GET":
        raise not_spoken("writes to table definitions")
    options = parse_options(query)
    if resource.key is None:
        found = [_entity(table, options.expand) for table in org.store.tables.values()]
        items = _narrowed(found, options.select, options.filter, "EntityMetadata")
        return {"@odata.context": f"{root}$metadata#EntityDefinitions", "value": items}
    table = _table(org, resource.key)
    if resource.rest is None:
        entity = _narrowed([_entity(table, options.expand)], options.select, None, "EntityMetadata")[0]
        return {"@odata.context": f"{root}$metadata#EntityDefinitions/$entity", **entity}
    segment = _SEGMENT.match(resource.rest)
    if segment is None:
        raise not_spoken(f"EntityDefinitions(...)/{resource.rest}")
    key, cast = segment[1], segment[2]
    items = _attributes(table, cast, options.select, options.filter, options.expand)
    context = f"{root}$metadata#EntityDefinitions('{table.name}')/Attributes" + (f"/{CRM}{cast}" if cast else "")
    if key is None:
        return {"@odata.context": context, "value": items}
    match = _KEY.match(key)
    everything = _attributes(table, cast, None, None, options.expand)
    for number, item in enumerate(everything):
        if match and (item["LogicalName"] == match[1] or item["MetadataId"] == match[2]):
            return {"@odata.context": f"{context}/$entity", **items[number]}
    raise ApiError(404, "0x80040217", f"Could not find an attribute with specified name: {key} in {table.name}")


def _table(org: Organisation, key: str) -> Table:
    match = _KEY.match(key)
    if match is None:
        raise bad_query(f"Bad Request - Error in query syntax: EntityDefinitions({key})")
    for table in org.store.tables.values():
        if table.name == match[1] or (match[2] and metadata_id(table.name) == match[2].lower()):
            return table
    raise ApiError(404, "0x80060888", f"Could not find an entity with name {match[1] or match[2]}.")


def _entity(table: Table, expand: str | None) -> Json:
    title = re.sub(r"(?<!^)(?=[A-Z])", " ", table.schema_name)
    entity: Json = {
        "MetadataId": metadata_id(table.name),
        "LogicalName": table.name,
        "SchemaName": table.schema_name,
        "EntitySetName": table.entity_set,
        "LogicalCollectionName": table.entity_set,
        "PrimaryIdAttribute": table.primary_id,
        "PrimaryNameAttribute": table.primary_name,
        "ObjectTypeCode": table.object_type_code,
        "ChangeTrackingEnabled": table.change_tracking,
        "IsCustomEntity": False,
        "IsValidForAdvancedFind": True,
        "IsIntersect": False,
        "IsPrivate": False,
        "OwnershipType": "OrganizationOwned" if table.name == "connectionrole" else "UserOwned",
        "TableType": "Standard",
        "DisplayName": label(title),
        "DisplayCollectionName": label({"opportunity": "Opportunities"}.get(table.name, f"{title}s")),
        "Description": label(""),
    }
    for name, inner in _expands(expand):
        if name != "Attributes":
            raise not_spoken(f"$expand={name} on EntityDefinitions")
        entity["Attributes"] = _attributes(table, None, inner("$select"), inner("$filter"), inner("$expand"))
    return entity


def _expands(text: str | None) -> list[tuple[str, Callable[[str], object]]]:
    found: list[tuple[str, Callable[[str], object]]] = []
    for match in _EXPAND.finditer(text or ""):
        values: dict[str, object] = {}
        for part in (match[2] or "").split(";"):
            name, _, value = part.partition("=")
            if name.strip() == "$select":
                values["$select"] = tuple(item.strip() for item in value.split(","))
            elif name.strip():
                values[name.strip()] = value
        found.append((match[1], values.get))
    return found


def _narrowed(items: list[Json], select: object, filter_text: object, type_name: str) -> list[Json]:
    if isinstance(filter_text, str):
        if "AttributeTypeCode'" in filter_text:
            filter_text = re.sub(r"Microsoft\.Dynamics\.CRM\.AttributeTypeCode'", "'", filter_text)
        node = parse(filter_text)
        items = [item for item in items if matches(node, item, type_name)]
    if not isinstance(select, tuple):
        return items
    chosen = []
    for item in items:
        kept: Json = {key: value for key, value in item.items() if key.startswith("@")}
        for name in (*select, "MetadataId"):
            if name not in item:
                raise no_property(name, type_name)
            kept[name] = item[name]
        kept |= {name: item[name] for name in ("Attributes", "OptionSet", "GlobalOptionSet") if name in item}
        chosen.append(kept)
    return chosen


def _attributes(table: Table, cast: str | None, select: object, filter_text: object, expand: object) -> list[Json]:
    """Attributes of a table, of one metadata type when cast.

    As in Dataverse, `$select` may only name properties of the type asked for: `Targets` needs the cast to
    LookupAttributeMetadata; without `$select` every property is sent.
    """
    known = {"AttributeMetadata", *(type_name(column) for column in table.columns.values())} | CASTS
    if cast is not None and cast not in known:
        raise no_segment(f"{CRM}{cast}")
    everything = [item for column in table.columns.values() for item in with_shadows(table, column)]
    if cast not in (None, "AttributeMetadata"):
        everything = [item for item in everything if item["@odata.type"] == f"#{CRM}{cast}"]
    expands = _expands(expand if isinstance(expand, str) else None)
    for name, _ in expands:
        if name not in ("OptionSet", "GlobalOptionSet") or cast in (None, "AttributeMetadata"):
            raise no_property(name, cast or "AttributeMetadata")
    chosen = []
    for item in everything:
        options: Json = {name: item.pop(name) for name in ("OptionSet", "GlobalOptionSet") if name in item}
        for name, inner in expands:
            content, wanted = options.get(str(name)), inner("$select")
            if isinstance(content, dict) and isinstance(wanted, tuple):
                content = {key: value for key, value in content.items() if key in wanted or key == "MetadataId"}
            item[name] = content
        chosen.append(item)
    if cast in (None, "AttributeMetadata") and isinstance(select, tuple):
        for name in select:
            if name not in BASE_PROPERTIES:
                raise no_property(name, "AttributeMetadata")
    return _narrowed(chosen, select, filter_text, cast or "AttributeMetadata")
