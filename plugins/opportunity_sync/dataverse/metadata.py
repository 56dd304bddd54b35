"""Table metadata: which columns a table has, their types and choice labels, and how each is extracted.

Types come from the organisation's metadata only, never from guessing at rows.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.lake import Column
from opportunity_sync.tables import CORE, ESSENTIAL, Selection, unknown_column

DUCKDB_TYPES: Mapping[str, str] = {
    "Uniqueidentifier": "UUID",
    "Lookup": "UUID",
    "Customer": "UUID",
    "Owner": "UUID",
    "String": "VARCHAR",
    "Memo": "VARCHAR",
    "EntityName": "VARCHAR",
    "MultiSelectPicklist": "VARCHAR",
    "Picklist": "INTEGER",
    "State": "INTEGER",
    "Status": "INTEGER",
    "Integer": "INTEGER",
    "BigInt": "BIGINT",
    "Boolean": "BOOLEAN",
    "Money": "DECIMAL(19,4)",
    "Decimal": "DECIMAL(38,10)",
    "Double": "DOUBLE",
    "DateTime": "TIMESTAMP",
}
"""Dataverse attribute type to DuckDB type; a DateTime whose behaviour is DateOnly is a DATE."""

LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
CHOICES = frozenset({"Picklist", "State", "Status", "MultiSelectPicklist"})
LOOKUP_TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"
"""The annotation that says which table a lookup points to."""


class _Text(msgspec.Struct):
    Label: str | None = None


class _Label(msgspec.Struct):
    UserLocalizedLabel: _Text | None = None
    LocalizedLabels: list[_Text] | None = None


class _Value(msgspec.Struct):
    Value: str | None = None


class _Option(msgspec.Struct):
    Value: int
    Label: _Label | None = None


class _OptionSet(msgspec.Struct):
    Options: list[_Option] | None = None


class _Attribute(msgspec.Struct):
    """What the service says of a column; which fields are there depends on the request."""

    LogicalName: str
    AttributeType: str | None = None
    AttributeTypeName: _Value | None = None
    AttributeOf: str | None = None
    IsValidForRead: bool | None = None
    DisplayName: _Label | None = None
    Description: _Label | None = None
    Targets: list[str] | None = None
    DateTimeBehavior: _Value | None = None
    OptionSet: _OptionSet | None = None
    GlobalOptionSet: _OptionSet | None = None


class _Attributes(msgspec.Struct):
    value: list[_Attribute]


class _Entity(msgspec.Struct):
    EntitySetName: str
    PrimaryIdAttribute: str
    ChangeTrackingEnabled: bool
    Attributes: list[_Attribute]


@dataclass(frozen=True)
class Attribute:
    """One column of a table, as the organisation describes it."""

    name: str
    type: str
    """`AttributeType`; `MultiSelectPicklist` for what the service calls Virtual of that type name."""
    readable: bool
    attribute_of: str | None
    """The column that this one is derived from; such a column cannot be selected."""
    label: str = ""
    description: str = ""
    targets: tuple[str, ...] = ()
    """Tables a lookup may point to; only known for selected columns."""
    date_only: bool = False
    """A date without time and zone; only known for selected columns."""
    choices: Mapping[int, str] = field(default_factory=dict)
    """Choice value to label; only known for selected columns."""


@dataclass(frozen=True)
class TableMetadata:
    """What extraction needs to know about a table."""

    table: str
    entity_set: str
    key: str
    change_tracking: bool
    attributes: Mapping[str, Attribute]


def table_metadata(client: DataverseClient, table: str, selected: Collection[str]) -> TableMetadata:
    """Read a table's metadata: one request, and one more per lookup, date and choice type among `selected`.

    Raises:
        DataverseError: refused (unknown table, missing privilege) or no usable answer.
    """
    root = f"EntityDefinitions(LogicalName='{table}')"
    entity = client.get_json(
        f"{root}?$select=LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled&$expand=Attributes($select="
        f"LogicalName,AttributeType,AttributeTypeName,AttributeOf,IsValidForRead,DisplayName,Description)",
        _Entity,
    )
    attributes = {item.LogicalName: _attribute(item) for item in entity.Attributes}
    wanted = {attributes[name].type for name in selected if name in attributes}

    def update(kind: str, query: str, facts: Callable[[_Attribute], Mapping[str, Any]]) -> None:
        cast = f"{root}/Attributes/Microsoft.Dynamics.CRM.{kind}AttributeMetadata?{query}"
        for item in client.get_json(cast, _Attributes).value:
            if item.LogicalName in attributes:
                attributes[item.LogicalName] = replace(attributes[item.LogicalName], **facts(item))

    if "Lookup" in wanted:
        update("Lookup", "$select=LogicalName,Targets", lambda item: {"targets": tuple(item.Targets or ())})
    if "DateTime" in wanted:
        update(
            "DateTime",
            "$select=LogicalName,DateTimeBehavior",
            lambda item: {"date_only": item.DateTimeBehavior is not None and item.DateTimeBehavior.Value == "DateOnly"},
        )
    for kind in sorted(wanted & CHOICES):
        update(
            kind,
            "$select=LogicalName&$expand=OptionSet,GlobalOptionSet",
            lambda item: {"choices": _choices(item)},
        )
    return TableMetadata(
        table=table,
        entity_set=entity.EntitySetName,
        key=entity.PrimaryIdAttribute,
        change_tracking=entity.ChangeTrackingEnabled,
        attributes=attributes,
    )


def columns(
    metadata: TableMetadata, selection: Selection, known: Collection[str]
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """How each selected column is extracted.

    Args:
        metadata: read with the selection's columns as `selected`.
        selection: the columns wanted.
        known: columns that an earlier batch of the table had.

    Returns:
        The columns to extract, and the selected columns that the organisation no longer has in a readable form.

    Raises:
        ConfigurationError: a column that never existed or never could be read; the message names it with file and line.
    """
    if metadata.key != selection.key:
        raise ConfigurationError(
            f"The key of table {selection.table} is {metadata.key} in this organisation, not {selection.key}",
            state="Nothing was extracted",
            action="Check that the connection's host is a Dynamics 365 organisation",
        )
    found, missing = [], []
    optional = {name for name in CORE[selection.table] if name != selection.key and name not in ESSENTIAL}
    for name in selection.columns:
        attribute = metadata.attributes.get(name)
        may_be_missing = name in optional or (name in known and name != selection.key and name not in ESSENTIAL)
        if attribute is not None and not (may_be_missing and _unreadable(attribute)):
            found.append(_column(selection, attribute))
        elif may_be_missing:
            missing.append(name)
        else:
            readable = [each.name for each in metadata.attributes.values() if each.readable and not each.attribute_of]
            raise unknown_column(selection, name, sorted(readable))
    return tuple(found), tuple(missing)


def _unreadable(attribute: Attribute) -> str:
    """Why a column cannot be extracted; empty when it can."""
    if attribute.attribute_of:
        return f"is derived from {attribute.attribute_of}; select that column instead"
    if not attribute.readable:
        return "cannot be read through the Web API"
    if attribute.type not in DUCKDB_TYPES:
        return f"has type {attribute.type}, which cannot be extracted"
    return ""


def _column(selection: Selection, attribute: Attribute) -> Column:
    if reason := _unreadable(attribute):
        line = selection.lines.get(attribute.name, 0)
        raise ConfigurationError(
            f"{selection.file}, line {line}: column {attribute.name} of table {selection.table} {reason}",
            state="Nothing was extracted",
            action="Take the column out of the file, or select another one",
        )
    return Column(
        name=attribute.name,
        attribute_type=attribute.type,
        duckdb_type="DATE" if attribute.date_only else DUCKDB_TYPES[attribute.type],
        property=f"_{attribute.name}_value" if attribute.type in LOOKUPS else attribute.name,
        has_type=attribute.type in ("Customer", "Owner") or len(attribute.targets) > 1,
        label=attribute.label,
        description=attribute.description,
        choices=dict(attribute.choices),
    )


def _attribute(item: _Attribute) -> Attribute:
    is_multi_select = item.AttributeTypeName is not None and item.AttributeTypeName.Value == "MultiSelectPicklistType"
    return Attribute(
        name=item.LogicalName,
        type="MultiSelectPicklist" if is_multi_select else str(item.AttributeType),
        readable=bool(item.IsValidForRead),
        attribute_of=item.AttributeOf or None,
        label=_label(item.DisplayName),
        description=_label(item.Description),
    )


def _choices(item: _Attribute) -> dict[int, str]:
    options = item.OptionSet or item.GlobalOptionSet
    return {option.Value: _label(option.Label) for option in (options.Options if options else None) or ()}


def _label(label: _Label | None) -> str:
    """A label in the caller's language, else in any; real ones carry stray spaces."""
    if label is None:
        return ""
    text = label.UserLocalizedLabel or next(iter(label.LocalizedLabels or ()), None)
    return ((text.Label if text else None) or "").strip()
