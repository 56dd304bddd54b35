"""What goes into which Marketo field: `include/marketo.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.yaml_file import check_keys, file_problem, read_yaml

SECTIONS = ("companies", "leads", "opportunities", "roles", "deletes")
SOURCES = ("customer", "stakeholder")
STATE = "Nothing was sent to Marketo"

KEYS = {"companies": "externalCompanyId", "opportunities": "externalOpportunityId"}
"""Key fields that are filled by themselves and cannot be mapped."""


@dataclass(frozen=True)
class FieldMap:
    """The mapped fields of one Marketo object."""

    columns: Mapping[str, str]
    """Marketo field to column of the published table."""
    lines: Mapping[str, int]
    """Line of each field in the file, from 1."""


@dataclass(frozen=True)
class LeadRule:
    """How the lead of a contact is found, and whether a missing one is made."""

    field: str
    column: str
    create: bool
    made_with: FieldMap
    asked_again: int
    """How many contacts without a lead are asked for again in one run."""
    line: int
    """Line of `field` in the file."""


@dataclass(frozen=True)
class LoadRules:
    """`marketo.yaml` as values."""

    file: Path
    companies: FieldMap | None
    """None: companies are left alone."""
    leads: LeadRule
    opportunities: FieldMap
    sources: tuple[str, ...]
    """Values of `role_source` that are loaded."""
    delete_share: float
    deletes_always_allowed: int

    @property
    def objects(self) -> tuple[str, ...]:
        """The Marketo objects that are written, parents before children."""
        return (*(("companies",) if self.companies else ()), "opportunities", "opportunities/roles")


def load_rules(path: Path) -> LoadRules:
    """Read `marketo.yaml`.

    Raises:
        ConfigurationError: an unknown or missing key, or a value of the wrong kind; names file and line.
    """
    document = read_yaml(path, state=STATE)
    check_keys(path, document, allowed=SECTIONS, what="section", state=STATE)
    companies = _section(path, document, "companies", ("load", "fields"))
    leads = _section(path, document, "leads", ("field", "column", "create", "fields", "asked_again"))
    roles = _section(path, document, "roles", ("sources",))
    deletes = _section(path, document, "deletes", ("share", "always_allowed"))
    opportunities = _section(path, document, "opportunities", ("fields",))
    share = _value(path, deletes, "share", (int, float))
    if not 0 <= share <= 1:
        raise _wrong(path, deletes, "share", "is not between 0 and 1")
    return LoadRules(
        file=path,
        companies=_fields(path, companies, "companies") if _value(path, companies, "load", bool) else None,
        leads=LeadRule(
            field=_value(path, leads, "field", str),
            column=_value(path, leads, "column", str),
            create=_value(path, leads, "create", bool),
            made_with=_fields(path, leads, "leads"),
            asked_again=_count(path, leads, "asked_again"),
            line=_line(leads, "field"),
        ),
        opportunities=_fields(path, opportunities, "opportunities"),
        sources=_sources(path, roles),
        delete_share=float(share),
        deletes_always_allowed=_count(path, deletes, "always_allowed"),
    )


def _section(path: Path, document: Any, name: str, allowed: tuple[str, ...]) -> Any:
    check_keys(path, document[name], allowed=allowed, what="key", state=STATE, line=_line(document, name))
    return document[name]


def _fields(path: Path, section: Any, name: str) -> FieldMap:
    found = section["fields"]
    is_mapping = isinstance(found, dict)
    if not is_mapping:
        raise _wrong(path, section, "fields", "is not a mapping of Marketo fields to columns")
    for field in found:
        if not isinstance(field, str) or not isinstance(found[field], str):
            raise _wrong(path, found, field, "is not the name of a Marketo field with the name of a column")
        if field == KEYS.get(name):
            raise _wrong(path, found, field, "is the key and filled by itself; it cannot be mapped")
    return FieldMap(
        columns={str(field): str(column) for field, column in found.items()},
        lines={str(field): _line(found, field) for field in found},
    )


def _sources(path: Path, section: Any) -> tuple[str, ...]:
    found = section["sources"]
    if not isinstance(found, list) or not found or any(source not in SOURCES for source in found):
        raise _wrong(path, section, "sources", f"is not a list of {' and '.join(SOURCES)}, or of one of them")
    return tuple(source for source in SOURCES if source in found)


def _value(path: Path, section: Any, key: str, kind: Any) -> Any:
    value = section[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or value == "":
        names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise _wrong(path, section, key, f"is not of type {names}")
    return value


def _count(path: Path, section: Any, key: str) -> int:
    value: int = _value(path, section, key, int)
    if value < 0:
        raise _wrong(path, section, key, "is negative")
    return value


def _wrong(path: Path, section: Any, key: Any, problem: str) -> ConfigurationError:
    return file_problem(f"{path}, line {_line(section, key)}: {key} {problem}", state=STATE)


def _line(section: Any, key: Any) -> int:
    return int(section.lc.key(key)[0]) + 1
