"""Reconciliation finds and repairs what drifted, and is never fooled by what happens at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest

from emulator.server import Emulator
from opportunity_sync.data_root import DataRoot
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient, Page
from opportunity_sync.dataverse.errors import OrganizationReadMissingError, ProtocolError
from opportunity_sync.errors import DriftError, TooManyGoneError
from opportunity_sync.extract import extract_scheduled
from opportunity_sync.lake import Lake, Manifest, Reconciliation
from opportunity_sync.reconcile import FEW_GONE, IDS_PER_REQUEST, check_drift, reconcile
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import transform
from opportunity_sync.warehouse.known import write_known_rows
from tests.extraction import Extraction, selection
from tests.pipeline import DAY
from tests.stand_in import Connect, credentials_of
from tests.warehouse.releases import make_live, rows

pytestmark = pytest.mark.slow

UNREPORTED = {"reported": False}


class Disturbed(DataverseClient):
    """A client beside which something happens: `before(n)` is called before the n-th page is asked for, from 1.

    With `in_flight` the request counts as sent before that: as if the service took its time to look at it.
    """

    before: Callable[[int], None]
    in_flight = False
    asked = 0

    def pages(self, path: str, **options: Any) -> Iterator[Page]:
        pages = super().pages(path, **options)
        is_last = False
        while not is_last:
            self.asked += 1
            sent = datetime.now(UTC)
            self.before(self.asked)
            page = next(pages)
            is_last = page.next_link is None
            yield replace(page, requested_at=sent) if self.in_flight else page


@pytest.fixture
def sweep(extraction: Extraction) -> Callable[..., Manifest]:
    """Reconcile a table, by the extraction's client or another one."""

    def run(table: str = "opportunity", client: DataverseClient | None = None, **options: Any) -> Manifest:
        chosen = options.pop("settings", extraction.settings)
        return reconcile(client or extraction.client, selection(table), chosen, "run-1", **options)

    return run


@pytest.fixture
def disturb(organisation: Emulator) -> Iterator[Callable[..., Disturbed]]:
    """A client that lets something happen before a page."""
    clients = []

    def open_client(before: Callable[[int], None], *, in_flight: bool = False) -> Disturbed:
        auth = DataverseAuth(credentials_of(organisation))
        client = Disturbed(organisation.url, auth, ca_bundle=organisation.ca_bundle, timeout_seconds=10)
        client.before, client.in_flight = before, in_flight
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


def found(manifest: Manifest) -> dict[str, int]:
    """The counts of a report."""
    report = manifest.reconciliation
    assert report is not None
    names = ("checked", "missing", "gone", "stale", "repaired")
    return {name: getattr(report, name) for name in names}


def known(extraction: Extraction, table: str = "opportunity") -> dict[str, int]:
    """What counts as alive here: key to version."""
    path = extraction.settings.data / "known.parquet"
    write_known_rows(extraction.settings, table, path)
    with duckdb.connect() as connection:
        return dict(connection.execute(f"select id::varchar, version from '{path}'").fetchall())


def in_dynamics(extraction: Extraction, table: str = "opportunity") -> dict[str, int]:
    """What the stand-in has: key to version."""
    return {row[f"{table}id"].lower(): row["versionnumber"] for row in extraction.organisation.store.rows(table)}


def ids(extraction: Extraction, table: str = "opportunity") -> list[str]:
    return list(in_dynamics(extraction, table))


def new_row(extraction: Extraction) -> dict[str, Any]:
    """A create of an opportunity."""
    account = extraction.organisation.store.rows("account")[0]["accountid"]
    customer = {"customerid_account@odata.bind": f"/accounts({account})"}
    return {"op": "create", "table": "opportunity", "id": str(uuid4()), "values": {"name": "new", **customer}}


def change(row_id: str, name: str = "changed") -> dict[str, Any]:
    return {"op": "update", "table": "opportunity", "id": row_id, "values": {"name": name}}


