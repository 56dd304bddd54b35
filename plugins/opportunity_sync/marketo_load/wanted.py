"""What Marketo is to hold, as SQL over a release: one JSON key and one JSON text of fields per record.

Texts longer than Marketo's field are cut, and say so: a name ends in an ellipsis, a role in digits of its checksum.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.marketo.objects import Field
from opportunity_sync.marketo_load.instance import ROLES, Instance
from opportunity_sync.marketo_load.mapping import STATE, FieldMap, LoadRules
from opportunity_sync.yaml_file import file_problem

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from opportunity_sync.marketo_load.ledger import Ledger

TEXT = frozenset({"string", "text", "textarea", "email", "url", "phone"})
WHOLE = frozenset({"integer", "percent", "score"})
NUMBER = frozenset({"float", "currency", "double"})


def write_wanted(ledger: Ledger, sql: Path, rules: LoadRules, instance: Instance) -> None:
    """Make the tables `plan.roles` and `plan.wanted` (object, key, fields, hash, cut).

    Raises:
        ConfigurationError: a mapped column does not exist, or does not fit the type of its field.
    """
    connection = ledger.connection
    connection.execute("set variable role_sources = $1::varchar[]", [list(rules.sources)])
    connection.execute("set variable role_length = $1::integer", [instance.role_length])
    connection.execute(f"create or replace table plan.roles as {model(sql, 'roles')}")
    mapped = [("opportunities", rules.opportunities, "opportunities", "opportunity_id", "externalOpportunityId")]
    if rules.companies is not None:
        mapped.append(("companies", rules.companies, "accounts", "account_id", "externalCompanyId"))
    parts = {ROLES: model(sql, "wanted_roles")}
    for name, fields, table, column, key in mapped:
        json, cut = fields_sql(connection, rules, instance, name, fields, table=table)
        record = f"json_object('{key}', {column})::varchar as key, {json} as fields, {cut} as cut"
        parts[name] = f"select {record} from published.{table}"
    selects = [
        f"select '{name}' as object, key, fields, md5(fields) as hash, cut from ({query}\n)"
        for name, query in parts.items()
    ]
    connection.execute(f"create or replace table plan.wanted as {' union all '.join(selects)}")


def model(sql: Path, name: str) -> str:
    """The text of a model in `include/sql/marketo/`."""
    return (sql / "marketo" / f"{name}.sql").read_text(encoding="utf-8")


def column_types(connection: DuckDBPyConnection, table: str) -> dict[str, str]:
    """The columns of a published table with their types."""
    return {name: kind for name, kind, *_ in connection.execute(f"describe published.{table}").fetchall()}


def check_column(rules: LoadRules, column: str, columns: Mapping[str, str], *, table: str, line: int) -> None:
    """Check that a column named in `marketo.yaml` exists.

    Raises:
        ConfigurationError: it does not; names file, line and columns with a similar name.
    """
    if column in columns:
        return
    close = get_close_matches(column, columns, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "docs/data-dictionary.md lists its columns"
    raise file_problem(f"{rules.file}, line {line}: table {table} has no column {column}; {hint}", state=STATE)


def fields_sql(
    connection: DuckDBPyConnection,
    rules: LoadRules,
    instance: Instance,
    object_name: str,
    mapped: FieldMap,
    *,
    table: str,
) -> tuple[str, str]:
    """SQL over a published table: its mapped columns as a JSON object, and the names of the fields that had to be cut.

    Raises:
        ConfigurationError: a mapped column does not exist, or does not fit the type of its field.
    """
    columns = column_types(connection, table)
    pairs, cuts = [], []
    for name, column in mapped.columns.items():
        line = mapped.lines[name]
        check_column(rules, column, columns, table=table, line=line)
        field = instance.fields[object_name][name]
        value = _value(column, columns[column], field)
        if value is None:
            raise _misfit(rules, line, column, columns[column], field)
        pairs.append(f"'{name}', {value}")
        if field.length and field.data_type in TEXT:
            cuts.append(f"case when length({_text(column, columns[column])}) > {field.length} then '{name}' end")
    cut = f"list_filter([{', '.join(cuts)}]::varchar[], lambda name: name is not null)"
    return f"json_object({', '.join(pairs)})::varchar", cut


def _value(column: str, kind: str, field: Field) -> str | None:
    """SQL for a column's value as JSON shall hold it; None when the field cannot hold it."""
    is_number = kind in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE") or kind.startswith("DECIMAL")
    if field.data_type in TEXT:
        text = _text(column, kind)
        if not field.length:
            return text
        return f"case when length({text}) > {field.length} then left({text}, {field.length - 1}) || '…' else {text} end"
    if field.data_type in WHOLE and is_number:
        return f'cast("{column}" as bigint)'
    if field.data_type in NUMBER and is_number:
        return f'cast("{column}" as double)'
    if field.data_type == "boolean" and kind == "BOOLEAN":
        return f'"{column}"'
    if field.data_type == "date" and kind in ("DATE", "TIMESTAMP"):
        return f"strftime(\"{column}\", '%Y-%m-%d')"
    if field.data_type == "datetime" and kind in ("DATE", "TIMESTAMP"):
        return f"strftime(\"{column}\", '%Y-%m-%dT%H:%M:%SZ')"
    return None


def _text(column: str, kind: str) -> str:
    return f"strftime(\"{column}\", '%Y-%m-%dT%H:%M:%SZ')" if kind == "TIMESTAMP" else f'cast("{column}" as varchar)'


def _misfit(rules: LoadRules, line: int, column: str, kind: str, field: Field) -> ConfigurationError:
    return file_problem(
        f"{rules.file}, line {line}: column {column} is {kind}, which Marketo's field {field.name} of type "
        f"{field.data_type} cannot hold",
        state=STATE,
    )
