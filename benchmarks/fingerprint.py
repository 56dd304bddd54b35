"""Do Parquet files of different makers hold the same rows? `python -m benchmarks.fingerprint GLOB [keys]`.

All 41 columns are brought to their Dataverse types and hashed together, whatever the order of rows and files and
whatever else a maker added; with `keys` only different keys count as rows. Peers name their columns after the Web API
property or after the logical name.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.columns import OPPORTUNITY


def main() -> None:
    """Print the number of rows and one hash over all values."""
    import duckdb

    started = time.perf_counter()
    source = f"read_parquet('{sys.argv[1]}', union_by_name = true)"
    with duckdb.connect() as connection:
        found = {row[0] for row in connection.execute(f"describe select * from {source}").fetchall()}
        values = []
        for column in OPPORTUNITY:
            name = column.name if column.name in found else column.api_name
            # Microseconds are the same number with and without a zone.
            is_time = column.duckdb_type == "TIMESTAMP"
            values.append(f'epoch_us("{name}")' if is_time else f'"{name}"::{column.duckdb_type}')
        count = f"count(distinct {OPPORTUNITY[0].name})" if "keys" in sys.argv[2:] else "count(*)"
        rows = connection.execute(f"select {count}, bit_xor(hash({', '.join(values)})) from {source}").fetchone()
    assert rows is not None
    print(json.dumps({"seconds": time.perf_counter() - started, "rows": rows[0], "hash": str(rows[1])}))


if __name__ == "__main__":
    main()