def removal(row_id: str) -> dict[str, Any]:
    return {"op": "delete", "table": "opportunity", "id": row_id}


def test_lost_deletes_lost_changes_and_rows_missing_here_are_repaired_and_counted(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    extraction.run("scheduled")
    present = ids(extraction)
    lost = [removal(present[0]), removal(present[1]), change(present[2]), change(present[3]), change(present[4])]
    extraction.organisation.store.apply([operation | UNREPORTED for operation in (*lost, new_row(extraction))])
    batch = sweep()
    assert found(batch) == {"checked": 39, "missing": 1, "gone": 2, "stale": 3, "repaired": 6}
    assert extraction.deleted(batch) == set(present[:2])
    assert len(extraction.rows(batch)) == 4
    assert known(extraction) == in_dynamics(extraction)
    assert found(sweep()) == {"checked": 39, "missing": 0, "gone": 0, "stale": 0, "repaired": 0}


def test_what_change_tracking_reports_is_no_drift(extraction: Extraction, sweep: Callable[..., Manifest]) -> None:
    extraction.run("scheduled")
    present = ids(extraction)
    extraction.organisation.store.apply([removal(present[0]), change(present[1]), new_row(extraction)])
    assert found(sweep()) == {"checked": 40, "missing": 0, "gone": 0, "stale": 0, "repaired": 0}
    assert known(extraction) == in_dynamics(extraction)


def test_rows_fetched_by_key_have_all_columns(extraction: Extraction, sweep: Callable[..., Manifest]) -> None:
    extraction.run("scheduled")
    (chosen, *_) = (row for row in extraction.organisation.store.rows("opportunity") if row["_ownerid_value"])
    extraction.organisation.store.apply([change(chosen["opportunityid"], "seen again") | UNREPORTED])
    (row,) = extraction.rows(batch := sweep())
    assert batch.columns == extraction.run("full").columns
    assert (row["name"], str(row["customerid"]), row["customerid_type"]) == (
        "seen again",
        chosen["_customerid_value"].lower(),
        chosen["_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"],
    )
    assert row["ownerid_type"] == "systemuser"
    assert batch.entity_set == "opportunities"


def test_a_batch_is_written_also_when_nothing_was_found_and_an_empty_table_is_no_error(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    for row_id in ids(extraction, "connectionrole"):
        extraction.organisation.store.delete("connectionrole", row_id)
    batch = sweep("connectionrole")
    assert (batch.mode, batch.rows, batch.deletes, batch.files) == ("reconcile", 0, 0, ())
    assert found(batch) == dict.fromkeys(found(batch), 0)
    assert extraction.lake.batches("connectionrole")[0] == batch


def test_more_rows_than_one_request_may_ask_for_are_asked_in_several(
    start_organisation: Callable[..., Emulator], connect: Connect, tmp_path: Path
) -> None:
    organisation = start_organisation()
    settings = Settings(data=tmp_path)
    extraction = Extraction(organisation, connect(organisation), Lake(tmp_path / "raw"), settings)
    extraction.run("scheduled")
    rows = 2 * IDS_PER_REQUEST + 1
    organisation.store.apply([new_row(extraction) | UNREPORTED for _ in range(rows)])
    organisation.clear_requests()
    batch = reconcile(extraction.client, selection("opportunity"), settings, "run-1")
    assert found(batch)["missing"] == batch.rows == rows
    asked = [
        request for request in organisation.requests if "filter" in request.query and "opportunities" in request.path
    ]
    assert len(asked) == 3
    assert max(len(request.query) for request in asked) < 16_000
    assert known(extraction) == in_dynamics(extraction)


def test_the_hourly_chain_of_delta_links_and_freshness_go_on_as_if_nothing_had_been(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    extraction.run("scheduled")
    batch = sweep()
    assert (batch.delta_link, batch.previous_delta_link, batch.read_until) == (None, None, None)
    *_, changes = (each for each in extraction.lake.batches("opportunity") if each.mode == "changes")
    following = extraction.run("scheduled")
    assert (following.mode, following.previous_delta_link) == ("changes", changes.delta_link)


def test_a_table_without_change_tracking_loses_deletes_and_backdated_rows_no_more(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    extraction.organisation.set_change_tracking("opportunity", False)
    extraction.run("scheduled")
    present = ids(extraction)
    backdated = {"modifiedon": "2020-01-01T00:00:00Z", "name": "backdated"}
    extraction.organisation.store.apply([removal(present[0]), change(present[1]) | {"values": backdated}])
    assert found(sweep()) == {"checked": 39, "missing": 0, "gone": 1, "stale": 1, "repaired": 2}
    assert known(extraction) == in_dynamics(extraction)


def test_a_row_missing_from_the_listing_is_asked_for_and_stays(
    extraction: Extraction, disturb: Callable[..., Disturbed], sweep: Callable[..., Manifest]
) -> None:
    extraction.run("scheduled")

    class Forgetful(Disturbed):
        def pages(self, path: str, **options: Any) -> Iterator[Page]:
            for page in super().pages(path, **options):
                listing = page.number == 2 and path.endswith("versionnumber") and "filter" not in path
                yield replace(page, rows=type(page.rows)(b"[]")) if listing else page

    client = disturb(lambda page: None)
    client.__class__ = Forgetful
    batch = sweep(client=client)
    assert found(batch) == {"checked": 30, "missing": 0, "gone": 0, "stale": 0, "repaired": 0}
    assert batch.deletes == 0
    assert known(extraction) == in_dynamics(extraction)


@pytest.mark.parametrize("page", range(1, 8))
def test_what_is_written_beside_a_sweep_is_neither_lost_nor_taken_for_drift(
    extraction: Extraction, disturb: Callable[..., Disturbed], sweep: Callable[..., Manifest], page: int
) -> None:
    """Pages 1 to 4 are the listing, page 5 is what change tracking reports, 6 and 7 are the answers."""
    extraction.run("scheduled")
    first, *present = ids(extraction)
    lost = [change(row_id) for row_id in present[:12]]
    extraction.organisation.store.apply([operation | UNREPORTED for operation in (*lost, removal(first))])

    def write(number: int) -> None:
        if number == page:
            restored = new_row(extraction) | {"id": first}
            written = [removal(present[-1]), change(present[-2]), change(present[3]), new_row(extraction), restored]
            extraction.organisation.store.apply(written)

    client = disturb(write)
    report = found(sweep(client=client))
    assert client.asked == 7
    assert report["missing"] == 0
    # Written again up to page 5, a row is no longer drift; restored at page 6, the first row is another version.
    assert report["stale"] == {6: 13, 7: 12}.get(page, 11)
    assert report["gone"] == (1 if page == 7 else 0)
    before_the_next_hour = known(extraction).keys() - {first}
    assert before_the_next_hour >= in_dynamics(extraction).keys() & set(present)
    extraction.run("scheduled")
    assert known(extraction) == in_dynamics(extraction)


def test_a_row_restored_after_the_question_wins_over_the_delete_although_it_was_read_by_a_request_sent_before(
    extraction: Extraction, disturb: Callable[..., Disturbed], sweep: Callable[..., Manifest]
) -> None:
    """The hourly run's request is sent; a whole sweep passes; the row comes back; only now is the request answered."""
    extraction.run("scheduled")
    (chosen, *_) = ids(extraction)
    extraction.organisation.store.apply([removal(chosen) | UNREPORTED])

    def while_in_flight(number: int) -> None:
        if number == 1:
            assert found(sweep())["gone"] == 1
            extraction.organisation.store.apply([new_row(extraction) | {"id": chosen}])

    hourly = disturb(while_in_flight, in_flight=True)
    extract_scheduled(hourly, selection("opportunity"), extraction.lake, extraction.settings, "hourly")
    assert chosen in known(extraction)
    assert known(extraction) == in_dynamics(extraction)


def test_a_sweep_that_lost_a_page_fails_and_leaves_nothing(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    """The listing's fourth page comes without a link: it may or may not be the last one."""
    extraction.run("scheduled")
    before = extraction.lake.names("opportunity")
    extraction.organisation.set_faults([{"action": "drop_delta_link", "path": "/opportunities$", "nth": 4}])
    with pytest.raises(ProtocolError, match="neither a next nor a delta link"):
        sweep()
    assert extraction.lake.names("opportunity") == before
    assert extraction.leftovers() == set()


@pytest.mark.parametrize("page", [1, 3, 4, 5])
def test_a_sweep_that_fails_anywhere_leaves_nothing_and_can_be_repeated(
    extraction: Extraction, disturb: Callable[..., Disturbed], sweep: Callable[..., Manifest], page: int
) -> None:
    extraction.run("scheduled")
    present = ids(extraction)
    extraction.organisation.store.apply([operation | UNREPORTED for operation in map(removal, present[:12])])

    def fail(number: int) -> None:
        if number == page:
            raise ConnectionError("the worker is gone")

    with pytest.raises(ConnectionError):
        sweep(client=disturb(fail))
    assert [batch for batch in extraction.lake.batches("opportunity") if batch.mode == "reconcile"] == []
    assert extraction.leftovers() == set()
    assert set(known(extraction)) == set(present)
    assert found(sweep())["gone"] == 12


def test_lost_rights_are_an_error_and_no_reason_to_delete(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    extraction.run("scheduled")
    extraction.organisation.set_privileges(read={"opportunity": "Basic"})
    with pytest.raises(OrganizationReadMissingError):
        sweep()


def test_more_rows_gone_than_is_believable_are_kept_until_a_person_says_so(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    extraction.run("scheduled")
    present = ids(extraction)
    extraction.organisation.store.apply([removal(each) | UNREPORTED for each in present[: FEW_GONE + 1]])
    with pytest.raises(TooManyGoneError, match=f"More than {FEW_GONE} rows of table opportunity"):
        sweep()
    assert set(known(extraction)) == set(present)
    assert extraction.leftovers() == set()
    allowed = extraction.settings.model_copy(update={"gone_share": 0.6})
    assert found(sweep(settings=allowed))["gone"] == FEW_GONE + 1


def test_accept_gone_takes_out_any_number(extraction: Extraction, sweep: Callable[..., Manifest]) -> None:
    extraction.run("scheduled")
    extraction.organisation.store.apply([removal(each) | UNREPORTED for each in ids(extraction)])
    assert found(sweep(accept_gone=True))["gone"] == 40
    assert known(extraction) == {}


def test_rows_that_the_filter_column_excludes_are_known(extraction: Extraction, sweep: Callable[..., Manifest]) -> None:
    extraction.organisation.store.update("opportunity", ids(extraction)[0], {"new_synctomkto": False})
    chosen = selection("opportunity", "new_synctomkto")
    for _ in range(2):
        batch = reconcile(extraction.client, chosen, extraction.settings, "run-1")
        assert found(batch) == {"checked": 40, "missing": 0, "gone": 0, "stale": 0, "repaired": 0}


def test_a_release_keeps_the_newest_report_of_each_table(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    root, run = DataRoot(extraction.settings.data), Run(run_id="test", started_at=DAY)
    columns = "table_name, checked, missing, gone, stale, repaired, batch"
    sweep()
    account = sweep("account")
    first = transform(extraction.settings, run)
    assert first.rows["reconciliations"] == 2
    make_live(root, first)
    extraction.organisation.store.apply([change(each) | UNREPORTED for each in ids(extraction)[:3]])
    newest = sweep()
    second = transform(extraction.settings, run)
    assert second.built == "incremental"
    assert rows(root, second, "reconciliations", columns) == [
        ("account", 16, 0, 0, 0, 0, account.batch),
        ("opportunity", 40, 0, 0, 3, 3, newest.batch),
    ]
    assert newest.reconciliation is not None
    swept_at = newest.reconciliation.swept_at.replace(tzinfo=None)
    assert (swept_at,) in rows(root, second, "reconciliations", "swept_at")
    make_live(root, second)
    root.warehouse.unlink()
    assert rows(root, transform(extraction.settings, run), "reconciliations") == rows(root, second, "reconciliations")


def test_a_sweep_does_not_make_a_table_look_fresher_than_its_changes(
    extraction: Extraction, sweep: Callable[..., Manifest]
) -> None:
    sweep()
    release = transform(extraction.settings, Run(run_id="test", started_at=DAY))
    (read,) = (batch for batch in extraction.lake.batches("opportunity") if batch.mode == "full")
    as_of = rows(DataRoot(extraction.settings.data), release, "release_tables", "table_name, as_of")
    assert ("opportunity", read.started_at.replace(tzinfo=None)) in as_of


def report(**counts: int) -> Reconciliation:
    zero = dict.fromkeys(("checked", "missing", "gone", "stale", "repaired"), 0)
    return Reconciliation(swept_at=datetime(2026, 11, 22, tzinfo=UTC), **(zero | counts))


def test_drift_is_told_past_the_threshold_with_the_counts_of_each_table() -> None:
    quiet = {"contact": report(checked=1000, missing=4, gone=3, stale=3, repaired=10)}
    check_drift(quiet, 0.01)
    loud = quiet | {"account": report(checked=99, stale=1, repaired=1), "connection": report(gone=1, repaired=1)}
    with pytest.raises(DriftError) as raised:
        check_drift(loud, 0.01)
    assert "account: 0 missing, 0 gone and 1 stale of 99 rows; connection: 0 missing, 1 gone" in raised.value.what
    assert "contact" not in raised.value.what
    assert "repaired, and published" in raised.value.state
    assert not raised.value.transient


def reconcile_once(data: Path, credentials: Credentials) -> None:
    """One sweep, in a process that a test may kill."""
    settings = Settings(data=data, page_size=10)
    with DataverseClient(
        credentials.organization_url, DataverseAuth(credentials), ca_bundle=credentials.ca_bundle
    ) as client:
        reconcile(client, selection("opportunity"), settings, "killed")


@pytest.mark.parametrize("matching", [1, 3, 4, 5])
def test_a_sweep_killed_anywhere_changes_nothing_and_the_next_one_repairs(
    extraction: Extraction, sweep: Callable[..., Manifest], matching: int
) -> None:
    """kill -9 while the service takes its time over one of the sweep's requests."""
    extraction.run("scheduled")
    present = ids(extraction)
    extraction.organisation.store.apply([removal(each) | UNREPORTED for each in present[:12]])
    slow = {"action": "slow", "seconds": 30, "path": "/opportunities$", "nth": matching}
    extraction.organisation.set_faults([slow])
    extraction.organisation.clear_requests()
    process = multiprocessing.get_context("forkserver").Process(
        target=reconcile_once, args=(extraction.settings.data, credentials_of(extraction.organisation))
    )
    process.start()
    rule = extraction.organisation.server.faults.rules[0]
    while not rule.fired and process.is_alive():
        process.join(timeout=0.02)
    assert process.is_alive()
    process.kill()
    process.join()
    extraction.organisation.set_faults([])
    assert [batch for batch in extraction.lake.batches("opportunity") if batch.mode == "reconcile"] == []
    assert set(known(extraction)) == set(present)
    assert found(sweep())["gone"] == 12
    assert extraction.leftovers() == set()
    assert known(extraction) == in_dynamics(extraction)
