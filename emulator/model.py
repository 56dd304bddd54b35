"""The organisation's tables and columns: `metadata.json` plus what the seeded rows add to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

FORMATTED = "@OData.Community.Display.V1.FormattedValue"
LOOKUP_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "@Microsoft.Dynamics.CRM.associatednavigationproperty"
LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
CHOICES = frozenset({"Picklist", "State", "Status", "MultiSelectPicklist"})
NUMBERS = frozenset({"Integer", "BigInt", "Decimal", "Double", "Money"})


@dataclass(frozen=True)
class Column:
    """One column (attribute).

    Attributes:
        name: Logical name, e.g. `customerid`.
        type: Dataverse AttributeType, e.g. `Money`.
        targets: For lookups: logical name of the target table to its navigation property.
        options: For choices: value to label; for a status also the state it belongs to.
    """

    name: str
    type: str
    type_name: str = ""
    targets: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[int, tuple[str, int | None]] = field(default_factory=dict)
    global_choice: str = ""
    format: str = ""
    behavior: str = ""
    precision: int | None = None
    length: int | None = None
    readonly: bool = False
    custom: bool = False
    display: str = ""
    description: str = ""

    @property
    def property(self) -> str:
        """Name of the Web API property: `_customerid_value` for the lookup `customerid`."""
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name


@dataclass(frozen=True)
class Table:
    """One table; `columns` by logical name, `properties` by Web API property name."""

    name: str
    entity_set: str
    primary_id: str
    primary_name: str
    schema_name: str
    object_type_code: int
    columns: Mapping[str, Column]
    change_tracking: bool = True

    @property
    def properties(self) -> dict[str, Column]:
        """Columns by Web API property name."""
        return {column.property: column for column in self.columns.values()}

    @property
    def navigation(self) -> dict[str, tuple[Column, str]]:
        """Single-valued navigation property to (lookup column, target table); owner is one name for two tables."""
        return {name: (column, target) for column in self.columns.values() for target, name in column.targets.items()}


def _column(name: str, raw: Mapping[str, object]) -> Column:
    options: dict[int, tuple[str, int | None]] = {}
    for value, label in dict(raw.get("options") or {}).items():  # type: ignore[call-overload]
        options[int(value)] = (label, None) if isinstance(label, str) else (label[0], label[1])
    renamed = {"global": "global_choice"}
    plain = {renamed.get(key, key): value for key, value in raw.items() if key != "options"}
    return Column(name=name, options=options, **plain)  # type: ignore[arg-type]


def standard_tables() -> dict[str, Table]:
    """The five tables as Microsoft ships them, by logical name."""
    document = json.loads(Path(__file__).with_name("metadata.json").read_text(encoding="utf-8"))
    tables = {}
    for name, raw in document.items():
        columns = {key: _column(key, value) for key, value in raw.pop("columns").items()}
        tables[name] = Table(name=name, columns=columns, **raw)
    return tables


def column_to_json(column: Column) -> dict[str, object]:
    """The inverse of reading `metadata.json`, to keep an organisation's own columns in its state."""
    raw: dict[str, object] = {}
    for key, value in vars(column).items():
        if key not in ("name", "options") and value not in ("", None, False, {}):
            raw["global" if key == "global_choice" else key] = copy.copy(value)
    if column.options:
        raw["options"] = {str(k): (v[0] if v[1] is None else list(v)) for k, v in column.options.items()}
    return raw


def column_from_json(name: str, raw: Mapping[str, object]) -> Column:
    """A column as `column_to_json` wrote it."""
    return _column(name, raw)


def with_column(table: Table, column: Column) -> Table:
    """The table with this column added or replaced."""
    return replace(table, columns={**table.columns, column.name: column})


def without_column(table: Table, name: str) -> Table:
    """The table without this column."""
    return replace(table, columns={key: value for key, value in table.columns.items() if key != name})
