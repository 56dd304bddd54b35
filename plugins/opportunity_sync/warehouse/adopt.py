"""Take note of a compacted batch: what it replaces is forgotten, what it left out leaves the current rows, too.

Its content is what applying the replaced batches gave, so nothing is read again and no release changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.tables import CORE
from opportunity_sync.warehouse.state import note_batch, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def adopt(connection: DuckDBPyConnection, lake: Lake, manifest: Manifest) -> None:
    """Let a compacted batch stand for the batches it replaces, all of which are applied.

    It takes the highest of their sequence numbers, so that the next incremental build continues.

    Raises:
        LakeError: the compacted batch is damaged; nothing was changed.
    """
    ((number, touches_all),) = connection.execute(
        "select max(sequence), bool_or(touches_all) from meta.batches where table_name = ? and list_contains(?, batch)",
        [manifest.table, list(manifest.replaces)],
    ).fetchall()
    with transaction(connection):
        note_batch(connection, manifest, number, touches_all=touches_all)
        forget_replaced(connection, lake, manifest)


def forget_replaced(connection: DuckDBPyConnection, lake: Lake, manifest: Manifest) -> None:
    """Remove what is known of replaced batches and the rows that the compacted batch left out.

    Everything up to the newest replaced batch is in the compacted one, so that an older row that is not in it can
    never be live again. The caller holds a transaction.
    """
    table, replaces = manifest.table, list(manifest.replaces)
    named = "table_name = $table and list_contains($replaces, batch)"
    connection.execute(f"delete from meta.batches where {named}", {"table": table, "replaces": replaces})
    for relation in ("meta.columns", "meta.choices"):
        connection.execute(
            f"update {relation} set batch = $batch where {named}",
            {"batch": manifest.batch, "table": table, "replaces": replaces},
        )
    kept = [str(path) for path in lake.files(manifest, "rows")]
    key = next(iter(CORE[table]))
    is_kept = f"{key} in (select {key} from read_parquet($kept))" if kept else "false"
    connection.execute(
        f"delete from current.{table} where _batch <= $newest and not {is_kept}",
        {"newest": max(manifest.batch, *replaces)} | ({"kept": kept} if kept else {}),
    )
