from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from shutil import rmtree
from uuid import UUID

import pytest

from emulator.server import Emulator
from opportunity_sync.dataverse.errors import DeltaLinkExpiredError
from opportunity_sync.errors import ConfigurationError, DataRootError
from opportunity_sync.lake import Lake
from opportunity_sync.tables import READ_ORDER
from tests.extraction import Extraction
from tests.stand_in import Connect

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="opportunity_sync")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# full ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", READ_ORDER)
def test_a_full_read_holds_every_row_of_the_table_once(extraction: Extraction, table: str) -> None:
    manifest = extraction.run("full", table)
    assert extraction.ids(manifest) == extraction.live_ids(table)
    assert manifest.rows == sum(file.rows for file in manifest.files) == len(extraction.live_ids(table))
    assert (manifest.mode, manifest.deletes, manifest.missing_columns) == ("full", 0, ())
    assert manifest.delta_link is not None
    assert manifest.delta_link.startswith("/api/data/v9.2/")
    assert manifest.read_until is None
    assert manifest.organization_id == extraction.organisation.organization_id.lower()
    assert manifest.started_at < manifest.finished_at
    assert extraction.lake.batches(table) == [manifest]
    assert extraction.leftovers(table) == set()


def test_values_arrive_with_their_types(extraction: Extraction) -> None:
    row_id = extraction.organisation.store.create(
        "opportunity",
        {
            "name": 'Ünï "quoted", comma\nand line',
            "_customerid_value": "00000000-0000-4000-8000-0000000c0001",
            "_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "contact",
            "estimatedvalue": Decimal("12345678901.2345"),
            "estimatedclosedate": "2026-09-30",
            "closeprobability": 55,
        },
    )
    row = next(row for row in extraction.rows(extraction.run("full")) if str(row["opportunityid"]) == row_id)
    assert row["name"] == 'Ünï "quoted", comma\nand line'
    assert row["customerid"] == UUID("00000000-0000-4000-8000-0000000c0001")
    assert row["customerid_type"] == "contact"
    assert row["estimatedvalue"] == Decimal("12345678901.2345")
    assert row["estimatedclosedate"].isoformat() == "2026-09-30"
    assert row["closeprobability"] == 55
    assert row["actualvalue"] is None
    assert row["versionnumber"] == extraction.organisation.store.version


def test_only_the_annotation_that_is_needed_is_asked_for(extraction: Extraction) -> None:
    for table in READ_ORDER:
        extraction.run("full", table)
    asked = {
        request.path.rpartition("/")[2]: request.headers["prefer"]
        for request in extraction.organisation.requests
        if "prefer" in request.headers
    }
    wanted = 'odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"'
    assert {table: wanted in prefer for table, prefer in asked.items()} == {
        "opportunities": True,
        "connections": True,
        "contacts": True,
        "accounts": False,
        "connectionroles": False,
    }


def test_an_empty_table_is_a_batch_without_files(extraction: Extraction) -> None:
    for row_id in extraction.live_ids("connectionrole"):
        extraction.organisation.store.delete("connectionrole", row_id)
    manifest = extraction.run("full", "connectionrole")
    assert (manifest.rows, manifest.files, bool(manifest.delta_link)) == (0, (), True)


# changes ------------------------------------------------------------------------------------------------------------


def test_changes_hold_creates_updates_and_deletes_since_the_last_link(extraction: Extraction) -> None:
    first = extraction.run("full")
    store = extraction.organisation.store
    updated, removed = sorted(extraction.live_ids())[:2]
    created = store.create("opportunity", {"name": "new"})
    store.update("opportunity", updated, {"name": "renamed"})
    store.delete("opportunity", removed)
    store.delete("opportunity", store.create("opportunity", {"name": "came and went"}))
    manifest = extraction.run("changes")
    assert extraction.ids(manifest) == {created, updated}
    assert removed in extraction.deleted(manifest)
    assert manifest.deletes == 2, "what came and went between two polls is reported as deleted too"
    assert manifest.previous_delta_link == first.delta_link
    assert manifest.delta_link not in (None, first.delta_link)
    assert (manifest.mode, manifest.rows) == ("changes", 2)


