"""Pages of JSON rows to Parquet, with bounded memory and without decoding rows into Python objects.

Pages are spooled to the batch's folder while the next ones download; beside that, DuckDB reads some 64 MB of them at a
time and writes one Parquet file. JSON numbers are exact to 15 significant digits, quoted ones fully.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opportunity_sync.convert_sql import IS_ROW, read_deletes, read_rows, select_list, text
from opportunity_sync.data_root import disk_errors
from opportunity_sync.dataverse.client import Page
from opportunity_sync.lake import Column, DataFile, data_file
from opportunity_sync.refusal import refusal, refuse_nested

if TYPE_CHECKING:
    import duckdb

GROUP_BYTES = 64 * 1024 * 1024
"""JSON that becomes one Parquet file: 40,000 rows of 1.6 kB."""
GROUP_PAGES = 500
PARQUET = "format parquet, compression zstd, compression_level 1"
"""As fast to write as snappy and a fifth smaller; the default level costs a tenth more time and is no smaller."""
MEMORY_LIMIT = "192MB"
"""Of DuckDB; with pages in flight and Python itself an extraction stays under 500 MB."""

_DELETED = re.compile(rb'/\$deletedEntity"')
_NESTED = re.compile(rb'":\s*[\[{]')
"""Also found in a text that holds JSON: then the page is looked at row by row."""


@dataclass(frozen=True)
class Written:
    """What became of the pages of one read."""

    pages: int
    rows: int
    deletes: int
    delta_link: str | None
    finished_at: datetime
    """UTC, when the last page had arrived."""
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class _Spooled:
    path: Path
    number: int
    requested_at: datetime
    received_at: datetime
    bytes: int
    has_deletes: bool
    may_be_nested: bool


def write_pages(pages: Iterable[Page], *, table: str, key: str, columns: tuple[Column, ...], folder: Path) -> Written:
    """Write pages as `rows-*.parquet` and `deletes.parquet`.

    Args:
        pages: read lazily, in the calling thread.
        table: Dataverse logical name, for messages.
        key: logical name of the primary key, one of `columns`.
        columns: what to extract, and how.
        folder: where the files go; also used for files that do not outlast the call.

    Raises:
        BatchRefusedError: a value does not fit its column, or a row lacks its key.
        DataRootError: the disk is full.
        DataverseError: from `pages`.
        ValueError: there are no pages; even an empty table has one.
    """
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(folder / "spill"),
        "preserve_insertion_order": "false",
        "threads": "2",
    }
    with (
        disk_errors(folder.parent),
        duckdb.connect(config=settings) as connection,
        ThreadPoolExecutor(1, thread_name_prefix=f"convert-{table}") as worker,
    ):
        conversion = _Conversion(connection, table, key, columns, folder)
        done: list[DataFile | None] = []
        running: deque[Future[DataFile | None]] = deque()
        group: list[_Spooled] = []
        count, last = 0, None
        for count, page in enumerate(pages, start=1):  # noqa: B007  (the last count is wanted)
            last = page
            group.append(_spool(page, folder))
            if len(group) == GROUP_PAGES or sum(spooled.bytes for spooled in group) >= GROUP_BYTES:
                if running:  # at most one group being converted while one is downloaded
                    done.append(running.popleft().result())
                running.append(worker.submit(conversion.convert, group, len(done) + 1))
                group = []
        if last is None:
            raise ValueError(f"no pages of table {table}")
        done.extend(future.result() for future in running)
        if group:
            done.append(conversion.convert(group, len(done) + 1))
        rows = [file for file in done if file]
        deletes = conversion.write_deletes()
        return Written(
            pages=count,
            rows=sum(file.rows for file in rows),
            deletes=deletes.rows if deletes else 0,
            delta_link=last.delta_link,
            finished_at=last.received_at,
            files=(*rows, deletes) if deletes else tuple(rows),
        )


class _Conversion:
    """DuckDB's side; used by one thread at a time."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: str, key: str, columns: tuple[Column, ...], folder: Path
    ) -> None:
        self._connection, self._folder = connection, folder
        self._table, self._columns = table, columns
        self._key = next(column for column in columns if column.name == key)
        connection.execute("create table pages (_page_file varchar, _page integer, _extracted_at timestamp)")
        connection.execute("create table deletes (id uuid, _observed_at timestamp)")

    def convert(self, group: list[_Spooled], number: int) -> DataFile | None:
        """Write one group of pages as `rows-<number>.parquet`, note its deletes, remove the spooled pages.

        Returns:
            The file, or None when the pages hold no rows.
        """
        import duckdb

        path = self._folder / f"rows-{number:04d}.parquet"
        for spooled in group:
            if spooled.may_be_nested:
                refuse_nested(spooled.number, spooled.path, self._table, self._columns, self._key)
        try:
            rows = self._write_rows(group, path)
            for spooled in group:
                if spooled.has_deletes:
                    self._note_deletes(spooled)
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            pages = [(spooled.number, spooled.path) for spooled in group]
            raise refusal(self._connection, pages, self._table, self._columns, self._key) from error
        for spooled in group:
            spooled.path.unlink()
        if not rows:
            path.unlink()
            return None
        return data_file(path, rows)

    def write_deletes(self) -> DataFile | None:
        """Write `deletes.parquet` if there are any."""
        path = self._folder / "deletes.parquet"
        found = self._connection.execute("select count(*) from deletes").fetchone()
        if not found or not found[0]:
            return None
        self._connection.execute(f"copy deletes to {text(path)} ({PARQUET})")
        return data_file(path, int(found[0]))

    def _write_rows(self, group: list[_Spooled], path: Path) -> int:
        self._connection.execute("delete from pages")
        self._connection.executemany(
            "insert into pages values (?, ?, ?)",
            [(str(spooled.path), spooled.number, spooled.requested_at.replace(tzinfo=None)) for spooled in group],
        )
        result = self._connection.execute(
            f"""
            copy (
                select {select_list(self._columns, self._key)}, _extracted_at, _page
                from {read_rows(self._columns, [spooled.path for spooled in group])}
                join pages on _page_file = _file
                where {IS_ROW}
            ) to {text(path)} ({PARQUET})
            """
        ).fetchone()
        return int(result[0]) if result else 0

    def _note_deletes(self, spooled: _Spooled) -> None:
        self._connection.execute(
            f"insert into deletes select id, ? from {read_deletes(spooled.path)}",
            [spooled.received_at.replace(tzinfo=None)],
        )


def _spool(page: Page, folder: Path) -> _Spooled:
    path = folder / f"page-{page.number:06d}.json"
    rows = memoryview(page.rows)
    with path.open("wb") as file:
        file.write(rows)
    return _Spooled(
        path=path,
        number=page.number,
        requested_at=page.requested_at,
        received_at=page.received_at,
        bytes=len(rows),
        has_deletes=_DELETED.search(rows) is not None,
        may_be_nested=_NESTED.search(rows) is not None,
    )
