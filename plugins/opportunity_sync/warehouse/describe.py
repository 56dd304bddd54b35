"""What a client sees of a release besides its tables: views, table macros, and a comment on everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opportunity_sync.lineage import notes
from opportunity_sync.warehouse.models import Model, in_schema

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GONE = "Additional column that the table no longer has"

INTERNAL = "What the views releases and ..._history are made of; read those"

DATAVERSE_TABLE = {"opportunities": "opportunity", "contacts": "contact", "accounts": "account"}


def create_views(connection: DuckDBPyConnection, models: dict[str, Model]) -> None:
    """Create the views and table macros of catalog `candidate`."""
    connection.execute("use candidate")
    for model in in_schema(models, "views"):
        connection.execute(f"create or replace view candidate.main.{model.name} as {model.sql}")
    for model in in_schema(models, "macros"):
        connection.execute(f"create or replace macro candidate.main.{model.name}(moment) as table {model.sql}")


def comment(
    connection: DuckDBPyConnection, models: dict[str, Model], additional: Mapping[str, Mapping[str, str]]
) -> None:
    """Describe every table, view, macro and column of catalog `candidate`, as `comment on`.

    Args:
        connection: the candidate is attached for writing.
        models: their comments are the descriptions.
        additional: per Dataverse table the descriptions of its additional columns.
    """
    noted = notes(models)
    for model in [*in_schema(models, "marts"), *in_schema(models, "views")]:
        kind = "table" if model.schema == "marts" else "view"
        relation = f"candidate.main.{model.name}"
        connection.execute(f"comment on {kind} {relation} is '{_escape(model.description)}'")
        shown = model.name.removesuffix("_history")
        texts = {**additional.get(DATAVERSE_TABLE.get(shown, ""), {}), **model.columns}
        if shown != model.name:
            texts = models[f"marts.{shown}"].columns | texts
        columns = connection.execute(
            "select column_name from duckdb_columns() where database_name = 'candidate' and schema_name = 'main' "
            "and table_name = ?",
            [model.name],
        ).fetchall()
        for (column,) in columns:
            text = texts.get(column, GONE) if kind == "view" else texts[column]
            text += noted.get(model.name, {}).get(column, "")
            connection.execute(f"comment on column {relation}.\"{column}\" is '{_escape(text)}'")
    for table, name in connection.execute(
        "select table_name, column_name from duckdb_columns() where database_name = 'candidate' and "
        "schema_name = 'history'"
    ).fetchall():
        connection.execute(f"comment on table candidate.history.{table} is '{INTERNAL}'")
        connection.execute(f"comment on column candidate.history.{table}.\"{name}\" is '{INTERNAL}'")
    for model in in_schema(models, "macros"):
        connection.execute(f"comment on macro table candidate.main.{model.name} is '{_escape(model.description)}'")


def _escape(text: str) -> str:
    return text.replace("'", "''")
