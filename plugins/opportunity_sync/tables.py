"""Which columns of which Dataverse tables are extracted: `include/tables.yaml`, checked against what the SQL needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.yaml_file import check_keys, file_problem, read_yaml

READ_ORDER = ("opportunity", "connection", "contact", "account", "connectionrole")
"""Children before parents, so that a reference read early finds its target read later (rule section 5)."""
CHILDREN = READ_ORDER[:2]
PARENTS = READ_ORDER[2:]

CORE: Mapping[str, Mapping[str, str]] = {
    "opportunity": {
        "opportunityid": "UUID",
        "name": "VARCHAR",
        "customerid": "UUID",
        "statecode": "INTEGER",
        "statuscode": "INTEGER",
        "estimatedvalue": "DECIMAL(19,4)",
        "estimatedvalue_base": "DECIMAL(19,4)",
        "actualvalue": "DECIMAL(19,4)",
        "actualvalue_base": "DECIMAL(19,4)",
        "transactioncurrencyid": "UUID",
        "estimatedclosedate": "DATE",
        "actualclosedate": "DATE",
        "closeprobability": "INTEGER",
        "salesstage": "INTEGER",
        "ownerid": "UUID",
        "createdon": "TIMESTAMP",
        "modifiedon": "TIMESTAMP",
        "versionnumber": "BIGINT",
    },
    "contact": {
        "contactid": "UUID",
        "fullname": "VARCHAR",
        "emailaddress1": "VARCHAR",
        "parentcustomerid": "UUID",
        "merged": "BOOLEAN",
        "masterid": "UUID",
        "statecode": "INTEGER",
        "createdon": "TIMESTAMP",
        "modifiedon": "TIMESTAMP",
        "versionnumber": "BIGINT",
    },
    "account": {
        "accountid": "UUID",
        "name": "VARCHAR",
        "merged": "BOOLEAN",
        "masterid": "UUID",
        "statecode": "INTEGER",
        "createdon": "TIMESTAMP",
        "modifiedon": "TIMESTAMP",
        "versionnumber": "BIGINT",
    },
    "connection": {
        "connectionid": "UUID",
        "record1id": "UUID",
        "record1objecttypecode": "INTEGER",
        "record1roleid": "UUID",
        "record2id": "UUID",
        "record2objecttypecode": "INTEGER",
        "record2roleid": "UUID",
        "effectivestart": "TIMESTAMP",
        "effectiveend": "TIMESTAMP",
        "statecode": "INTEGER",
        "createdon": "TIMESTAMP",
        "modifiedon": "TIMESTAMP",
        "versionnumber": "BIGINT",
    },
    "connectionrole": {
        "connectionroleid": "UUID",
        "name": "VARCHAR",
        "category": "INTEGER",
        "statecode": "INTEGER",
        "createdon": "TIMESTAMP",
        "modifiedon": "TIMESTAMP",
        "versionnumber": "BIGINT",
    },
}
"""Columns that `include/sql/staging/` reads, with their DuckDB types; the first one of each table is its key."""

CORE_CHOICES = frozenset(
    {"statecode", "statuscode", "salesstage", "category", "record1objecttypecode", "record2objecttypecode"}
)
"""Core columns with a list of choices: views have `<name>_code` with the value and `<name>` with its label."""

TYPED_LOOKUPS = frozenset({"customerid", "ownerid", "parentcustomerid", "record1id", "record2id"})
"""Core lookups with several possible target tables: `<name>_type` holds the target table's logical name."""

STATE = "Nothing was extracted"
"""What the errors about the file say of the data."""

ESSENTIAL = frozenset({"versionnumber", "modifiedon"})
"""Besides the key: columns without which rows cannot be ordered; Dynamics has them on every table."""


@dataclass(frozen=True)
class Selection:
    """The columns of one table to extract."""

    table: str
    columns: tuple[str, ...]
    """Logical names, the key first."""
    file: Path
    lines: Mapping[str, int]
    """Line of each column in `file`, from 1."""

    @property
    def key(self) -> str:
        """Logical name of the primary key."""
        return self.columns[0]

    @property
    def additional(self) -> tuple[str, ...]:
        """Columns beyond the core: they pass through to the outputs under their Dataverse names."""
        return tuple(column for column in self.columns if column not in CORE[self.table])


def load_tables(path: Path) -> dict[str, Selection]:
    """Read `tables.yaml`.

    Returns:
        The selection of each of the five tables, in the order they are read.

    Raises:
        ConfigurationError: an unknown key or table, a malformed or repeated column, a missing core column; the
            message names file, line and what is allowed.
    """
    document = read_yaml(path, state=STATE)
    check_keys(path, document, allowed=("tables",), what="key", state=STATE)
    tables = document["tables"]
    line = document.lc.key("tables")[0] + 1
    check_keys(path, tables, allowed=READ_ORDER, what="table", state=STATE, line=line)
    return {table: _selection(path, table, tables) for table in READ_ORDER}


def unknown_column(selection: Selection, column: str, available: list[str]) -> ConfigurationError:
    """The error for a selected column that the organisation does not have and never had."""
    close = get_close_matches(column, available, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"it has {len(available)} columns, see its metadata"
    return _problem(
        f"{selection.file}, line {selection.lines.get(column, 0)}: table {selection.table} of this organisation has no "
        f"column {column}; {hint}"
    )


def _selection(path: Path, table: str, tables: Any) -> Selection:
    line = tables.lc.key(table)[0] + 1
    check_keys(path, tables[table], allowed=("columns",), what="key", state=STATE, line=line)
    listed: Any = tables[table]["columns"]
    is_list = isinstance(listed, list) and all(isinstance(column, str) for column in listed)
    if not is_list:
        raise _problem(f"{path}, line {line}: columns of table {table} is not a list of logical names")
    lines = {column: listed.lc.item(index)[0] + 1 for index, column in enumerate(listed)}
    for index, column in enumerate(listed):
        if not column.isidentifier() or column != column.lower():
            raise _problem(
                f"{path}, line {lines[column]}: {column!r} is not a Dataverse logical name (lower-case letters, "
                f"digits, underscores; for a lookup write customerid, not _customerid_value)"
            )
        if column in listed[:index]:
            raise _problem(f"{path}, line {lines[column]}: column {column} of table {table} is listed twice")
    key, *core = CORE[table]
    missing = [column for column in core if column not in listed]
    if missing:
        raise _problem(
            f"{path}, line {line}: table {table} lacks {', '.join(missing)}, which include/sql/staging reads; "
            f"needed are {', '.join(core)}, and any other column may be added"
        )
    return Selection(
        table=table,
        columns=(key, *(column for column in listed if column != key)),
        file=path,
        lines=lines,
    )


def _problem(what: str) -> ConfigurationError:
    return file_problem(what, state=STATE)