def test_many_changes_come_in_pages_and_none_is_lost(extraction: Extraction) -> None:
    extraction.run("full")
    for row_id in extraction.live_ids():
        extraction.organisation.store.update("opportunity", row_id, {"description": "touched"})
    manifest = extraction.run("changes")
    assert extraction.ids(manifest) == extraction.live_ids()
    assert manifest.pages > 1


def test_changes_made_while_a_full_read_is_paging_come_with_the_next_changes(extraction: Extraction) -> None:
    store, created = extraction.organisation.store, []
    pages = extraction.client.pages

    def pages_with_writes(*args: object, **options: object):  # type: ignore[no-untyped-def]
        for page in pages(*args, **options):  # type: ignore[arg-type]
            created.append(store.create("opportunity", {"name": f"while page {page.number}"}))
            yield page

    extraction.client.pages = pages_with_writes  # type: ignore[method-assign]
    extraction.run("full")
    extraction.client.pages = pages  # type: ignore[method-assign]
    assert set(created) <= extraction.ids(extraction.run("changes"))


def test_changes_without_any_link_are_refused(extraction: Extraction) -> None:
    with pytest.raises(DeltaLinkExpiredError, match="no delta link of table opportunity"):
        extraction.run("changes")


def test_changes_by_an_expired_link_are_refused_and_leave_nothing(extraction: Extraction) -> None:
    first = extraction.run("full")
    extraction.organisation.expire_change_tracking("opportunity")
    with pytest.raises(DeltaLinkExpiredError, match="0x80044352"):
        extraction.run("changes")
    assert extraction.lake.batches("opportunity") == [first]
    assert extraction.leftovers() == set()


# window -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aware", [True, False])
def test_a_window_holds_what_was_modified_from_its_start_until_before_its_end(
    extraction: Extraction, aware: bool
) -> None:
    start = datetime(2031, 3, 1, 10, tzinfo=UTC)
    end = start + timedelta(hours=1)
    expected = set()
    for moment, inside in [(start, True), (start - timedelta(seconds=1), False), (end, False)]:
        stamp = moment.isoformat().replace("+00:00", "Z")
        row_id = extraction.organisation.store.create("opportunity", {"name": stamp, "modifiedon": stamp})
        expected |= {row_id} if inside else set()
    times = (start, end) if aware else (start.replace(tzinfo=None), end.replace(tzinfo=None))
    manifest = extraction.run("window", start=times[0], end=times[1])
    assert extraction.ids(manifest) == expected
    assert (manifest.mode, manifest.window_start, manifest.window_end) == ("window", start, end)
    assert (manifest.delta_link, manifest.read_until) == (None, None)


def test_a_window_in_another_zone_is_the_same_moment(extraction: Extraction) -> None:
    start = datetime.fromisoformat("2031-03-01T12:00:00+02:00")
    row_id = extraction.organisation.store.create("opportunity", {"name": "x", "modifiedon": "2031-03-01T10:00:00Z"})
    manifest = extraction.run("window", start=start, end=start + timedelta(minutes=1))
    assert extraction.ids(manifest) == {row_id}


def test_a_window_does_not_disturb_the_chain_of_changes(extraction: Extraction) -> None:
    first = extraction.run("full")
    extraction.run("window", start=datetime(2020, 1, 1), end=datetime(2040, 1, 1))  # noqa: DTZ001  (naive is allowed)
    assert extraction.run("scheduled").previous_delta_link == first.delta_link


# scheduled ----------------------------------------------------------------------------------------------------------


def test_scheduled_runs_read_in_full_once_and_then_changes(extraction: Extraction) -> None:
    assert [extraction.run("scheduled").mode for _ in range(3)] == ["full", "changes", "changes"]
    first, second, third = extraction.lake.batches("opportunity")
    assert second.previous_delta_link == first.delta_link
    assert third.previous_delta_link == second.delta_link


def test_an_expired_link_means_a_full_read_that_is_logged_as_such(
    extraction: Extraction, caplog: pytest.LogCaptureFixture
) -> None:
    extraction.run("scheduled")
    extraction.organisation.expire_change_tracking()
    assert extraction.run("scheduled").mode == "full"
    assert any("0x80044352" in line and "reading table opportunity in full" in line for line in warnings_in(caplog))
    assert extraction.run("scheduled").mode == "changes"


