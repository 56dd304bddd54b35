"""Column definitions (attributes) as Dataverse sends them, each with the properties of its metadata type."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from .model import CHOICES, LOOKUPS, Column, Table

Json = dict[str, object]
CRM = "Microsoft.Dynamics.CRM."
_NAMESPACE = uuid.UUID("6c1d3a55-3b5e-4c7f-9b63-9d1f6c0f7a10")
BASE_PROPERTIES = frozenset(
    {
        "MetadataId",
        "LogicalName",
        "SchemaName",
        "EntityLogicalName",
        "AttributeType",
        "AttributeTypeName",
        "AttributeOf",
        "ColumnNumber",
        "DisplayName",
        "Description",
        "IsValidForRead",
        "IsValidForCreate",
        "IsValidForUpdate",
        "IsValidODataAttribute",
        "IsPrimaryId",
        "IsPrimaryName",
        "IsCustomAttribute",
        "IsLogical",
        "IsSecured",
        "IsManaged",
        "RequiredLevel",
        "IntroducedVersion",
    }
)
CASTS = frozenset(
    {
        "PicklistAttributeMetadata",
        "StateAttributeMetadata",
        "StatusAttributeMetadata",
        "MultiSelectPicklistAttributeMetadata",
        "BooleanAttributeMetadata",
        "LookupAttributeMetadata",
        "MoneyAttributeMetadata",
        "DecimalAttributeMetadata",
        "DoubleAttributeMetadata",
        "IntegerAttributeMetadata",
        "BigIntAttributeMetadata",
        "StringAttributeMetadata",
        "MemoAttributeMetadata",
        "DateTimeAttributeMetadata",
        "UniqueIdentifierAttributeMetadata",
        "EntityNameAttributeMetadata",
        "ImageAttributeMetadata",
        "FileAttributeMetadata",
        "ManagedPropertyAttributeMetadata",
    }
)


def label(text: str) -> Json:
    """A localised label, English (1033)."""
    one = {"Label": text, "LanguageCode": 1033, "IsManaged": True, "HasChanged": None}
    return (
        {"LocalizedLabels": [one], "UserLocalizedLabel": one}
        if text
        else {"LocalizedLabels": [], "UserLocalizedLabel": None}
    )


def metadata_id(*parts: str) -> str:
    """A stable MetadataId."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def type_name(column: Column) -> str:
    """The metadata type, e.g. `LookupAttributeMetadata`."""
    if column.type in LOOKUPS:
        return "LookupAttributeMetadata"
    if column.type == "Virtual":
        return f"{column.type_name.removesuffix('Type')}AttributeMetadata" if column.type_name else "AttributeMetadata"
    if column.type == "Uniqueidentifier":
        return "UniqueIdentifierAttributeMetadata"
    return f"{column.type}AttributeMetadata"


def with_shadows(table: Table, column: Column) -> list[Json]:
    """The attribute and the ones derived from it (`AttributeOf`), which a reader has to skip."""
    items = [_attribute(table, column)]
    if column.type in LOOKUPS:
        items.append(_shadow(table, column, f"{column.name}name", "String"))
        if len(column.targets) > 1:
            suffix = "type" if column.type != "Lookup" else "objecttypecode"
            items.append(_shadow(table, column, f"{column.name}{suffix}", "EntityName"))
    elif column.type in CHOICES or column.type == "Boolean":
        items.append(_shadow(table, column, f"{column.name}name", "Virtual"))
    return items


def _shadow(table: Table, column: Column, name: str, kind: str) -> Json:
    item = _attribute(table, Column(name=name, type=kind, readonly=True))
    item |= {"AttributeOf": column.name, "IsValidODataAttribute": False, "IsLogical": True}
    return item


def _attribute(table: Table, column: Column) -> Json:
    writable = not column.readonly
    item: Json = {
        "@odata.type": f"#{CRM}{type_name(column)}",
        "MetadataId": metadata_id(table.name, column.name),
        "LogicalName": column.name,
        "SchemaName": column.name if column.custom else column.name[0].upper() + column.name[1:],
        "EntityLogicalName": table.name,
        "AttributeType": column.type if column.type != "MultiSelectPicklist" else "Virtual",
        "AttributeTypeName": {"Value": column.type_name or f"{column.type}Type"},
        "AttributeOf": None,
        "ColumnNumber": 1 + list(table.columns).index(column.name) if column.name in table.columns else 9999,
        "DisplayName": label(column.display or column.name),
        "Description": label(column.description),
        "IsValidForRead": True,
        "IsValidForCreate": writable or column.name == table.primary_id,
        "IsValidForUpdate": writable,
        "IsValidODataAttribute": True,
        "IsPrimaryId": column.name == table.primary_id,
        "IsPrimaryName": column.name == table.primary_name,
        "IsCustomAttribute": column.custom,
        "IsLogical": False,
        "IsSecured": False,
        "IsManaged": True,
        "RequiredLevel": {"Value": "SystemRequired" if column.name == table.primary_id else "None"},
        "IntroducedVersion": "5.0.0.0",
    }
    return item | _details(table, column)


def _details(table: Table, column: Column) -> Json:
    """Properties of the attribute's own metadata type."""
    kind = column.type
    if kind in LOOKUPS:
        return {"Targets": list(column.targets), "Format": "None"}
    if kind in ("String", "Memo"):
        return {"MaxLength": column.length, "Format": "TextArea" if kind == "Memo" else "Text"}
    if kind in ("Money", "Decimal", "Double"):
        return {"Precision": column.precision, "MinValue": -1000000000000.0, "MaxValue": 1000000000000.0}
    if kind == "Integer":
        return {"Format": "None", "MinValue": -2147483648, "MaxValue": 2147483647}
    if kind == "DateTime":
        return {"Format": column.format or "DateAndTime", "DateTimeBehavior": {"Value": column.behavior or "UserLocal"}}
    if kind in CHOICES:
        return _choice(table, column)
    if kind == "Boolean":
        no, yes = (column.options.get(n, (text, None))[0] for n, text in ((0, "No"), (1, "Yes")))
        options = {
            "MetadataId": metadata_id(table.name, column.name, "options"),
            "OptionSetType": "Boolean",
            "TrueOption": {"Value": 1, "Label": label(yes)},
            "FalseOption": {"Value": 0, "Label": label(no)},
        }
        return {"DefaultValue": False, "OptionSet": options, "GlobalOptionSet": None}
    return {}


def _choice(table: Table, column: Column) -> Json:
    """A choice's values. A global choice stands in GlobalOptionSet only, its OptionSet is null."""
    options: list[Mapping[str, object]] = []
    for value, (text, state) in column.options.items():
        option: Json = {
            "Value": value,
            "Label": label(text),
            "Description": label(""),
            "Color": None,
            "IsManaged": True,
        }
        if column.type == "State":
            option |= {"DefaultStatus": value + 1, "InvariantName": text}
        if column.type == "Status":
            option |= {"State": state, "TransitionData": None}
        options.append(option)
    choice: Json = {
        "MetadataId": metadata_id(column.global_choice or table.name, column.name, "options"),
        "Name": column.global_choice or f"{table.name}_{column.name}",
        "IsGlobal": bool(column.global_choice),
        "OptionSetType": column.type,
        "DisplayName": label(column.display or column.name),
        "Options": options,
    }
    own, shared = (None, choice) if column.global_choice else (choice, None)
    return {"DefaultFormValue": None, "OptionSet": own, "GlobalOptionSet": shared}
