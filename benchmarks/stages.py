"""One stage of the sync, timed: `python -m benchmarks.stages STAGE DATA INCLUDE [RELEASE_ID]`.

`copy` is no stage of ours but the yardstick: the time DuckDB needs to copy the same Parquet files into a fresh file.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from opportunity_sync import export, publish, validate, warehouse
from opportunity_sync.data_root import open_data_root
from opportunity_sync.lake import Lake
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER


def main() -> None:
    """Run the stage and print what it did."""
    stage, data, include, *release_id = sys.argv[1:]
    settings = Settings(data=Path(data), include=Path(include))
    started = time.perf_counter()
    output: dict[str, Any] = {}
    if stage == "copy":
        copy(settings)
    elif stage == "transform":
        release = warehouse.transform(settings, Run(run_id="benchmark", started_at=datetime.now(UTC)))
        output = {"release_id": release.release_id, "built": release.built, "rows": release.rows}
    elif stage == "validate":
        release = validate.validate(settings, release_id[0])
        output = {"passed": release.expectations_passed, "failed": release.expectations_failed}
    elif stage == "publish":
        output = {"release_id": publish.publish(settings, release_id[0]).release_id}
    elif stage == "export":
        export.export(settings, release_id[0])
    print(json.dumps({"seconds": time.perf_counter() - started} | output))


def copy(settings: Settings) -> None:
    """Copy every raw row into a DuckDB file, with the settings that the warehouse works with."""
    target = settings.data / "copy.duckdb"
    target.unlink(missing_ok=True)
    lake = Lake(open_data_root(settings.data).raw)
    with duckdb.connect(
        str(target), config={"memory_limit": settings.memory_limit, "preserve_insertion_order": "false"}
    ) as connection:
        for table in READ_ORDER:
            files = [
                str(lake.folder(table, batch.batch) / file.name)
                for batch in lake.batches(table)
                for file in batch.files
            ]
            connection.execute(f"create table {table} as select * from read_parquet({files})")
        connection.execute("checkpoint")
    target.unlink()


if __name__ == "__main__":
    main()