def test_a_column_added_to_the_selection_means_one_full_read_of_that_table(
    extraction: Extraction, caplog: pytest.LogCaptureFixture
) -> None:
    extraction.run("scheduled")
    extraction.run("scheduled", "contact")
    manifest = extraction.run("scheduled", "opportunity", "description")
    assert manifest.mode == "full"
    assert "description" in extraction.rows(manifest)[0]
    assert any("opportunity; reading it in full" in line for line in warnings_in(caplog))
    assert extraction.run("scheduled", "opportunity", "description").mode == "changes"
    assert extraction.run("scheduled", "contact").mode == "changes"


def test_a_column_taken_out_of_the_selection_means_one_full_read(extraction: Extraction) -> None:
    extraction.run("scheduled", "opportunity", "description")
    manifest = extraction.run("scheduled")
    assert manifest.mode == "full"
    assert "description" not in extraction.rows(manifest)[0]
    assert extraction.run("scheduled").mode == "changes"


def test_a_column_whose_type_changed_means_one_full_read(extraction: Extraction) -> None:
    extraction.organisation.add_column("opportunity", "new_size", "Integer")
    extraction.run("scheduled", "opportunity", "new_size")
    extraction.organisation.drop_column("opportunity", "new_size")
    extraction.organisation.add_column("opportunity", "new_size", "String")
    assert extraction.run("scheduled", "opportunity", "new_size").mode == "full"


