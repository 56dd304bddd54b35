"""Raw batches made directly as Parquet: what an extraction of the benchmark's organisation would leave in the lake.

`python -m benchmarks.lakes DATA OPPORTUNITIES` writes a full read of the five tables into data root DATA;
`python -m benchmarks.lakes DATA OPPORTUNITIES N` writes hour number N on top: 500 opportunities, 200 contacts and 300
connection rows that changed.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.columns import CHOICES, TABLES, BenchColumn
from benchmarks.organization import ORGANIZATION_ID, Size, prepare
from opportunity_sync.data_root import open_data_root
from opportunity_sync.lake import Batch, Column, DataFile, Lake, Manifest, data_file
from opportunity_sync.tables import READ_ORDER

if TYPE_CHECKING:
    import duckdb

ROWS_PER_FILE = 40_000
"""What an extraction puts into one file at 1.6 kB of JSON per row."""
PAGE_SIZE = 5000
CHANGED = {"opportunity": 500, "contact": 200, "connection": 300}
ENTITY_SETS = {
    "opportunity": "opportunities",
    "connection": "connections",
    "contact": "contacts",
    "account": "accounts",
    "connectionrole": "connectionroles",
}


def main() -> None:
    """Write the batches of one full read or of one hour."""
    data, opportunities, *hour = sys.argv[1:]
    started = time.perf_counter()
    lake = Lake(open_data_root(Path(data)).raw)
    write_hour(lake, Size(int(opportunities)), int(hour[0])) if hour else write_base(lake, Size(int(opportunities)))
    print(json.dumps({"seconds": time.perf_counter() - started}))


def write_base(lake: Lake, size: Size) -> None:
    """A full read of every table."""
    import duckdb

    with duckdb.connect(config={"preserve_insertion_order": "false"}) as connection:
        prepare(connection, size)
        for table in READ_ORDER:
            rows = size.rows[table]
            with lake.new_batch(table, "full") as batch:
                files: list[DataFile] = []
                for start in range(0, rows, ROWS_PER_FILE):
                    numbers = f"select i, i as k from range({start}, {min(start + ROWS_PER_FILE, rows)}) as numbers(i)"
                    files.append(_write_file(connection, batch, len(files) + 1, numbers))
                lake.commit(batch, _manifest(batch, tuple(files), pages=-(-rows // PAGE_SIZE), hour=0))


def write_hour(lake: Lake, size: Size, hour: int) -> None:
    """The changes of one hour, spread over each table; every table was asked, most had none."""
    import duckdb

    with duckdb.connect() as connection:
        prepare(connection, size)
        for table in READ_ORDER:
            with lake.new_batch(table, "changes") as batch:
                files: tuple[DataFile, ...] = ()
                if changed := min(CHANGED.get(table, 0), size.rows[table]):
                    # Row k gets the values of row i: i is even where k is, as the ends of a connection need.
                    keys = f"(n * 2 * {size.rows[table] // changed // 2} + n % 2 + {2 * hour}) % {size.rows[table]}"
                    numbers = (
                        f"select (k + 1000 * {hour}) % {size.rows[table]} as i, k "
                        f"from (select {keys} as k from range({changed}) as numbers(n))"
                    )
                    version = f"900000000 + {hour} * 1000000 + i"
                    files = (_write_file(connection, batch, 1, numbers, version=version),)
                lake.commit(batch, _manifest(batch, files, pages=1, hour=hour))


def _write_file(
    connection: duckdb.DuckDBPyConnection, batch: Batch, number: int, numbers: str, version: str | None = None
) -> DataFile:
    """One Parquet file with the rows `numbers` selects: `i` gives the values of the row and `k` its key."""
    key, *others = TABLES[batch.table]
    values = [f"{key.value.replace(', i)', ', k)')}::uuid as {key.name}"]
    for column in others:
        value = version if version and column.name == "versionnumber" else column.value
        values.append(f"({value})::{column.duckdb_type} as {column.name}")
        if column.several_targets:
            values.append(f"({column.target})::varchar as {column.name}_type")
    page = f"(1 + k // {PAGE_SIZE})::integer"
    started = batch.started_at.replace(tzinfo=None)
    path = batch.folder / f"rows-{number:04}.parquet"
    written = connection.execute(
        f"""
        copy (
            select {", ".join(values)}, timestamp '{started}' as _extracted_at, {page} as _page
            from ({numbers})
        ) to '{path}' (format parquet, compression zstd)
        """
    ).fetchone()
    assert written is not None
    return data_file(path, written[0])


def _manifest(batch: Batch, files: tuple[DataFile, ...], *, pages: int, hour: int) -> Manifest:
    entity_set = ENTITY_SETS[batch.table]
    link = f"/api/data/v9.2/{entity_set}?$deltatoken=hour-"
    return Manifest(
        table=batch.table,
        batch=batch.name,
        mode=batch.mode,
        organization_id=ORGANIZATION_ID,
        entity_set=entity_set,
        started_at=batch.started_at,
        finished_at=datetime.now(UTC),
        pages=pages,
        rows=sum(file.rows for file in files),
        deletes=0,
        previous_delta_link=f"{link}{hour - 1}" if hour else None,
        delta_link=f"{link}{hour}",
        columns=tuple(_described(batch.table, column) for column in TABLES[batch.table]),
        files=files,
        run_id="benchmark",
    )


def _described(table: str, column: BenchColumn) -> Column:
    return Column(
        name=column.name,
        attribute_type=column.attribute_type,
        duckdb_type=column.duckdb_type,
        property=column.api_name,
        has_type=column.several_targets,
        label=column.name.title(),
        choices=CHOICES.get(f"{table}.{column.name}", {}),
    )


if __name__ == "__main__":
    main()
