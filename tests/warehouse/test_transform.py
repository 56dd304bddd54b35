"""The transform stage: raw batches to a candidate release."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Lake
from opportunity_sync.release import PUBLISHED_MACROS, PUBLISHED_TABLES, PUBLISHED_VIEWS, Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import transform
from tests.lakes import START, identity, write_batch
from tests.warehouse.releases import make_live, rows

pytestmark = pytest.mark.slow

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(DataRoot(settings.data).raw)


def small_organisation(lake: Lake) -> None:
    write_batch(lake, "account", [{"accountid": "a1", "name": "Adatum"}])
    write_batch(
        lake,
        "contact",
        [{"contactid": "c1", "fullname": "Ana", "parentcustomerid": "a1", "parentcustomerid_type": "account"}],
    )
    write_batch(
        lake,
        "opportunity",
        [
            {"opportunityid": "o1", "name": "One", "customerid": "c1", "customerid_type": "contact", "statecode": 0},
            {"opportunityid": "o2", "name": "Two", "customerid": "a1", "customerid_type": "account", "statecode": 1},
        ],
    )
    write_batch(lake, "connectionrole", [{"connectionroleid": "r1", "name": "Champion", "category": 1000}])
    write_batch(
        lake,
        "connection",
        [
            {
                "connectionid": "k1",
                "record1id": "o2",
                "record1id_type": "opportunity",
                "record2id": "c1",
                "record2id_type": "contact",
                "record2roleid": "r1",
                "createdon": START,
            }
        ],
    )


def test_an_empty_lake_gives_an_empty_release(settings: Settings) -> None:
    release = transform(settings, RUN)
    assert release.built == "full"
    assert release.rows == dict.fromkeys(release.rows, 0) | {"release": 1, "release_tables": 5}


def test_a_small_organisation_gives_accounts_and_roles(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    release = transform(settings, RUN)
    assert rows(DataRoot(settings.data), release, "opportunities", "name, account_name, account_rule, state") == [
        ("One", "Adatum", "account_of_customer_contact", "Open"),
        ("Two", "Adatum", "customer_is_account", "Won"),
    ]
    assert rows(
        DataRoot(settings.data), release, "opportunity_contact_roles", "opportunity_id, role, is_primary"
    ) == sorted([(identity("o1"), "Potential Customer", True), (identity("o2"), "Champion", False)], key=repr)


def test_every_published_table_and_column_carries_a_comment(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    release = transform(settings, RUN)
    folder = DataRoot(settings.data).candidates / release.release_id
    with duckdb.connect(str(folder / "opportunities.duckdb"), read_only=True) as connection:
        found = connection.execute("select schema_name, table_name, comment from duckdb_tables()").fetchall()
        views = connection.execute("select view_name, comment from duckdb_views() where not internal").fetchall()
        macros = connection.execute(
            "select function_name, comment from duckdb_functions() where not internal"
        ).fetchall()
        columns = connection.execute(
            "select table_name, column_name, comment from duckdb_columns() where not internal"
        ).fetchall()
    assert {table for schema, table, _ in found if schema == "main"} == set(PUBLISHED_TABLES)
    assert {view for view, _ in views} == set(PUBLISHED_VIEWS)
    assert {macro for macro, _ in macros} == set(PUBLISHED_MACROS)
    assert [row for row in [*found, *views, *macros] if not row[-1]] == []
    assert [(table, column) for table, column, comment in columns if not comment] == []


def test_a_deleted_warehouse_is_rebuilt_to_the_same_content(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    write_batch(
        lake,
        "opportunity",
        [{"opportunityid": "o1", "name": "One!", "customerid": "a1", "customerid_type": "account", "versionnumber": 2}],
        mode="changes",
        deletes=["o2"],
        at=START + timedelta(hours=1),
    )
    first = transform(settings, RUN)
    shutil.rmtree(DataRoot(settings.data).warehouse.parent)
    second = transform(settings, RUN)
    for table in ("opportunities", "opportunity_contact_roles", "contacts", "accounts", "unresolved_references"):
        assert rows(DataRoot(settings.data), first, table) == rows(DataRoot(settings.data), second, table)


def test_a_changes_batch_after_a_release_is_built_incrementally_to_the_same_content(
    settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    make_live(DataRoot(settings.data), transform(settings, RUN))
    later = START + timedelta(hours=1)
    write_batch(
        lake,
        "account",
        [{"accountid": "a1", "name": "Adatum Corp", "versionnumber": 9}],
        mode="changes",
        at=later,
    )
    write_batch(lake, "connection", mode="changes", deletes=["k1"], at=later)
    incremental = transform(settings, RUN)
    assert incremental.built == "incremental"
    assert rows(DataRoot(settings.data), incremental, "opportunities", "account_name") == [
        ("Adatum Corp",),
        ("Adatum Corp",),
    ]
    assert rows(DataRoot(settings.data), incremental, "opportunity_contact_roles", "role") == [("Potential Customer",)]


def test_a_batch_is_applied_once(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    first = transform(settings, RUN)
    second = transform(settings, RUN)
    assert (first.sequence, second.sequence) == (5, 5)


def test_a_damaged_batch_is_refused_and_the_others_stay(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    manifest = lake.batches("contact")[0]
    path = lake.folder("contact", manifest.batch) / manifest.files[0].name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(LakeError, match="differs from its manifest"):
        transform(settings, RUN)
    assert not DataRoot(settings.data).candidates.exists()


def test_an_unusable_warehouse_file_is_rebuilt(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    first = transform(settings, RUN)
    DataRoot(settings.data).warehouse.write_bytes(b"rubbish" * 1000)
    second = transform(settings, RUN)
    assert second.rows == first.rows
    assert second.warehouse_id != first.warehouse_id


def test_the_release_is_derived_anew_when_the_week_changes(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    make_live(DataRoot(settings.data), transform(settings, RUN))
    assert transform(settings, RUN).built == "incremental"
    next_week = Run(run_id="test", started_at=RUN.started_at + timedelta(days=7))
    assert transform(settings, next_week).built == "full"


def test_what_a_killed_build_left_behind_is_removed(settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    candidates = DataRoot(settings.data).candidates
    (candidates / "20260101T000000000000Z").mkdir(parents=True)
    (candidates / "20260101T000000000000Z" / "opportunities.duckdb").write_bytes(b"half")
    release = transform(settings, RUN)
    assert [path.name for path in candidates.iterdir()] == [release.release_id]
