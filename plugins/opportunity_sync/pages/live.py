"""Read the live release for a page: one file for the whole page, also while publications replace it.

A file that was opened by `duckdb.connect(path)` is shared by everybody in the process who opens the same path while it
is open, and so would show a replaced release for as long as pages overlap. Here it is attached to a database in memory
instead, which is kept until another file is live: what pages have read stays in memory within a fixed limit, however
many ask at once. That database can reach no other file and cannot be reconfigured.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import ReleaseError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT = "512MB"
"""Of all pages of one process together."""
THREADS = 2
NEEDED = {"releases", "expectation_results_history", "opportunity_explanations"}
"""Views of the published file that pages cannot do without."""


@dataclass(frozen=True)
class Live:
    """The live release, open for one page."""

    connection: DuckDBPyConnection
    root: DataRoot
    release_id: str
    released_at: datetime
    run_id: str
    pipeline_version: str

    @property
    def folder(self) -> Path:
        """Where the release's own records are; its id comes from the file."""
        return self.root.releases / self.release_id

    def rows(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """All rows of a small query, by column name."""
        result = self.connection.execute(query, parameters)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        """The one value of a query."""
        ((found,),) = self.connection.execute(query, parameters).fetchall()
        return found


class LiveFile:
    """Opens the live release of a data root, and keeps it open until another file takes its place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._identity: object = None
        self._database: DuckDBPyConnection | None = None

    @contextmanager
    def reading(self, root: DataRoot) -> Iterator[Live | None]:
        """The release that is live now; None before the first publication.

        Raises:
            ReleaseError: the live file is damaged, or of a version without what pages need.
        """
        import duckdb

        unreadable = (
            duckdb.IOException,
            duckdb.SerializationException,
            duckdb.FatalException,
            duckdb.InternalException,
        )
        try:
            connection = self._connect(root.live_file)
            if connection is None:
                yield None
                return
            with connection:
                connection.execute("use live")
                yield Live(connection, root, *_release(connection))
        except unreadable as error:
            self._forget()
            raise _unreadable(root.live_file, error) from error

    def _connect(self, file: Path) -> DuckDBPyConnection | None:
        with self._lock:
            try:
                found = file.stat()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise _unreadable(file, error) from error
            identity = (file, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if self._database is None or identity != self._identity:
                # Pages that still read the former file keep it: it is closed with the last of their cursors.
                self._database, self._identity = _open(file), identity
            return self._database.cursor()

    def _forget(self) -> None:
        """Open the file anew for the next page: DuckDB may have given up on what is open."""
        with self._lock:
            self._database = None


def _unreadable(file: Path, error: Exception) -> ReleaseError:
    return ReleaseError(
        f"{file} cannot be read ({type(error).__name__})",
        state="Nothing was changed",
        action="Check that the API server may read it; if it is damaged, `opportunity-sync rollback` puts a kept "
        "release in its place",
    )


def _open(file: Path) -> DuckDBPyConnection:
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": str(THREADS),
        "temp_directory": "",
    }
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("attach '{}' as live (read_only)".format(str(file).replace("'", "''")))
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    found = connection.execute("select view_name from duckdb_views() where database_name = 'live'").fetchall()
    if missing := NEEDED - {name for (name,) in found}:
        raise ReleaseError(
            f"{file} is of an earlier version: it has no {', '.join(sorted(missing))}",
            state="Nothing was changed",
            action="The next run publishes a release that has it",
        )
    return connection


def _release(connection: DuckDBPyConnection) -> tuple[str, datetime, str, str]:
    ((release_id, released_at, run_id, version),) = connection.execute(
        "select release_id, released_at, run_id, pipeline_version from release"
    ).fetchall()
    return release_id, released_at.replace(tzinfo=UTC), run_id, version
