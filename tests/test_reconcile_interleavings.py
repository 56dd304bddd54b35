"""Property: in whichever order users, hourly runs, backfills, sweeps, compactions and kills come, no row is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emulator.server import Emulator, running
from opportunity_sync.compact import compact
from opportunity_sync.data_root import DataRoot
from opportunity_sync.dataverse.auth import DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient, Page
from opportunity_sync.extract import extract_scheduled, extract_window
from opportunity_sync.lake import Lake
from opportunity_sync.reconcile import reconcile
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import transform
from opportunity_sync.warehouse.known import write_known_rows
from tests.extraction import selection
from tests.pipeline import DAY
from tests.stand_in import SAMPLE_DATA, credentials_of
from tests.warehouse.releases import content

pytestmark = pytest.mark.slow

OPPORTUNITY = selection("opportunity")


LONG_AGO, FAR_AHEAD = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
OF_USERS = ("create", "restore", "delete", "update")


class KilledError(Exception):
    """What stands for a worker that is gone."""


class Interrupted(DataverseClient):
    """A client with something to do before each page is asked for."""

    before_page: Callable[[], None] | None = None

    def pages(self, path: str, **options: Any) -> Iterator[Page]:
        pages, is_last = super().pages(path, **options), False
        while not is_last:
            if self.before_page:
                self.before_page()
            page = next(pages)
            is_last = page.next_link is None
            yield page


@dataclass
class World:
    """An organisation, a data root, and what has to be true of the one because of the other."""

    organisation: Emulator
    settings: Settings
    client: Interrupted
    created: list[str]
    """Every opportunity that ever was, in a stable order."""
    owed: set[str] = field(default_factory=set)
    """Rows that exist without a break since a completed hourly run could read them: they have to be here."""
    reported: set[str] = field(default_factory=set)
    """Rows whose coming into being change tracking reports."""

    @property
    def lake(self) -> Lake:
        return Lake(DataRoot(self.settings.data).raw)

    def in_dynamics(self) -> dict[str, int]:
        return {
            row["opportunityid"].lower(): row["versionnumber"] for row in self.organisation.store.rows("opportunity")
        }

    def known(self) -> dict[str, int]:
        path = self.settings.data / "known.parquet"
        write_known_rows(self.settings, "opportunity", path)
        with duckdb.connect() as connection:
            return dict(connection.execute(f"select id::varchar, version from '{path}'").fetchall())

    def write(self, op: str, number: int, *, reported: bool) -> None:
        """A user creates, renames, deletes or restores the number-th opportunity, where that is possible."""
        # A new row sorts before or behind all others: a listing that has begun misses it, or not.
        new_id = UUID(int=(len(self.created) + 1) if number % 2 else (2**128 - 1 - len(self.created)))
        row_id = str(new_id) if op == "create" else self.created[number % len(self.created)]
        exists = row_id in self.in_dynamics()
        operation: dict[str, Any] = {"table": "opportunity", "id": row_id, "reported": reported, "cascade": False}
        if exists and op == "update":
            operation |= {"op": "update", "values": {"name": f"renamed {number}"}}
        elif exists and op == "delete":
            operation |= {"op": "delete"}
            self.owed.discard(row_id)
            self.reported.discard(row_id)
        elif not exists and op in ("create", "restore"):
            account = self.organisation.store.rows("account")[0]["accountid"]
            customer = {"customerid_account@odata.bind": f"/accounts({account})"}
            operation |= {"op": "create", "values": {"name": "new", **customer}}
            self.created += [row_id] if op == "create" else []
            self.reported |= {row_id} if reported else set()
        else:
            return
        self.organisation.store.apply([operation])

    def hourly(self, client: DataverseClient) -> None:
        readable = self.in_dynamics().keys() & self.reported
        extract_scheduled(client, OPPORTUNITY, self.lake, self.settings, "hourly")
        self.owed |= readable & self.in_dynamics().keys()

    def sweep(
        self, other: DataverseClient, disturbances: dict[int, list[dict[str, Any]]], killed_at: int | None = None
    ) -> None:
        """Reconcile; before its n-th page the n-th list of things happens, and perhaps it is killed there."""
        page = 0

        def disturb() -> None:
            nonlocal page
            page += 1
            for thing in disturbances.get(page, []):
                self.do(thing, other)
            if page == killed_at:
                raise KilledError

        self.client.before_page = disturb
        try:
            reconcile(self.client, OPPORTUNITY, self.settings, "sweep")
        except KilledError:
            assert not list((self.lake.path / "opportunity").glob(".*"))
        finally:
            self.client.before_page = None

    def do(self, thing: dict[str, Any], other: DataverseClient) -> None:
        if thing["op"] == "hourly":
            self.hourly(other)
        elif thing["op"] == "window":
            extract_window(other, OPPORTUNITY, self.lake, self.settings, "backfill", start=LONG_AGO, end=FAR_AHEAD)
        elif thing["op"] == "compact":
            compact(self.settings, "compact")
        elif thing["op"] == "sweep":
            self.sweep(other, thing["disturbances"], thing["killed_at"])
            self.hourly(other)  # so that what was written during the sweep has to be here, too
        else:
            self.write(**thing)
        if thing["op"] not in OF_USERS:
            assert self.owed <= self.known().keys()


@contextmanager
def world(folder: Path, tls_dir: Path) -> Iterator[tuple[World, DataverseClient]]:
    with running(SAMPLE_DATA, tls_dir=tls_dir, page_size=12) as organisation:
        credentials = credentials_of(organisation)
        with (
            Interrupted(organisation.url, DataverseAuth(credentials), ca_bundle=organisation.ca_bundle) as client,
            DataverseClient(organisation.url, DataverseAuth(credentials), ca_bundle=organisation.ca_bundle) as other,
        ):
            settings_ = Settings(data=folder, page_size=12, gone_share=1, raw_days=0)
            made = World(organisation, settings_, client, [])
            made.created = sorted(made.in_dynamics(), key=UUID)
            made.reported = set(made.created)
            yield made, other


writes = st.fixed_dictionaries(
    {
        "op": st.sampled_from(OF_USERS),
        "number": st.integers(0, 3),
        "reported": st.sampled_from([True, True, False]),
    }
)
runs = st.sampled_from([{"op": "hourly"}, {"op": "hourly"}, {"op": "window"}, {"op": "compact"}])
sweeps = st.fixed_dictionaries(
    {
        "op": st.just("sweep"),
        # Pages 1 to 4 are the listing, page 5 is what changed, from 6 on come the answers.
        "disturbances": st.dictionaries(
            st.sampled_from([2, 3, 4, 5, 6]), st.lists(st.one_of(writes, writes, runs), min_size=1, max_size=4)
        ),
        "killed_at": st.sampled_from([None, None, None, 1, 3, 5, 6]),
    }
)


def sweep_beside(**pages: list[dict[str, Any]]) -> dict[str, Any]:
    """A sweep that is left to finish; `p2` is what happens before its second page."""
    return {"op": "sweep", "disturbances": {int(page[1:]): things for page, things in pages.items()}, "killed_at": None}


def write(op: str, number: int = 1, *, reported: bool = True) -> dict[str, Any]:
    return {"op": op, "number": number, "reported": reported}


@example(things=[sweep_beside(p2=[write("create")])])
@example(things=[write("delete"), sweep_beside(p3=[write("restore")])])
@example(things=[write("delete", reported=False), sweep_beside(p6=[write("restore"), {"op": "hourly"}])])
@example(things=[sweep_beside(p4=[write("delete"), {"op": "hourly"}, write("restore")])])
@example(things=[write("delete"), {"op": "compact"}, {"op": "window"}, write("restore"), {"op": "compact"}])
@example(things=[sweep_beside(p3=[write("create"), {"op": "hourly"}, {"op": "compact"}], p6=[{"op": "compact"}])])
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(things=st.lists(st.one_of(writes, runs, sweeps, sweeps), min_size=2, max_size=7))
def test_a_row_that_exists_is_never_taken_out_and_in_the_end_all_is_as_in_dynamics(
    things: list[dict[str, Any]], tls_dir: Path
) -> None:
    with tempfile.TemporaryDirectory() as folder, world(Path(folder) / "data", tls_dir) as (made, other):
        made.do({"op": "hourly"}, other)
        for thing in things:
            made.do(thing, other)
        made.hourly(other)
        made.sweep(other, {})
        assert made.known() == made.in_dynamics()
        (report,) = (each.reconciliation for each in made.lake.batches("opportunity")[-2:] if each.mode == "reconcile")
        assert report is not None
        assert report.checked == len(made.in_dynamics())

        alone = Settings(data=Path(folder) / "alone")
        extract_scheduled(other, OPPORTUNITY, Lake(DataRoot(alone.data).raw), alone, "alone")
        run = Run(run_id="test", started_at=DAY)
        releases = [(DataRoot(each.data), transform(each, run)) for each in (made.settings, alone)]
        disturbed, undisturbed = (content(root, release) for root, release in releases)
        assert disturbed == undisturbed
