"""Metadata answers of the page server: what `EntityDefinitions` says about the benchmark's opportunity table.

Shapes as in the Dataverse Web API reference: EntityMetadata, AttributeMetadata and its typed casts.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.columns import CHOICES, OPPORTUNITY, BenchColumn

_TARGETS = {"customerid": ["account", "contact"], "ownerid": ["systemuser", "team"]}


def entity_definitions(path: str) -> dict[str, Any] | None:
    """Answer for the part of a URL after `/api/data/v9.2/`, without the query; None where there is none."""
    if path == "EntityDefinitions":
        return {"value": [_entity()]}
    match = re.fullmatch(
        r"EntityDefinitions\(LogicalName='opportunity'\)(/Attributes(?:/Microsoft\.Dynamics\.CRM\.(\w+))?)?", path
    )
    if match is None:
        return None
    if match[1] is None:
        return _entity()
    attributes = [_attribute(column) for column in OPPORTUNITY]
    return {"value": [a for a in attributes if match[2] is None or a["@odata.type"].endswith(f".{match[2]}")]}


def _entity() -> dict[str, Any]:
    return {
        "MetadataId": "00000000-0000-0000-0000-000000000003",
        "LogicalName": "opportunity",
        "SchemaName": "Opportunity",
        "EntitySetName": "opportunities",
        "PrimaryIdAttribute": OPPORTUNITY[0].name,
        "PrimaryNameAttribute": "name",
        "ChangeTrackingEnabled": True,
        "Attributes": [_attribute(column) for column in OPPORTUNITY],
    }


def _attribute(column: BenchColumn) -> dict[str, Any]:
    kind = column.attribute_type
    attribute: dict[str, Any] = {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{'Lookup' if column.is_lookup else kind}AttributeMetadata",
        "LogicalName": column.name,
        "SchemaName": column.name,
        "AttributeType": kind,
        "AttributeTypeName": {"Value": f"{kind}Type"},
        "AttributeOf": None,
        "IsValidForRead": True,
        "DisplayName": _label(column.name.title()),
        "Description": _label(""),
    }
    if column.target is not None:
        attribute["Targets"] = _TARGETS.get(column.name, [column.target.strip("'")])
    if kind == "DateTime":
        attribute["Format"] = "DateOnly" if column.date_only else "DateAndTime"
        attribute["DateTimeBehavior"] = {"Value": "DateOnly" if column.date_only else "UserLocal"}
    if kind in ("Picklist", "State", "Status"):
        options = CHOICES[f"opportunity.{column.name}"]
        attribute["GlobalOptionSet"] = None
        attribute["OptionSet"] = {"Options": [{"Value": v, "Label": _label(label)} for v, label in options.items()]}
    return attribute


def _label(text: str) -> dict[str, Any]:
    label = {"Label": text, "LanguageCode": 1033}
    return {"LocalizedLabels": [label], "UserLocalizedLabel": label}
