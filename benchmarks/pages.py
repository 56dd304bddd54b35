"""Render the Web API pages of the benchmark's opportunities once, as files that the page server sends unchanged.

`python -m benchmarks.pages FOLDER ROWS`
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.columns import OPPORTUNITY, BenchColumn
from benchmarks.organization import Size, prepare

if TYPE_CHECKING:
    import duckdb

PAGE_SIZE = 5000
KEY_PREFIX = b"c0000000"
"""First eight digits of every key; the server exchanges them when it sends a page for the second time."""
ANNOTATION = "Microsoft.Dynamics.CRM.lookuplogicalname"


def render_pages(folder: Path, rows: int) -> None:
    """Write `page-NNNN.json` files that together hold `rows` opportunities; nothing to do when they are there.

    A file ends right after the `value` array: links depend on the server's port and on the request.
    """
    import duckdb

    done = folder / "done.json"
    description = {"rows": rows, "page_size": PAGE_SIZE, "columns": [str(column) for column in OPPORTUNITY]}
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == description:
        return
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    for leftover in folder.glob("page-*.json"):
        leftover.unlink()
    with duckdb.connect() as connection:
        prepare(connection, Size(rows))
        for number, start in enumerate(range(0, rows, PAGE_SIZE)):
            page = _page(connection, start, min(start + PAGE_SIZE, rows))
            (folder / f"page-{number:04}.json").write_bytes(page)
    done.write_text(json.dumps(description), encoding="utf-8")


def _page(connection: duckdb.DuckDBPyConnection, start: int, end: int) -> bytes:
    values = ", ".join(
        f"{column.value} as {column.name}" + (f", {column.target} as {column.name}_target" if column.target else "")
        for column in OPPORTUNITY
    )
    members = " || ',' || ".join(_member(column) for column in OPPORTUNITY)
    found = connection.execute(
        f"""
        with opportunities as (select i, {values} from range({start}, {end}) as numbers(i))
        select string_agg('{{"@odata.etag":"W/\\"' || versionnumber || '\\"",' || {members} || '}}', ',' order by i)
        from opportunities
        """
    ).fetchone()
    assert found is not None
    text: str = found[0]
    return b'{"@odata.context":"$metadata#opportunities","value":[' + text.encode() + b"]"


def _member(column: BenchColumn) -> str:
    """The JSON text of one property; a lookup that is set is followed by its target table, as Dataverse does."""
    name = column.api_name
    if column.name == OPPORTUNITY[0].name:
        return f"""'"{name}":"{KEY_PREFIX.decode()}' || substr({column.name}::varchar, 9) || '"'"""
    if column.duckdb_type == "TIMESTAMP":
        return f"""'"{name}":' || coalesce(strftime({column.name}, '"%Y-%m-%dT%H:%M:%SZ"'), 'null')"""
    plain = f"""'"{name}":' || coalesce(to_json({column.name})::varchar, 'null')"""
    if not column.is_lookup:
        return plain
    return (
        f"""{plain} || case when {column.name} is null then '' """
        f"""else ',"{name}@{ANNOTATION}":"' || {column.name}_target || '"' end"""
    )


def main() -> None:
    """Render."""
    folder, rows = sys.argv[1:]
    started = time.perf_counter()
    render_pages(Path(folder), int(rows))
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
