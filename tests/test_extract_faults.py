from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.dataverse.errors import (
    AuthenticationError,
    DataverseError,
    MissingPrivilegeError,
    NotAMemberError,
    OrganizationReadMissingError,
    ProtocolError,
)
from opportunity_sync.errors import BatchRefusedError, DataRootError, OpportunitySyncError
from opportunity_sync.extract import extract_scheduled
from opportunity_sync.lake import Lake
from opportunity_sync.settings import Settings
from tests.extraction import Extraction, selection
from tests.stand_in import Connect, credentials_of

pytestmark = pytest.mark.slow

PASSING = [
    {"action": "throttle", "code": "requests", "retry_after": 1},
    {"action": "throttle", "code": "time", "retry_after": 1},
    {"action": "throttle", "code": "concurrency", "retry_after": 1},
    {"action": "status", "status": 500},
    {"action": "status", "status": 502},
    {"action": "status", "status": 503},
    {"action": "reset"},
    {"action": "truncate"},
    {"action": "html"},
    {"action": "rubbish"},
    {"action": "slow", "seconds": 0.2},
    {"action": "unauthorized"},
]


def fault_name(fault: dict[str, object]) -> str:
    return "-".join(str(value) for value in fault.values())


@pytest.mark.parametrize("fault", PASSING, ids=fault_name)
def test_a_passing_fault_neither_loses_nor_duplicates_a_row(extraction: Extraction, fault: dict[str, object]) -> None:
    extraction.organisation.set_faults([{**fault, "every": 3}])
    full = extraction.run("full")
    assert extraction.ids(full) == extraction.live_ids()
    created = extraction.organisation.store.create("opportunity", {"name": "new"})
    removed = min(extraction.live_ids())
    extraction.organisation.store.delete("opportunity", removed)
    changes = extraction.run("changes")
    assert extraction.ids(changes) == {created}
    assert extraction.deleted(changes) == {removed}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        *((fault, DataverseError) for fault in PASSING if fault["action"] != "slow"),
        ({"action": "drop_delta_link"}, ProtocolError),
        ({"action": "wrong_type", "column": "closeprobability"}, BatchRefusedError),
        ({"action": "row_without_key"}, BatchRefusedError),
    ],
    ids=str,
)
def test_a_fault_that_stays_leaves_nothing_and_the_next_run_repairs(
    extraction: Extraction, connect: Connect, fault: dict[str, object], error: type[OpportunitySyncError]
) -> None:
    first = extraction.run("scheduled")
    created = extraction.organisation.store.create("opportunity", {"name": "new"})
    extraction.client = connect(extraction.organisation, retry_budget_seconds=5)
    extraction.organisation.set_faults([{**fault, "table": "opportunity"}])
    with pytest.raises(error):
        extraction.run("scheduled")
    assert extraction.lake.batches("opportunity") == [first]
    assert extraction.leftovers() == set()
    extraction.organisation.set_faults([])
    assert extraction.ids(extraction.run("scheduled")) == {created}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("statecode", 1.5),
        ("closeprobability", True),
        ("estimatedvalue", "a lot"),
        ("estimatedclosedate", "2026-09-30T10:00:00Z"),
        ("createdon", "yesterday"),
        ("_customerid_value", "Jane Doe"),
        ("versionnumber", None),
        ("name", {"unexpected": ["Jane Doe"]}),
    ],
)
def test_a_value_that_does_not_fit_refuses_the_batch_with_table_column_page_and_row_key(
    extraction: Extraction, column: str, value: object
) -> None:
    extraction.organisation.set_faults(
        [{"action": "wrong_type", "column": column, "value": value, "table": "opportunity", "nth": 3}]
    )
    with pytest.raises(BatchRefusedError) as caught:
        extraction.run("full")
    message = str(caught.value)
    assert "Table opportunity, page 3, row 00000000-0000-4000-8000-0000000d00" in message
    assert f"column {column.removeprefix('_').removesuffix('_value')} (" in message
    assert "Jane" not in message
    assert extraction.lake.batches("opportunity") == []
    assert extraction.leftovers() == set()


def test_a_row_without_its_key_refuses_the_batch_with_its_place(extraction: Extraction) -> None:
    extraction.organisation.set_faults([{"action": "row_without_key", "table": "opportunity", "nth": 2}])
    with pytest.raises(BatchRefusedError, match=r"page 2, row number \d+: column opportunityid .* is missing"):
        extraction.run("full")
    assert extraction.leftovers() == set()


@pytest.mark.parametrize(
    ("privileges", "error", "words"),
    [
        ({"member": False}, NotAMemberError, "not a member of the organisation"),
        ({"read": {"opportunity": "None"}}, MissingPrivilegeError, "lacks prvReadOpportunity"),
        ({"read": {"opportunity": "Basic"}}, OrganizationReadMissingError, "prvReadOpportunity at organisation level"),
    ],
)
def test_a_missing_right_fails_at_once_and_says_which(
    extraction: Extraction, connect: Connect, privileges: dict[str, Any], error: type[DataverseError], words: str
) -> None:
    waits: list[float] = []
    extraction.client = connect(extraction.organisation, sleep=waits.append)
    extraction.organisation.set_privileges(**privileges)
    with pytest.raises(error, match=words) as caught:
        extraction.run("scheduled")
    assert not caught.value.transient
    assert waits == []
    assert extraction.leftovers() == set()


