"""SQLAlchemy dialect `duckdb+readonly`, for Great Expectations only; imported by SQLAlchemy on first use.

Great Expectations fetches results after it has given the connection back, and giving it back makes SQLAlchemy roll
back, which discards DuckDB's pending result (GX issue 11579: every expectation fails with IndexError). Reading needs
no transaction, so here begin, commit and rollback do nothing.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

import duckdb_engine
from sqlalchemy.types import NullType

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# SQLAlchemy and Great Expectations keep duckdb_engine's functions, and with them DuckDB's, beyond the interpreter's
# end, and DuckDB 2.0 then fills stderr with "nanobind: leaked ..." lines. At exit nothing needs them any more.
atexit.register(globals().clear)
atexit.register(vars(duckdb_engine).clear)


class ReadOnlyDialect(duckdb_engine.Dialect):  # type: ignore[misc]
    """`duckdb_engine.Dialect` without transactions, and with columns of the current schema only."""

    driver = "readonly"
    supports_statement_cache = False

    def do_begin(self, connection: Any) -> None:
        """Do nothing."""

    def do_commit(self, connection: Any) -> None:
        """Do nothing."""

    def do_rollback(self, connection: Any) -> None:
        """Do nothing."""

    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[Any]:
        """Columns of a relation of the current schema; duckdb_engine mixes in those of same-named relations of others.

        Types are left out: no expectation reads them here, see `contract.columns_match`.
        """
        found = connection.exec_driver_sql(
            """
            select column_name, is_nullable from duckdb_columns()
            where database_name = current_database() and schema_name = current_schema() and table_name = $1
            order by column_index
            """,
            (table_name,),
        )
        return [{"name": name, "type": NullType(), "nullable": nullable, "default": None} for name, nullable in found]


class Connection(duckdb_engine.ConnectionWrapper):  # type: ignore[misc]
    """A DBAPI connection over a DuckDB connection that someone else opened."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        super().__init__(connection)
        self._connection = connection

    def cursor(self) -> Cursor:
        """The connection itself as a cursor."""
        return Cursor(self._connection, self)


class Cursor(duckdb_engine.CursorWrapper):  # type: ignore[misc]
    """A cursor that names column types by strings, since SQLAlchemy keeps them for ever (see `atexit` above)."""

    def __init__(self, connection: DuckDBPyConnection, wrapper: Connection) -> None:
        super().__init__(connection, wrapper)
        self._connection = connection

    @property
    def description(self) -> list[tuple[Any, ...]]:
        """Columns of the pending result, as DBAPI wants them."""
        return [(name, str(kind), *rest) for name, kind, *rest in self._connection.description or []]
