"""Apply raw batches to the current rows: each batch once, in one transaction with its bookkeeping.

The result depends only on the set of batches applied, not on their order (rules 1.1 to 1.3, 1.7): per key the row with
the highest (`versionnumber`, `_extracted_at`, batch, page) is kept, with the latest time it was extracted alive; of
deletes the latest time they were observed. Which rows are live is decided by the views in `views.py`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.lake import Lake, Manifest, Reconciliation
from opportunity_sync.tables import CORE, READ_ORDER
from opportunity_sync.warehouse.adopt import adopt, forget_replaced
from opportunity_sync.warehouse.columns import remember_columns
from opportunity_sync.warehouse.state import naive_utc, note_batch, sequence, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LOGGED_KEYS_PER_BATCH = 200_000
"""Larger batches are not logged key by key: the next release is then derived anew as a whole."""
LOGGED_BATCHES = 1_000
"""How many batches back changed keys are remembered."""

log = logging.getLogger("opportunity_sync.warehouse")


def apply_batches(connection: DuckDBPyConnection, lake: Lake) -> int:
    """Apply every complete batch that is not yet applied; returns how many.

    A compacted batch whose parts are all applied is only taken note of.

    Raises:
        LakeError: a batch is damaged; the batches before it stay applied, none of it is.
    """
    applied = 0
    for table in READ_ORDER:
        known = {
            batch
            for (batch,) in connection.execute(
                "select batch from meta.batches where table_name = ?", [table]
            ).fetchall()
        }
        for name in lake.names(table):
            if name not in known:
                manifest = lake.manifest(table, name)
                is_held = manifest.mode == "compacted" and known.issuperset(manifest.replaces)
                if is_held:
                    adopt(connection, lake, manifest)
                else:
                    apply_batch(connection, lake, manifest)
                log.info(
                    "warehouse: %s %s %s (%s): %d rows, %d deletes",
                    "adopted" if is_held else "applied",
                    table,
                    name,
                    manifest.mode,
                    manifest.rows,
                    manifest.deletes,
                )
                applied += not is_held
    return applied


def apply_batch(connection: DuckDBPyConnection, lake: Lake, manifest: Manifest, *, log_keys: bool = True) -> None:
    """Apply one batch; with `log_keys` its keys are remembered for the next incremental build.

    Raises:
        LakeError: the batch is damaged; none of it is applied.
    """
    with transaction(connection):
        _apply(connection, lake, manifest, log_keys=log_keys)
        if manifest.replaces:
            forget_replaced(connection, lake, manifest)


def _apply(connection: DuckDBPyConnection, lake: Lake, manifest: Manifest, *, log_keys: bool) -> None:
    number = sequence(connection) + 1
    is_large = manifest.rows + manifest.deletes > LOGGED_KEYS_PER_BATCH
    touches_all = manifest.full_read_began is not None or is_large or not log_keys
    remember_columns(connection, manifest)
    rows = lake.files(manifest, "rows")
    deletes = lake.files(manifest, "deletes")
    if rows:
        _apply_rows(connection, manifest, rows, None if touches_all else number)
    if deletes:
        _apply_deletes(connection, manifest.table, deletes, None if touches_all else number)
    note_batch(connection, manifest, number, touches_all=touches_all)
    if manifest.reconciliation:
        _keep_report(connection, manifest, manifest.reconciliation)
    connection.execute("delete from meta.changed_keys where sequence <= ?", [number - LOGGED_BATCHES])


def _keep_report(connection: DuckDBPyConnection, manifest: Manifest, report: Reconciliation) -> None:
    connection.execute(
        "insert into meta.reconciliations values (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            manifest.table,
            report.batch or manifest.batch,
            naive_utc(report.swept_at),
            report.checked,
            report.missing,
            report.gone,
            report.stale,
            report.repaired,
        ],
    )


def _apply_rows(connection: DuckDBPyConnection, manifest: Manifest, files: list[Path], log_as: int | None) -> None:
    table = manifest.table
    key = next(iter(CORE[table]))
    types = dict(
        connection.execute(
            "select column_name, data_type from duckdb_columns() where schema_name = 'current' and table_name = ?",
            [table],
        ).fetchall()
    )
    names = [name for column in manifest.columns for name in column.stored()]
    listed = ", ".join(f'try_cast("{name}" as {types[name]}) as "{name}"' for name in names)
    source = f"read_parquet([{', '.join(_literal(str(file)) for file in files)}])"
    origin = f"{_literal(manifest.batch)} as _batch, _extracted_at as _alive_at"
    if manifest.mode == "compacted":
        origin = "_batch, _alive_at"
    read = f"select {listed}, _extracted_at, _page, {origin} from {source}"

    (counts,) = connection.execute(f"select count(*), count(distinct {key}) from {source}").fetchall()
    (present,) = connection.execute(f"select count(*) from current.{table}").fetchall()
    if counts[0] != counts[1]:
        read = f"""
            select * replace (max(_alive_at) over (partition by {key}) as _alive_at)
            from ({read})
            qualify row_number() over (
                partition by {key} order by coalesce(versionnumber, 0) desc, _extracted_at desc, _page desc
            ) = 1"""
    if present[0] == 0:
        if log_as is not None:
            connection.execute(
                f"insert into meta.changed_keys select distinct {log_as}, {_literal(table)}, {key} from {source}"
            )
        connection.execute(f"insert into current.{table} by name {read}")
    else:
        connection.execute(f"create or replace temp table incoming as {read}")
        if log_as is not None:
            _log_changed(connection, table, f"select {key} as id from incoming", log_as)
        _merge_incoming(connection, table, key)
        connection.execute("drop table incoming")
    if log_as is not None and table == "connection":
        _log_ends(connection, log_as)


def _merge_incoming(connection: DuckDBPyConnection, table: str, key: str) -> None:
    """Per key: the greater row of `incoming` and the current one stays, with the later time it was seen alive."""
    order = "coalesce({0}.versionnumber, 0), {0}._extracted_at, {0}._batch, {0}._page"
    connection.execute(
        f"""
        create or replace temp table winners as
        select incoming.* replace (
            greatest(incoming._alive_at, coalesce(present._alive_at, incoming._alive_at)) as _alive_at
        )
        from incoming
        left join current.{table} as present on present.{key} = incoming.{key}
        where present.{key} is null or ({order.format("incoming")}) > ({order.format("present")})
        """
    )
    connection.execute(
        f"""
        update current.{table} as present set _alive_at = incoming._alive_at
        from incoming
        where incoming.{key} = present.{key} and incoming._alive_at > present._alive_at
        """
    )
    connection.execute(f"delete from current.{table} where {key} in (select {key} from winners)")
    connection.execute(f"insert into current.{table} by name select * from winners")
    connection.execute("drop table winners")


def _apply_deletes(connection: DuckDBPyConnection, table: str, files: list[Path], log_as: int | None) -> None:
    source = f"read_parquet([{', '.join(_literal(str(file)) for file in files)}])"
    connection.execute(
        f"create or replace temp table gone as select id, max(_observed_at) as observed_at from {source} group by id"
    )
    connection.execute(
        f"""
        update deletes.{table} as present set observed_at = gone.observed_at
        from gone where gone.id = present.id and gone.observed_at > present.observed_at
        """
    )
    connection.execute(
        f"insert into deletes.{table} select * from gone where id not in (select id from deletes.{table})"
    )
    if log_as is not None:
        _log_changed(connection, table, "select id from gone", log_as)
        if table == "connection":
            _log_ends(connection, log_as)
    connection.execute("drop table gone")


def _log_changed(connection: DuckDBPyConnection, table: str, ids: str, log_as: int) -> None:
    """Remember changed keys, and for connections the ends they had before the change."""
    connection.execute(f"insert into meta.changed_keys select distinct {log_as}, {_literal(table)}, id from ({ids})")
    if table == "connection":
        _log_ends(connection, log_as)


def _log_ends(connection: DuckDBPyConnection, log_as: int) -> None:
    """Remember the opportunities at this batch's connections, as they are now, as changed."""
    connection.execute(
        f"""
        insert into meta.changed_keys
        with ends as (
            select record1id as id, record1id_type as type, record1objecttypecode as code, connectionid
            from current.connection
            union all
            select record2id, record2id_type, record2objecttypecode, connectionid
            from current.connection
        )
        select distinct {log_as}, 'opportunity', id
        from ends
        where
            coalesce(type, case code when 3 then 'opportunity' end) = 'opportunity'
            and connectionid in (
                select key from meta.changed_keys where sequence = {log_as} and table_name = 'connection'
            )
        """
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
