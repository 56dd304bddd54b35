"""Backfill: read a period of the past again, as windows that are planned here and read beside one another.

A window is read by `extract.extract_window`. It sees no deletes, carries no delta link, and rows read twice are one row
again in the warehouse; so windows may overlap, be repeated, and be read in any order beside the hourly run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any, Literal, cast, get_args

import msgspec

from opportunity_sync.data_root import DataRoot
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.dataverse.slots import request_slot
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.extract import extract_window
from opportunity_sync.lake import Lake, Manifest, WindowColumn
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CHILDREN, PARENTS, READ_ORDER, Selection

log = logging.getLogger("opportunity_sync.backfill")

Chunk = Literal["hour", "day", "week", "month"]

_LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


@dataclass(frozen=True)
class Request:
    """What a person asked to be read again: rows of `tables` whose column `by` lies in `[start, end)`."""

    start: datetime
    """UTC."""
    end: datetime
    """UTC."""
    tables: tuple[str, ...]
    """In the order they are read."""
    chunk: Chunk
    by: WindowColumn


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One table and one range of time: what one task reads."""

    table: str
    start: datetime
    end: datetime
    by: WindowColumn
    number: int
    """Among all windows of the backfill, from 1."""
    total: int

    def __str__(self) -> str:
        return f"{self.table} {_short(self.start)} .. {_short(self.end)}"


def read_request(params: Mapping[str, Any]) -> Request:
    """Check the parameters of a run: `start`, `end`, `tables`, `chunk`, `by`. A time without zone is UTC.

    Raises:
        ConfigurationError: a parameter is missing or wrong, or nothing lies between `start` and `end`.
    """
    start, end = _time(params, "start"), _time(params, "end")
    if start >= end:
        raise _wrong(f"start {start.isoformat()} is not before end {end.isoformat()}", "Give a start before the end")
    chunk, by, tables = params.get("chunk"), params.get("by"), params.get("tables")
    if chunk not in get_args(Chunk):
        raise _wrong(f"chunk is {chunk!r}", f"Choose one of {', '.join(get_args(Chunk))}")
    if by not in get_args(WindowColumn):
        raise _wrong(f"by is {by!r}", f"Choose one of {', '.join(get_args(WindowColumn))}")
    if not isinstance(tables, Sequence) or not tables or not set(tables) <= set(READ_ORDER):
        raise _wrong(f"tables is {tables!r}", f"Give a list of one or more of {', '.join(READ_ORDER)}")
    return Request(
        start=start,
        end=end,
        tables=tuple(table for table in READ_ORDER if table in tables),
        chunk=cast(Chunk, chunk),
        by=cast(WindowColumn, by),
    )


def plan(request: Request, *, most: int) -> list[Window]:
    """Cut the request into windows: each within one hour, day, week (from Monday) or month of UTC.

    Args:
        request: what to read.
        most: how many windows one mapped task may have; children and parents are one mapped task each.

    Returns:
        Table by table in the order they are read, oldest window first.

    Raises:
        ConfigurationError: there would be more than `most`; names the chunks with which there are not.
    """
    stages = [sum(table in stage for table in request.tables) for stage in (CHILDREN, PARENTS)]
    most_ranges = most // max(stages)
    ranges = _ranges(request, request.chunk, most_ranges)
    if ranges is None:
        chunks = get_args(Chunk)
        larger = [each for each in chunks[chunks.index(request.chunk) + 1 :] if _ranges(request, each, most_ranges)]
        raise _wrong(
            f"{_short(request.start)} .. {_short(request.end)} by {request.chunk} makes more than {most} windows of "
            f"{max(stages)} tables, the most that Airflow maps one task to ([core] max_map_length)",
            f"Choose chunk {' or '.join(larger)}, fewer tables, or a shorter period"
            if larger
            else "Choose fewer tables or a shorter period, or trigger opportunity_sync with full_read",
        )
    total = len(ranges) * len(request.tables)
    described = ((table, start, end) for table in request.tables for start, end in ranges)
    return [
        Window(table=table, start=start, end=end, by=request.by, number=number, total=total)
        for number, (table, start, end) in enumerate(described, 1)
    ]


