"""However windows, hourly runs and writers interleave, the release holds what one full read holds (rules section 5)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.server import Emulator, running
from opportunity_sync.backfill import Window, read_window
from opportunity_sync.data_root import DataRoot
from opportunity_sync.dataverse.auth import DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.extract import extract_full, extract_scheduled
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER
from opportunity_sync.warehouse import transform
from tests.extraction import selection
from tests.stand_in import SAMPLE_DATA, credentials_of
from tests.warehouse.releases import content, make_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
MOMENTS = [
    datetime(year, month, 1, tzinfo=UTC) for year, month in ((2000, 1), (2024, 6), (2025, 2), (2025, 6), (2099, 1))
]
"""Borders of windows: the sample's rows lie in the middle, what the test writes in the last range."""


@st.composite
def window(draw: st.DrawFn) -> Window:
    first, last = sorted(draw(st.lists(st.sampled_from(range(len(MOMENTS))), min_size=2, max_size=2, unique=True)))
    return Window(
        table=draw(st.sampled_from(READ_ORDER)),
        start=MOMENTS[first],
        end=MOMENTS[last],
        by=draw(st.sampled_from(["modifiedon", "createdon"])),
        number=1,
        total=1,
    )


writes = st.tuples(
    st.sampled_from(["rename", "backdate", "customer", "delete", "create"]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
steps = st.one_of(
    st.tuples(st.just("write"), st.lists(writes, min_size=1, max_size=4)),
    st.tuples(st.just("hourly"), st.none()),
    st.tuples(st.just("release"), st.none()),
    st.tuples(st.just("windows"), st.lists(window(), min_size=1, max_size=4)),
    st.tuples(st.just("at once"), st.tuples(st.lists(window(), min_size=2, max_size=4), st.lists(writes, max_size=4))),
)


class Sync:
    """One data root of an organisation, and what an Airflow would do with it."""

    def __init__(self, organisation: Emulator, data: Path) -> None:
        self.organisation, self.root = organisation, DataRoot(data)
        self.settings = Settings(data=data, page_size=7)
        self.runs = 0

    @contextmanager
    def client(self) -> Iterator[DataverseClient]:
        auth = DataverseAuth(credentials_of(self.organisation))
        with DataverseClient(self.organisation.url, auth, ca_bundle=self.organisation.ca_bundle) as client:
            yield client

    def hourly(self, read: Any = extract_scheduled) -> None:
        with self.client() as client:
            for table in READ_ORDER:
                read(client, selection(table), Lake(self.root.raw), self.settings, "hourly")

    def window(self, wanted: Window) -> Manifest:
        self.runs += 1
        run_id = f"backfill {self.runs}"
        with self.client() as client:
            chosen = selection(wanted.table)
            return read_window(client, chosen, self.root, self.settings, run_id, wanted, since=SINCE)

    def release(self) -> dict[str, Any]:
        candidate = transform(self.settings, RUN)
        make_live(self.root, candidate)
        return dict(content(self.root, candidate))


def write(organisation: Emulator, what: str, one: int, other: int) -> None:
    """What a user of Dynamics does."""
    store = organisation.store
    opportunities = sorted(row["opportunityid"] for row in store.rows("opportunity"))
    chosen = opportunities[one % len(opportunities)]
    if what == "rename":
        store.update("opportunity", chosen, {"name": f"renamed {other}"})
    elif what == "backdate":
        store.update("opportunity", chosen, {"name": f"backdated {other}", "modifiedon": "2025-03-01T00:00:00Z"})
    elif what == "customer":
        contacts = sorted(row["contactid"] for row in store.rows("contact"))
        lookup = "_customerid_value"
        values = {
            lookup: contacts[other % len(contacts)],
            f"{lookup}@Microsoft.Dynamics.CRM.lookuplogicalname": "contact",
        }
        store.update("opportunity", chosen, values)
    elif what == "delete":
        table = ("opportunity", "connection", "contact")[other % 3]
        rows = sorted(row[f"{table}id"] for row in store.rows(table))
        if len(rows) > 5:
            store.delete(table, rows[one % len(rows)])
    else:
        store.create("opportunity", {"name": f"created {other}"})


def at_once(sync: Sync, windows: list[Window], changes: list[tuple[str, int, int]]) -> None:
    """Windows, an hourly run and a user at the same time."""

    def user() -> None:
        for change in changes:
            write(sync.organisation, *change)

    with ThreadPoolExecutor(len(windows) + 2) as pool:
        futures: list[Future[Any]] = [pool.submit(user), pool.submit(sync.hourly)]
        futures += [pool.submit(sync.window, wanted) for wanted in windows]
        for future in futures:
            future.result()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(story=st.lists(steps, min_size=2, max_size=6))
def test_windows_and_hourly_runs_in_any_interleaving_give_the_release_of_one_full_read(
    tls_dir: Path, story: list[tuple[str, Any]]
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        organisation = stack.enter_context(running(SAMPLE_DATA, tls_dir=tls_dir, dop_hint=3))
        sync = Sync(organisation, folder / "synced")
        for step, details in story:
            if step == "write":
                for change in details:
                    write(organisation, *change)
            elif step == "hourly":
                sync.hourly()
            elif step == "release":
                sync.release()
            elif step == "windows":
                for wanted in details:
                    sync.window(wanted)
            else:
                at_once(sync, *details)
        sync.hourly()
        alone = Sync(organisation, folder / "alone")
        alone.hourly(extract_full)
        assert sync.release() == alone.release()


def test_windows_over_everything_give_the_release_of_one_full_read_whatever_their_order(
    tls_dir: Path, tmp_path: Path
) -> None:
    with running(SAMPLE_DATA, tls_dir=tls_dir, dop_hint=None) as organisation:
        alone = Sync(organisation, tmp_path / "alone")
        alone.hourly(extract_full)
        expected = alone.release()
        for by in ("modifiedon", "createdon"):
            windows = [
                Window(table=table, start=start, end=end, by=by, number=1, total=1)  # type: ignore[arg-type]
                for table in READ_ORDER
                for start, end in pairwise(MOMENTS)
            ]
            for name, order in (("forwards", windows), ("backwards", windows[::-1])):
                sync = Sync(organisation, tmp_path / by / name)
                for wanted in order:
                    sync.window(wanted)
                assert sync.release() == expected, (by, name)