def test_one_table_without_rights_does_not_touch_the_others(extraction: Extraction) -> None:
    extraction.organisation.set_privileges(read={"contact": "None"})
    with pytest.raises(MissingPrivilegeError):
        extraction.run("scheduled", "contact")
    assert extraction.run("scheduled", "account").rows == len(extraction.live_ids("account"))


def test_a_token_that_expires_and_is_revoked_during_a_run_is_renewed(
    start_organisation: Callable[..., Emulator], connect: Connect, tmp_path: Path
) -> None:
    organisation = start_organisation(page_size=2, token_lifetime=1, latency_ms=100)
    organisation.set_faults([{"action": "unauthorized", "every": 7, "path": "opportunities"}])
    client = connect(organisation, timeout_seconds=10)
    extraction = Extraction(organisation, client, Lake(tmp_path / "raw"), Settings(data=tmp_path))
    manifest = extraction.run("full")
    assert manifest.pages == 20
    assert extraction.ids(manifest) == extraction.live_ids()


def test_no_secret_link_or_person_shows_in_logs_or_errors(
    extraction: Extraction, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="opportunity_sync")
    organisation = extraction.organisation
    shown = []
    for fault in [*PASSING, {"action": "wrong_type", "column": "fullname"}, {"action": "drop_delta_link"}]:
        organisation.set_faults([{**fault, "table": "contact"}])
        extraction.client = connect(organisation, retry_budget_seconds=2)
        try:
            extraction.run("scheduled", "contact")
        except OpportunitySyncError as error:
            shown.append(str(error))
    extraction.client = connect(organisation, credentials_of(organisation, secret="another-secret"))
    with pytest.raises(AuthenticationError) as caught:
        extraction.run("scheduled", "contact")
    ours = "\n".join([*shown, str(caught.value), caplog.text])
    assert len(shown) >= len(PASSING)
    rows = organisation.store.rows("contact")
    people = {row[name] for row in rows for name in ("fullname", "emailaddress1") if row.get(name)}
    assert len(people) > 20
    for hidden in {organisation.client_secret, "another-secret", "deltatoken", "skiptoken", "Bearer", *people}:
        assert hidden not in ours


def _extract_slowly(credentials: Credentials, path: str, seconds_per_page: float) -> None:
    client = DataverseClient(credentials.organization_url, DataverseAuth(credentials), ca_bundle=credentials.ca_bundle)
    with client:
        pages = client.pages

        def slow_pages(*args: Any, **options: Any) -> Any:
            for page in pages(*args, **options):
                yield page
                time.sleep(seconds_per_page)

        client.pages = slow_pages  # type: ignore[method-assign]
        extract_scheduled(client, selection("opportunity"), Lake(Path(path)), Settings(page_size=10), "killed")


@pytest.mark.slow
def test_a_run_killed_in_the_middle_leaves_nothing_visible_and_the_next_one_repairs(extraction: Extraction) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (credentials_of(extraction.organisation), str(extraction.lake.path), 5.0)
    process = context.Process(target=_extract_slowly, args=arguments)
    process.start()
    deadline = time.monotonic() + 60
    while not list(extraction.lake.path.glob("opportunity/.*/page-*.json")):
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert extraction.lake.batches("opportunity") == []
    assert extraction.leftovers() != set()
    assert extraction.ids(extraction.run("scheduled")) == extraction.live_ids()
    assert extraction.leftovers() == set(), "the next run cleans up"


@pytest.mark.slow
def test_two_runs_at_once_both_succeed(extraction: Extraction) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (credentials_of(extraction.organisation), str(extraction.lake.path), 0.3)
    processes = [context.Process(target=_extract_slowly, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    batches = extraction.lake.batches("opportunity")
    assert [batch.mode for batch in batches] == ["full", "full"]
    assert all(extraction.ids(batch) == extraction.live_ids() for batch in batches)
    assert extraction.run("scheduled").mode == "changes"


def _extract_with_small_files(credentials: Credentials, path: str, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    client = DataverseClient(credentials.organization_url, DataverseAuth(credentials), ca_bundle=credentials.ca_bundle)
    with client, pytest.raises(DataRootError, match=r"raw.* cannot be written: File too large") as caught:
        extract_scheduled(client, selection("connectionrole"), Lake(Path(path)), Settings(page_size=1), "full disk")
    assert not caught.value.transient


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "where"), [(100, "a page"), (1000, "Parquet"), (2600, "the manifest")])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(extraction: Extraction, limit: int, where: str) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (credentials_of(extraction.organisation), str(extraction.lake.path), limit)
    process = context.Process(target=_extract_with_small_files, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert extraction.lake.batches("connectionrole") == []
    assert extraction.leftovers("connectionrole") == set()
    assert extraction.ids(extraction.run("scheduled", "connectionrole")) == extraction.live_ids("connectionrole")