def read_window(
    client: DataverseClient,
    selection: Selection,
    root: DataRoot,
    settings: Settings,
    run_id: str,
    window: Window,
    *,
    since: datetime,
) -> Manifest:
    """Read one window into the lake, unless this run has it already, and log how far the run is.

    Args:
        client: of the organisation.
        selection: columns of the window's table.
        root: the data root.
        settings: settings of the sync.
        run_id: the run that the window is part of.
        window: what to read.
        since: when the run was asked for. Older batches are not its own, even if an earlier run had the same name.

    Raises:
        OpportunitySyncError: as `extract.extract_full`.
    """
    lake = Lake(root.raw)
    finished = _finished(lake, run_id, since, [window.table]).get(_range(window))
    if finished is None:
        client.who_am_i()  # its answer carries the hint
        with request_slot(root.slots, client.dop_hint):
            batch = extract_window(
                client, selection, lake, settings, run_id, start=window.start, end=window.end, by=window.by
            )
        outcome = f"{batch.rows:,} rows"
    else:
        batch, outcome = finished, f"not read again, this run has it as batch {finished.batch}"
    done = _finished(lake, run_id, since, READ_ORDER)
    log.info(
        "Window %d of %d (%s): %s; %d of %d windows done, %s rows",
        window.number,
        window.total,
        window,
        outcome,
        len(done),
        window.total,
        f"{sum(each.rows for each in done.values()):,}",
    )
    return batch


_Range = tuple[str, datetime | None, datetime | None, str]


def _range(window: Window) -> _Range:
    return window.table, window.start, window.end, window.by


def _finished(lake: Lake, run_id: str, since: datetime, tables: Sequence[str]) -> dict[_Range, Manifest]:
    """The windows that this run has read, with their newest batch."""
    return {
        (batch.table, batch.window_start, batch.window_end, batch.window_by): batch
        for table in tables
        for batch in lake.batches(table, since=since)
        if batch.mode == "window" and batch.run_id == run_id
    }


def _ranges(request: Request, chunk: Chunk, most: int) -> list[tuple[datetime, datetime]] | None:
    """The ranges of time, or None when there are more than `most`."""
    borders = list(islice(_borders(request.start, request.end, chunk), most + 2))
    return None if len(borders) > most + 1 else list(pairwise(borders))


def _borders(start: datetime, end: datetime, chunk: Chunk) -> Iterator[datetime]:
    """`start`, every beginning of a chunk after it, and `end`."""
    yield start
    border = _next(start, chunk)
    while border < end:
        yield border
        border = _next(border, chunk)
    yield end


def _next(moment: datetime, chunk: Chunk) -> datetime:
    """The first beginning of a chunk after a moment."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    if chunk == "month":
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    begun = {"hour": hour, "day": midnight, "week": midnight - timedelta(days=midnight.weekday())}[chunk]
    return begun + _LENGTHS[chunk]


def _time(params: Mapping[str, Any], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(params[name])
    except (KeyError, TypeError, ValueError):
        raise _wrong(
            f"{name} is {params.get(name)!r}", "Give a date and time such as 2026-11-01T00:00:00Z (ISO 8601)"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _short(moment: datetime) -> str:
    """As many parts of a UTC time as say something: `2026-01-01`, `2026-01-01T05:00`, `2026-01-01T05:00:01`."""
    if moment == moment.replace(hour=0, minute=0, second=0, microsecond=0):
        return f"{moment:%Y-%m-%d}"
    is_minute = moment == moment.replace(second=0, microsecond=0)
    return moment.replace(tzinfo=None).isoformat(timespec="minutes" if is_minute else "auto")


def _wrong(what: str, action: str) -> ConfigurationError:
    return ConfigurationError(
        f"Backfill: {what}", state="Nothing was read", action=f"{action}; then trigger opportunity_backfill again"
    )
