"""Planning of a backfill's windows, and reading them: what is kept, what is not read again, how many at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.server import Emulator
from opportunity_sync.backfill import Request, Window, plan, read_request, read_window
from opportunity_sync.data_root import DataRoot
from opportunity_sync.dataverse.errors import RequestRefusedError
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CHILDREN, PARENTS, READ_ORDER
from tests.extraction import Extraction, selection
from tests.stand_in import Connect

MOST = 1024


def params(**changes: Any) -> dict[str, Any]:
    return {
        "start": "2026-01-30T12:00:00Z",
        "end": "2026-02-03T00:00:00Z",
        "tables": list(READ_ORDER),
        "chunk": "day",
        "by": "modifiedon",
    } | changes


def ranges(**changes: Any) -> list[tuple[str, str]]:
    """Start and end of every window of one table."""
    windows = plan(read_request(params(tables=["account"], **changes)), most=MOST)
    return [(f"{window.start:%Y-%m-%dT%H:%M}", f"{window.end:%Y-%m-%dT%H:%M}") for window in windows]


# planning -----------------------------------------------------------------------------------------------------------


def test_windows_end_where_days_end_and_are_clipped_to_the_period() -> None:
    assert ranges() == [
        ("2026-01-30T12:00", "2026-01-31T00:00"),
        ("2026-01-31T00:00", "2026-02-01T00:00"),
        ("2026-02-01T00:00", "2026-02-02T00:00"),
        ("2026-02-02T00:00", "2026-02-03T00:00"),
    ]


def test_months_have_their_own_lengths() -> None:
    found = ranges(chunk="month", start="2023-12-31T23:00:00Z", end="2024-04-10T00:00:00Z")
    assert found == [
        ("2023-12-31T23:00", "2024-01-01T00:00"),
        ("2024-01-01T00:00", "2024-02-01T00:00"),
        ("2024-02-01T00:00", "2024-03-01T00:00"),
        ("2024-03-01T00:00", "2024-04-01T00:00"),
        ("2024-04-01T00:00", "2024-04-10T00:00"),
    ]


def test_weeks_begin_on_monday() -> None:
    assert ranges(chunk="week", end="2026-02-09T00:00:00Z") == [
        ("2026-01-30T12:00", "2026-02-02T00:00"),
        ("2026-02-02T00:00", "2026-02-09T00:00"),
    ]


def test_a_period_within_one_hour_is_one_window() -> None:
    found = ranges(chunk="hour", start="2026-01-30T12:10:00Z", end="2026-01-30T12:50:00Z")
    assert found == [("2026-01-30T12:10", "2026-01-30T12:50")]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_on_which_clocks_change_has_24_hours_of_utc(day: str) -> None:
    found = ranges(chunk="hour", start=f"{day}T00:00:00+00:00", end=f"{day}T23:59:59Z")
    assert len(found) == 24
    assert found[0] == (f"{day}T00:00", f"{day}T01:00")


def test_times_are_read_in_any_zone_and_without_one_as_utc() -> None:
    request = read_request(params(start="2026-01-01T01:00:00+02:00", end="2026-01-02"))
    assert (request.start, request.end) == (datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


def test_windows_are_numbered_over_all_tables_children_first() -> None:
    windows = plan(read_request(params(tables=["account", "opportunity", "contact"])), most=MOST)
    assert [window.number for window in windows] == list(range(1, 13))
    assert {window.total for window in windows} == {12}
    assert list(dict.fromkeys(window.table for window in windows)) == ["opportunity", "contact", "account"]
    assert str(windows[0]) == "opportunity 2026-01-30T12:00 .. 2026-01-31"


chunks = st.sampled_from(["hour", "day", "week", "month"])
moments = st.datetimes(datetime(2024, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(start=moments, length=st.timedeltas(timedelta(microseconds=1), timedelta(days=30)), chunk=chunks)
def test_windows_cover_the_period_without_gap_or_overlap(start: datetime, length: timedelta, chunk: Any) -> None:
    request = Request(start=start, end=start + length, tables=("account",), chunk=chunk, by="createdon")
    windows = plan(request, most=MOST)
    assert (windows[0].start, windows[-1].end) == (request.start, request.end)
    assert all(first.end == second.start for first, second in pairwise(windows))
    assert all(window.start < window.end for window in windows)
    longest = {"hour": 1 / 24, "day": 1, "week": 7, "month": 31}[chunk]
    assert all(window.end - window.start <= timedelta(days=longest) for window in windows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": "2026-02-03T00:00:00Z"}, r"start .* is not before end"),
        ({"start": "2026-02-04T00:00:00Z"}, r"start .* is not before end"),
        ({"start": "yesterday"}, r"start is 'yesterday'.*2026-11-01T00:00:00Z"),
        ({"end": None}, r"end is None"),
        ({"tables": []}, r"tables is \[\].*opportunity, connection, contact, account, connectionrole"),
        ({"tables": ["lead"]}, r"tables is \['lead'\]"),
        ({"chunk": "year"}, r"chunk is 'year'.*hour, day, week, month"),
        ({"by": "versionnumber"}, r"by is 'versionnumber'.*modifiedon, createdon"),
    ],
)
def test_a_wrong_parameter_is_refused_and_the_error_says_what_to_give(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read_request(params(**changes))


def test_a_missing_parameter_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="start is None"):
        read_request({name: value for name, value in params().items() if name != "start"})


def test_too_many_windows_are_refused_and_the_error_names_the_chunks_that_fit() -> None:
    year = params(start="2025-01-01T00:00:00Z", end="2026-01-01T00:00:00Z")
    with pytest.raises(ConfigurationError, match=r"more than 1024 windows of 3 tables.*Choose chunk week or month,"):
        plan(read_request(year), most=MOST)
    assert len(plan(read_request(year | {"tables": list(CHILDREN)}), most=MOST)) == 2 * 365
    assert len(plan(read_request(year | {"chunk": "week"}), most=MOST)) == 5 * 53


def test_exactly_as_many_windows_as_airflow_maps_are_planned() -> None:
    four_days = read_request(params(tables=list(PARENTS)))
    assert len(plan(four_days, most=12)) == 12
    with pytest.raises(ConfigurationError, match="more than 11 windows"):
        plan(four_days, most=11)


def test_a_period_too_long_for_any_chunk_is_refused_with_another_way() -> None:
    with pytest.raises(ConfigurationError, match=r"shorter period, or trigger opportunity_sync with full_read"):
        plan(read_request(params(start="0001-01-01", end="2026-01-01", chunk="month")), most=MOST)


# reading ------------------------------------------------------------------------------------------------------------

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
YEAR = params(start="2025-01-01", end="2026-01-01", chunk="month", by="createdon", tables=["opportunity", "account"])


@pytest.fixture
def read(extraction: Extraction) -> Callable[..., Manifest]:
    """Read a window of the sample organisation."""

    def read(window: Window, run_id: str = "run", since: datetime = SINCE) -> Manifest:
        root = DataRoot(extraction.settings.data)
        return read_window(
            extraction.client, selection(window.table), root, extraction.settings, run_id, window, since=since
        )

    return read


def pages_asked(organisation: Emulator) -> list[str]:
    """Queries of the requests for rows."""
    return [request.query for request in organisation.requests if "$filter" in request.query]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["modifiedon", "createdon"])
def test_a_window_holds_the_rows_whose_column_lies_in_it(
    extraction: Extraction, read: Callable[..., Manifest], by: Any
) -> None:
    create = extraction.organisation.store.create
    stamps = ["2031-03-01T09:59:59Z", "2031-03-01T10:00:00Z", "2031-03-01T10:59:59Z", "2031-03-01T11:00:00Z"]
    other = "createdon" if by == "modifiedon" else "modifiedon"
    ids = [create("opportunity", {"name": "x", by: stamp, other: "2001-01-01T00:00:00Z"}) for stamp in stamps]
    window = Window(
        table="opportunity",
        start=datetime(2031, 3, 1, 10, tzinfo=UTC),
        end=datetime(2031, 3, 1, 11, tzinfo=UTC),
        by=by,
        number=1,
        total=1,
    )
    batch = read(window)
    assert extraction.ids(batch) == set(ids[1:3])
    assert (batch.mode, batch.window_start, batch.window_end, batch.window_by) == (
        "window",
        window.start,
        window.end,
        by,
    )
    assert (batch.delta_link, batch.previous_delta_link, batch.read_until) == (None, None, None)


@pytest.mark.slow
def test_a_window_leaves_the_hourly_runs_next_read_as_it_was(
    extraction: Extraction, read: Callable[..., Manifest]
) -> None:
    first = extraction.run("scheduled")
    for window in plan(read_request(YEAR | {"tables": ["opportunity"]}), most=MOST):
        read(window)
    changed = extraction.organisation.store.create("opportunity", {"name": "new"})
    following = extraction.run("scheduled")
    assert following.previous_delta_link == first.delta_link
    assert extraction.ids(following) == {changed}


@pytest.mark.slow
def test_after_a_failure_only_what_is_missing_is_read(
    extraction: Extraction, read: Callable[..., Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    windows = plan(read_request(YEAR), most=MOST)
    failing = windows[4]
    organisation = extraction.organisation
    organisation.set_privileges(read={"account": "None"})
    refused = []
    for window in windows:
        try:
            read(window)
        except Exception as error:  # noqa: BLE001
            refused.append((window, type(error).__name__))
    assert refused == [(window, "MissingPrivilegeError") for window in windows if window.table == "account"]
    assert failing.table == "opportunity"

    organisation.set_privileges()
    organisation.clear_requests()
    caplog.set_level(logging.INFO, logger="opportunity_sync")
    caplog.clear()
    batches = [read(window) for window in windows]
    asked = pages_asked(organisation)
    assert len(asked) >= 12
    assert all(request.path.endswith("/accounts") for request in organisation.requests if "$filter" in request.query)
    found = {(each.table, each.window_start) for each in batches}
    assert found == {(window.table, window.start) for window in windows}
    assert all(len(extraction.lake.batches(table)) == 12 for table in ("opportunity", "account"))
    said = [record.getMessage() for record in caplog.records if record.name == "opportunity_sync.backfill"]
    rows = sum(each.rows for each in batches)
    assert "Window 5 of 24 (opportunity 2025-05-01 .. 2025-06-01): not read again, this run has it as batch " in said[4]
    assert said[-1].startswith("Window 24 of 24 (account 2025-12-01 .. 2026-01-01): ")
    assert said[-1].endswith(f"; 24 of 24 windows done, {rows} rows")


@pytest.mark.slow
def test_a_window_is_read_again_by_another_run_another_column_or_an_older_run_of_the_same_name(
    extraction: Extraction, read: Callable[..., Manifest]
) -> None:
    (window,) = plan(read_request(YEAR | {"chunk": "month", "end": "2025-01-31", "tables": ["opportunity"]}), most=MOST)
    first = read(window)
    assert read(window).batch == first.batch
    other_column = Window(**{name: getattr(window, name) for name in window.__struct_fields__} | {"by": "modifiedon"})
    again = [read(window, run_id="other"), read(other_column), read(window, since=datetime.now(UTC))]
    assert len({first.batch, *(each.batch for each in again)}) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("hint", "most_at_once"), [(2, 2), (None, 6)])
def test_no_more_windows_are_read_at_once_than_the_service_suggests(
    start_organisation: Callable[..., Emulator], connect: Connect, tmp_path: Path, hint: int | None, most_at_once: int
) -> None:
    organisation = start_organisation(dop_hint=hint, faults=[{"action": "slow", "table": "account", "seconds": 0.5}])
    settings = Settings(data=tmp_path)
    windows = plan(read_request(YEAR | {"tables": ["account"], "end": "2025-07-01"}), most=MOST)
    assert len(windows) == 6
    # Each with a client of its own, as the tasks' processes have.
    clients = [connect(organisation) for _ in windows]
    with ThreadPoolExecutor(len(windows)) as pool:
        batches = list(
            pool.map(
                lambda client, window: read_window(
                    client, selection("account"), DataRoot(tmp_path), settings, "run", window, since=SINCE
                ),
                clients,
                windows,
            )
        )
    assert {client.dop_hint for client in clients} == {hint}
    at_once = [sum(other.started_at <= batch.started_at < other.finished_at for other in batches) for batch in batches]
    assert max(at_once) == most_at_once
    assert len(Lake(DataRoot(tmp_path).raw).batches("account")) == 6


@pytest.mark.slow
def test_a_refused_window_gives_its_slot_back(extraction: Extraction, read: Callable[..., Manifest]) -> None:
    extraction.organisation.server.dop_hint = 1
    first, second, *_ = plan(read_request(YEAR), most=MOST)
    extraction.organisation.set_faults([{"action": "status", "status": 400, "table": "opportunity", "times": 1}])
    with pytest.raises(RequestRefusedError):
        read(first)
    assert read(second).rows >= 0