@pytest.mark.parametrize("column", ["salesstage", "new_size"])
def test_a_selected_column_gone_from_dynamics_is_missing_and_the_run_goes_on(
    extraction: Extraction, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    additional = () if column == "salesstage" else (column,)
    if additional:
        extraction.organisation.add_column("opportunity", column, "Integer")
    extraction.run("scheduled", "opportunity", *additional)
    extraction.organisation.drop_column("opportunity", column)
    manifest = extraction.run("scheduled", "opportunity", *additional)
    assert (manifest.mode, manifest.missing_columns) == ("full", (column,))
    assert column not in [each.name for each in manifest.columns]
    assert extraction.ids(manifest) == extraction.live_ids()
    assert any(f"Column {column} of table opportunity is gone" in line for line in warnings_in(caplog))
    again = extraction.run("scheduled", "opportunity", *additional)
    assert (again.mode, again.missing_columns) == ("changes", (column,))


def test_a_selected_column_that_never_existed_stops_before_anything_is_read(extraction: Extraction) -> None:
    with pytest.raises(ConfigurationError, match="no column new_nothing"):
        extraction.run("scheduled", "opportunity", "new_nothing")
    assert not [request for request in extraction.organisation.requests if "prefer" in request.headers]


@pytest.mark.parametrize(("removed", "mode"), [(0, "full"), (1, "changes"), (2, "changes")])
def test_after_a_batch_was_deleted_changes_are_read_anew_from_the_last_link_before_the_gap(
    extraction: Extraction, removed: int, mode: str
) -> None:
    created = set()
    for _ in range(3):
        extraction.run("scheduled")
        created.add(extraction.organisation.store.create("opportunity", {"name": "x"}))
    batches = extraction.lake.batches("opportunity")
    rmtree(extraction.lake.folder("opportunity", batches[removed].batch))
    manifest = extraction.run("scheduled")
    assert manifest.mode == mode
    if mode == "changes":
        assert manifest.previous_delta_link == batches[removed - 1].delta_link
    kept = [batch for batch in extraction.lake.batches("opportunity") if batch.batch != batches[removed].batch]
    assert created <= set().union(*(extraction.ids(batch) for batch in kept))


def test_a_restored_older_lake_continues_from_its_own_link(extraction: Extraction, tmp_path: Path) -> None:
    first = extraction.run("scheduled")
    created = extraction.organisation.store.create("opportunity", {"name": "x"})
    second = extraction.run("scheduled")
    rmtree(extraction.lake.folder("opportunity", second.batch))
    again = extraction.run("scheduled")
    assert again.previous_delta_link == first.delta_link
    assert extraction.ids(again) == {created}


def test_labels_that_changed_do_not_cost_a_full_read(extraction: Extraction) -> None:
    first = extraction.run("scheduled")
    folder = extraction.lake.folder("opportunity", first.batch)
    manifest = (folder / "manifest.json").read_text()
    assert '"Qualify"' in manifest
    (folder / "manifest.json").write_text(manifest.replace('"Qualify"', '"Qualifizieren"'))
    assert extraction.run("scheduled").mode == "changes"


# tables without change tracking -------------------------------------------------------------------------------------


def test_without_change_tracking_a_full_read_is_followed_by_overlapping_windows(
    extraction: Extraction, caplog: pytest.LogCaptureFixture
) -> None:
    extraction.organisation.set_change_tracking("opportunity", False)
    first = extraction.run("scheduled")
    assert (first.mode, first.delta_link, first.read_until) == ("full", None, first.started_at)
    assert extraction.ids(first) == extraction.live_ids()
    created = extraction.organisation.store.create("opportunity", {"name": "new"})
    second = extraction.run("scheduled")
    assert (second.mode, second.delta_link, second.read_until) == ("window", None, second.started_at)
    assert second.window_start == first.started_at - timedelta(minutes=extraction.settings.window_overlap_minutes)
    assert second.window_end is None
    assert created in extraction.ids(second)
    assert len([line for line in warnings_in(caplog) if "deletes are only found by the reconcile run" in line]) == 2


def test_an_overlap_window_finds_a_row_committed_late(extraction: Extraction) -> None:
    extraction.organisation.set_change_tracking("opportunity", False)
    first = extraction.run("scheduled")
    late = (first.started_at - timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    row_id = extraction.organisation.store.create("opportunity", {"name": "late", "modifiedon": late})
    assert row_id in extraction.ids(extraction.run("scheduled"))


def test_without_change_tracking_an_added_column_means_a_full_read(extraction: Extraction) -> None:
    extraction.organisation.set_change_tracking("opportunity", False)
    extraction.run("scheduled")
    assert extraction.run("scheduled", "opportunity", "description").mode == "full"
    assert extraction.run("scheduled", "opportunity", "description").mode == "window"


def test_change_tracking_turned_on_later_is_used(extraction: Extraction) -> None:
    extraction.organisation.set_change_tracking("opportunity", False)
    extraction.run("scheduled")
    extraction.organisation.set_change_tracking("opportunity", True)
    assert [extraction.run("scheduled").mode for _ in range(2)] == ["full", "changes"]


def test_change_tracking_turned_off_later_starts_with_a_full_read(extraction: Extraction) -> None:
    extraction.run("scheduled")
    extraction.organisation.set_change_tracking("opportunity", False)
    assert [extraction.run("scheduled").mode for _ in range(2)] == ["full", "window"]


# organisation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "scheduled"])
def test_a_data_root_of_another_organisation_is_refused(
    extraction: Extraction, start_organisation: Callable[..., Emulator], connect: Connect, mode: str
) -> None:
    first = extraction.run("full")
    other = replace(extraction, client=connect(start_organisation()))
    with pytest.raises(DataRootError, match="holds organisation") as caught:
        other.run(mode)
    assert first.organization_id in str(caught.value)
    assert extraction.lake.batches("opportunity") == [first]


# logs ---------------------------------------------------------------------------------------------------------------


def test_each_extraction_logs_its_start_and_its_counts_at_the_end(
    extraction: Extraction, caplog: pytest.LogCaptureFixture
) -> None:
    extraction.run("full")
    lines = [record.getMessage() for record in caplog.records if record.name == "opportunity_sync.extract"]
    assert lines[0] == "Extracting table opportunity, mode full"
    assert lines[1].startswith("Extracted table opportunity, mode full: 40 rows, 0 deletes, 4 pages in ")
    assert len(lines) == 2


def test_manifests_hold_neither_host_nor_token(extraction: Extraction) -> None:
    extraction.run("full")
    manifest = extraction.run("changes")
    content = (extraction.lake.folder("opportunity", manifest.batch) / "manifest.json").read_text()
    for hidden in ("localhost", "Bearer", extraction.organisation.client_secret):
        assert hidden not in content


def test_the_lake_is_made_where_it_was_asked_for(extraction: Extraction, tmp_path: Path) -> None:
    deep = replace(extraction, lake=Lake(tmp_path / "a b" / "[c]" / "raw"))
    assert deep.ids(deep.run("full", "account")) == deep.live_ids("account")
