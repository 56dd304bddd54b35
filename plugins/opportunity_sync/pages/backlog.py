"""What Marketo has not got yet, as far as the ledger knows; Marketo itself is not asked.

The ledger is written by one process at a time. A page looks only while nobody holds its lock, and holds it for the few
milliseconds of the look, so that a load that begins meanwhile waits instead of failing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opportunity_sync.pages.live import Live

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SENT = ("opportunities", "opportunity_contact_roles")
"""Published tables whose changes concern Marketo."""


@dataclass(frozen=True)
class Backlog:
    """One Marketo instance."""

    host: str
    problem: str | None = None
    """Why nothing can be said now."""
    loaded_release: str | None = None
    """The release that was last loaded to the end."""
    loaded_at: datetime | None = None
    objects: tuple[dict[str, Any], ...] = ()
    """Per Marketo object the records `confirmed`, `unconfirmed` (sent, no answer noted) and `rejected`."""
    without_lead: int = 0
    """Contacts for which no lead was found; their roles wait."""
    waiting: dict[str, int] | None = None
    """Rows per published table that changed since the loaded release; None: nothing was loaded to the end yet."""


def backlogs(live: Live) -> list[Backlog]:
    """Every Marketo instance that this data root has been loaded into; empty when Marketo is not configured."""
    files = sorted(live.root.marketo.glob("*/ledger.duckdb"))
    return [_backlog(live, file) for file in files]


def _backlog(live: Live, file: Path) -> Backlog:
    import duckdb

    host = file.parent.name
    try:
        with _shared_lock(file.with_name("ledger.lock")) as is_free:
            if not is_free:
                return Backlog(host, problem="a run is loading into Marketo right now")
            with duckdb.connect(":memory:", config={"memory_limit": "128MB", "threads": "1"}) as connection:
                connection.execute("attach '{}' as ledger (read_only)".format(str(file).replace("'", "''")))
                found = _read(connection)
    except (OSError, duckdb.Error) as error:
        return Backlog(host, problem=f"the ledger cannot be read ({type(error).__name__})")
    loaded = found["loaded_release"]
    waiting = None
    if loaded is not None:
        waiting = {
            table: live.value(
                """
                select count(distinct (key, contact_id, role)) from release_changes
                where table_name = ? and release_id > ?
                """,
                [table, loaded],
            )
            for table in SENT
        }
    return Backlog(host, waiting=waiting, **found)


def _read(connection: DuckDBPyConnection) -> dict[str, Any]:
    ((release_id, loaded_at),) = connection.execute("select release_id, loaded_at from ledger.about").fetchall()
    objects = connection.execute(
        """
        select
            object,
            count(*) filter (state = 'confirmed') as confirmed,
            count(*) filter (state = 'sent') as unconfirmed,
            count(*) filter (state = 'rejected') as rejected
        from ledger.records group by object order by object
        """
    ).fetchall()
    ((without_lead,),) = connection.execute("select count(*) from ledger.leads where lead_id is null").fetchall()
    names = ("object", "confirmed", "unconfirmed", "rejected")
    return {
        "loaded_release": release_id,
        "loaded_at": loaded_at and loaded_at.replace(tzinfo=UTC),
        "objects": tuple(dict(zip(names, row, strict=True)) for row in objects),
        "without_lead": without_lead,
    }


@contextmanager
def _shared_lock(file: Path) -> Iterator[bool]:
    """Hold the ledger's lock beside other readers; False when a load holds it. Needs no right to write."""
    handle = os.open(file, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
