"""What happens to a running sync when tables and columns change, in Dynamics or in `include/tables.yaml`.

Each change of the table "When a table changes" in `docs/runbook.md`, made to the stand-in while the sync is in use,
then carried through extraction, transform, validation and publication.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ruamel.yaml import YAML

from emulator.server import Emulator
from opportunity_sync import validate as validation
from opportunity_sync.data_root import open_data_root
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.extract import extract_full, extract_scheduled, extract_window
from opportunity_sync.lake import Lake
from opportunity_sync.publish import publish
from opportunity_sync.release import DATABASE, Release, Run
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.tables import READ_ORDER, load_tables
from opportunity_sync.warehouse import transform
from tests.pipeline import DAY
from tests.stand_in import Connect

pytestmark = pytest.mark.slow

MAIN_TABLES = ("opportunities", "opportunity_contact_roles", "contacts", "accounts", "unresolved_references")
UNCHANGED = dict.fromkeys(READ_ORDER, "changes")


@dataclass
class Sync:
    """A stand-in, and a data root that follows it."""

    organisation: Emulator
    client: DataverseClient
    settings: Settings

    def run(self) -> dict[str, str]:
        """Extract, transform, validate and publish as an hourly run does; returns how each table was read."""
        lake = Lake(open_data_root(self.settings.data).raw)
        modes = {
            table: extract_scheduled(self.client, selection, lake, self.settings, "test").mode
            for table, selection in load_tables(self.settings.tables_file).items()
        }
        self.release()
        return modes

    def release(self) -> Release:
        """Transform, validate and publish what the lake holds."""
        candidate = transform(self.settings, Run(run_id="test", started_at=DAY))
        validation.validate(self.settings, candidate.release_id)
        release = publish(self.settings, candidate.release_id)
        assert release.release_id == candidate.release_id
        return release

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the live release."""
        with duckdb.connect(str(self._live), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def published(self, column: str, table: str = "opportunities") -> dict[str, Any]:
        """The values of a published column by key, without the empty ones."""
        key = {"opportunities": "opportunity_id", "contacts": "contact_id", "accounts": "account_id"}[table]
        return dict(self.query(f'select {key}::text, "{column}" from {table} where "{column}" is not null'))

    def type_of(self, column: str, table: str = "opportunities") -> str | None:
        """Type of a published column; None when there is none of that name."""
        found = self.query(f"select data_type from duckdb_columns() where {_named(table, column)}")
        return str(found[0][0]) if found else None

    def comment_on(self, column: str, table: str = "opportunities") -> str:
        """Description of a published column."""
        ((comment,),) = self.query(f"select comment from duckdb_columns() where {_named(table, column)}")
        return str(comment)

    def columns_reported_gone(self) -> set[tuple[str, str]]:
        """Table and column of the warnings that the live release carries."""
        return set(
            self.query(
                "select relation, column_name from expectation_results where suite = 'extracted' and not success"
            )
        )

    def select(self, table: str, *add: str, remove: str | None = None) -> None:
        """Edit `include/tables.yaml`."""
        yaml = YAML()
        document = yaml.load(self.settings.tables_file)
        listed = document["tables"][table]["columns"]
        listed.extend(add)
        if remove:
            listed.remove(remove)
        yaml.dump(document, self.settings.tables_file)

    def keys(self, count: int, table: str = "opportunity") -> list[str]:
        """Keys of some rows that are published."""
        published = {"opportunity": "opportunities", "contact": "contacts", "account": "accounts"}[table]
        found = self.query(f"select {table}_id::text from {published} order by 1 limit {count}")
        return [key for (key,) in found]

    def write(self, column: str, values: dict[str, Any], table: str = "opportunity") -> None:
        """Users of Dynamics fill a column of some rows."""
        for key, value in values.items():
            self.organisation.store.update(table, key, {column: value})

    @property
    def _live(self) -> Path:
        return open_data_root(self.settings.data).live_file

    def assert_same_as_rebuilt(self) -> None:
        """Hold the live release against one that a new warehouse derives from the raw batches."""
        rebuilt = self.settings.model_copy(update={"data": self.settings.data.parent / "rebuilt"})
        shutil.rmtree(rebuilt.data, ignore_errors=True)
        shutil.copytree(self.settings.data / "raw", open_data_root(rebuilt.data).raw, dirs_exist_ok=True)
        candidate = transform(rebuilt, Run(run_id="test", started_at=DAY))
        other = open_data_root(rebuilt.data).candidates / candidate.release_id / DATABASE
        with duckdb.connect() as connection:
            connection.execute(f"attach '{self._live}' as live (read_only)")
            connection.execute(f"attach '{other}' as rebuilt (read_only)")
            described = (
                "select table_name, column_name, data_type, comment from duckdb_columns() "
                f"where table_name in {MAIN_TABLES} and schema_name = 'main' and database_name = "
            )
            assert connection.execute(f"{described}'live' except {described}'rebuilt'").fetchall() == []
            for table in MAIN_TABLES:
                for one, two in (("live", "rebuilt"), ("rebuilt", "live")):
                    differing = f"from {one}.{table} except all from {two}.{table}"
                    assert connection.execute(differing).fetchall() == [], (table, one)


def _named(table: str, column: str) -> str:
    """Condition on `duckdb_columns()`: this column of what analysts read."""
    return f"schema_name = 'main' and table_name = '{table}' and column_name = '{column}'"


@pytest.fixture
def sync(start_organisation: Callable[..., Emulator], connect: Connect, tmp_path: Path) -> Iterator[Sync]:
    """The sample organisation and its first release; what it came to in the end must not depend on the way there."""
    organisation = start_organisation()
    shutil.copytree(PROJECT / "include", tmp_path / "include")
    settings = Settings(data=tmp_path / "data", include=tmp_path / "include", page_size=20)
    started = Sync(organisation, connect(organisation), settings)
    assert started.run() == dict.fromkeys(READ_ORDER, "full")
    yield started
    started.assert_same_as_rebuilt()


# columns: added, removed, renamed ------------------------------------------------------------------------------------


def test_a_column_added_in_dynamics_means_nothing_until_it_is_selected(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer", display="Size", description="Number of seats")
    first, second = sync.keys(2)
    sync.write("new_size", {first: 5})
    assert sync.run() == UNCHANGED
    assert sync.type_of("new_size") is None

    sync.select("opportunity", "new_size")
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.type_of("new_size") == "INTEGER"
    assert sync.published("new_size") == {first: 5}
    assert sync.comment_on("new_size") == "Size: Number of seats"

    sync.write("new_size", {second: 7})
    assert sync.run() == UNCHANGED
    assert sync.published("new_size") == {first: 5, second: 7}


def test_a_column_taken_out_of_the_selection_leaves_the_release_and_may_come_back(sync: Sync) -> None:
    sync.select("contact", "lastname")
    sync.run()
    numbers = sync.published("lastname", "contacts")
    assert numbers
    sync.select("contact", remove="lastname")
    assert sync.run() == UNCHANGED | {"contact": "full"}
    assert sync.type_of("lastname", "contacts") is None
    assert sync.run() == UNCHANGED

    sync.select("contact", "lastname")
    assert sync.run() == UNCHANGED | {"contact": "full"}
    assert sync.published("lastname", "contacts") == numbers


def test_a_selected_column_removed_in_dynamics_is_published_empty_with_a_warning_until_it_returns(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.select("opportunity", "new_size")
    first, second = sync.keys(2)
    sync.write("new_size", {first: 5, second: 6})
    sync.run()

    sync.organisation.drop_column("opportunity", "new_size")
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert (sync.type_of("new_size"), sync.published("new_size")) == ("INTEGER", {})
    assert sync.columns_reported_gone() == {("opportunity", "new_size")}
    assert sync.run() == UNCHANGED

    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.write("new_size", {second: 7})
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.published("new_size") == {second: 7}
    assert sync.columns_reported_gone() == set()


def test_columns_that_the_models_read_may_disappear_too(sync: Sync) -> None:
    gone = {
        "opportunity": ("name", "statuscode", "salesstage", "estimatedvalue", "actualclosedate", "closeprobability"),
        "contact": ("fullname", "emailaddress1", "statecode"),
        "account": ("name", "merged", "masterid"),
        "connection": ("effectivestart", "effectiveend", "createdon"),
        "connectionrole": ("createdon",),
    }
    for table, columns in gone.items():
        for column in columns:
            sync.organisation.drop_column(table, column)
    assert sync.run() == dict.fromkeys(READ_ORDER, "full")
    assert sync.columns_reported_gone() == {(table, column) for table, columns in gone.items() for column in columns}
    assert sync.published("sales_stage_code") == sync.published("sales_stage") == {}
    assert sync.run() == UNCHANGED


def test_a_column_that_is_gone_stays_optional_when_the_batches_that_held_it_are_gone_too(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.select("opportunity", "new_size")
    sync.run()
    sync.organisation.drop_column("opportunity", "new_size")
    sync.run()
    lake = Lake(open_data_root(sync.settings.data).raw)
    for batch in lake.batches("opportunity")[:-1]:
        shutil.rmtree(lake.folder("opportunity", batch.batch))
    assert sync.run() == UNCHANGED
    assert sync.columns_reported_gone() == {("opportunity", "new_size")}


def test_a_new_display_name_changes_the_description_and_nothing_else(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer", display="Size")
    sync.select("opportunity", "new_size")
    (key,) = sync.keys(1)
    sync.write("new_size", {key: 5})
    sync.run()
    assert sync.comment_on("new_size") == "Size"
    sync.organisation.change_column("opportunity", "new_size", display="The customer's size", description='In "seats"')
    assert sync.run() == UNCHANGED
    assert sync.comment_on("new_size") == 'The customer\'s size: In "seats"'
    assert sync.published("new_size") == {key: 5}


def test_a_column_replaced_by_one_of_another_name_is_one_gone_and_one_new(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.select("opportunity", "new_size")
    (key,) = sync.keys(1)
    sync.write("new_size", {key: 5})
    sync.run()
    sync.organisation.drop_column("opportunity", "new_size")
    sync.organisation.add_column("opportunity", "new_seats", "Integer")
    sync.write("new_seats", {key: 5})
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert (sync.published("new_size"), sync.type_of("new_seats")) == ({}, None)

    sync.select("opportunity", "new_seats", remove="new_size")
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert (sync.type_of("new_size"), sync.published("new_seats")) == (None, {key: 5})
    assert sync.columns_reported_gone() == set()


def test_the_sync_filter_removed_in_dynamics_no_longer_excludes_and_says_so(sync: Sync) -> None:
    sync.select("opportunity", "new_synctomkto")
    first, second = sync.keys(2)
    sync.write("new_synctomkto", {first: False, second: True})
    sync.run()
    assert sync.query(f"select count(*) from opportunities where opportunity_id = '{first}'") == [(0,)]
    sync.organisation.drop_column("opportunity", "new_synctomkto")
    sync.run()
    assert sync.query(f"select count(*) from opportunities where opportunity_id = '{first}'") == [(1,)]
    assert sync.columns_reported_gone() == {("opportunity", "new_synctomkto")}


# columns: another type -----------------------------------------------------------------------------------------------

LOOKUP = {"targets": {"account": "new_other"}}
CHOICE = {"options": {"1": "Small", "2": "Large"}}
RETYPED: dict[str, tuple[tuple[str, dict[str, Any], Any, str, Any], ...]] = {
    "integer to decimal and back": (
        ("Integer", {}, 5, "INTEGER", 5),
        ("Decimal", {}, 2.5, "DECIMAL(38,10)", Decimal("2.5")),
        ("Integer", {}, 6, "INTEGER", 6),
    ),
    "integer to text and back": (
        ("Integer", {}, 5, "INTEGER", 5),
        ("String", {}, "five or six", "VARCHAR", "five or six"),
        ("Integer", {}, 6, "INTEGER", 6),
    ),
    "text to date to yes/no": (
        ("String", {}, "soon", "VARCHAR", "soon"),
        ("DateTime", {"behavior": "DateOnly"}, "2026-03-04", "DATE", datetime(2026, 3, 4, tzinfo=UTC).date()),
        ("Boolean", {}, False, "BOOLEAN", False),
    ),
    "choice to number": (
        ("Picklist", CHOICE, 2, "VARCHAR", "Large"),
        ("Integer", {}, 7, "INTEGER", 7),
    ),
    "text to choice to several choices": (
        ("String", {}, "big", "VARCHAR", "big"),
        ("Picklist", CHOICE, 1, "VARCHAR", "Small"),
        ("MultiSelectPicklist", CHOICE, "1,2", "VARCHAR", "Small; Large"),
    ),
}


@pytest.mark.parametrize("steps", RETYPED.values(), ids=RETYPED)
def test_a_column_made_anew_with_another_type_is_read_in_full_and_published_with_that_type(
    sync: Sync, steps: tuple[tuple[str, dict[str, Any], Any, str, Any], ...]
) -> None:
    sync.select("opportunity", "new_size")
    keys = sync.keys(len(steps))
    for number, (kind, facts, written, published_type, published) in enumerate(steps):
        if number:
            sync.organisation.drop_column("opportunity", "new_size")
        sync.organisation.add_column("opportunity", "new_size", kind, **facts)
        sync.write("new_size", {keys[number]: written})
        assert sync.run() == UNCHANGED | {"opportunity": "full"}
        assert sync.type_of("new_size") == published_type
        assert sync.published("new_size") == {keys[number]: published}
        assert (sync.type_of("new_size_code") is not None) == ("Picklist" in kind)


def test_a_column_whose_values_stay_under_another_type_keeps_them(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.organisation.add_column("opportunity", "new_day", "DateTime")
    sync.select("opportunity", "new_size", "new_day")
    (key,) = sync.keys(1)
    sync.organisation.store.update("opportunity", key, {"new_size": 5, "new_day": "2026-03-04T00:00:00Z"})
    sync.run()
    assert sync.published("new_day") == {key: datetime(2026, 3, 4)}  # noqa: DTZ001 (as DuckDB gives it)
    for kind, published in (("Decimal", Decimal(5)), ("String", "5"), ("Integer", 5)):
        sync.organisation.change_column("opportunity", "new_size", type=kind)
        assert sync.run() == UNCHANGED | {"opportunity": "full"}
        assert sync.published("new_size") == {key: published}
    sync.organisation.change_column("opportunity", "new_day", behavior="DateOnly")
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.type_of("new_day") == "DATE"
    assert sync.published("new_day") == {key: datetime(2026, 3, 4, tzinfo=UTC).date()}


def test_a_lookup_that_gets_a_second_target_says_which_table_it_points_to(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_other", "Lookup", **LOOKUP)
    sync.select("opportunity", "new_other")
    (key,), (account,) = sync.keys(1), sync.keys(1, "account")
    sync.organisation.store.update("opportunity", key, {"new_other@odata.bind": f"/accounts({account})"})
    sync.run()
    assert (sync.type_of("new_other"), sync.type_of("new_other_type")) == ("UUID", None)
    targets = LOOKUP["targets"] | {"contact": "new_other_contact"}
    sync.organisation.change_column("opportunity", "new_other", targets=targets)
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.published("new_other_type") == {key: "account"}
    sync.organisation.change_column("opportunity", "new_other", **LOOKUP)
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.type_of("new_other_type") is None
    assert len(sync.published("new_other")) == 1


def test_a_column_made_anew_with_a_type_that_cannot_be_extracted_is_published_empty(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.select("opportunity", "new_size")
    sync.write("new_size", dict.fromkeys(sync.keys(1), 5))
    sync.run()
    sync.organisation.drop_column("opportunity", "new_size")
    sync.organisation.add_column("opportunity", "new_size", "Virtual", type_name="ImageType")
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert (sync.published("new_size"), sync.columns_reported_gone()) == ({}, {("opportunity", "new_size")})
    assert sync.run() == UNCHANGED


def test_a_column_that_the_models_read_keeps_its_type_and_what_does_not_fit_is_empty(
    sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sync.keys(2)
    sync.organisation.drop_column("opportunity", "closeprobability")
    sync.organisation.add_column("opportunity", "closeprobability", "String")
    sync.write("closeprobability", {first: "40", second: "likely"})
    with caplog.at_level(logging.WARNING):
        assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.type_of("close_probability") == "INTEGER"
    assert sync.published("close_probability") == {first: 40}
    assert "closeprobability of table opportunity is of type String in Dynamics" in caplog.text


def test_a_window_read_before_the_full_read_of_a_column_with_another_type_does_no_harm(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Integer")
    sync.select("opportunity", "new_size")
    first, second = sync.keys(2)
    sync.write("new_size", {first: 5, second: 6})
    sync.run()
    sync.organisation.drop_column("opportunity", "new_size")
    sync.organisation.add_column("opportunity", "new_size", "String")
    began = datetime.now(UTC) - timedelta(seconds=2)
    sync.write("new_size", {first: "five or six"})
    lake, selection = (
        Lake(open_data_root(sync.settings.data).raw),
        load_tables(sync.settings.tables_file)["opportunity"],
    )
    window = extract_window(
        sync.client, selection, lake, sync.settings, "backfill", start=began, end=began + timedelta(days=1)
    )
    assert window.rows >= 1
    sync.release()
    assert sync.type_of("new_size") == "VARCHAR"
    assert sync.published("new_size")[first] == "five or six"
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert sync.published("new_size") == {first: "five or six"}


# choices and roles ---------------------------------------------------------------------------------------------------

AWKWARD = """Won't "fit" {0} 100 %; -- or\\else"""


def test_a_new_choice_value_has_its_label_with_the_first_row_that_uses_it(sync: Sync) -> None:
    (key,) = sync.keys(1)
    options = {"0": "Qualify", "1": "Develop", "2": "Propose", "3": "Close", "4": "Legal review"}
    sync.organisation.change_column("opportunity", "salesstage", options=options)
    sync.write("salesstage", {key: 4})
    assert sync.run() == UNCHANGED
    assert (sync.published("sales_stage_code")[key], sync.published("sales_stage")[key]) == (4, "Legal review")


def test_a_value_outside_the_choice_keeps_its_code_and_has_no_label(sync: Sync) -> None:
    (key,) = sync.keys(1)
    sync.write("salesstage", {key: 104800003})
    assert sync.run() == UNCHANGED
    assert sync.published("sales_stage_code")[key] == 104800003
    assert key not in sync.published("sales_stage")


@pytest.mark.parametrize("label", ["Contract sent", AWKWARD], ids=["plain", "awkward"])
def test_a_relabelled_choice_is_relabelled_in_every_row_although_no_row_changed(sync: Sync, label: str) -> None:
    before = sync.published("sales_stage")
    stages = sync.published("sales_stage_code")
    options = {"0": "Qualify", "1": label, "2": "Propose", "3": "Close"}
    sync.organisation.change_column("opportunity", "salesstage", options=options)
    assert sync.run() == UNCHANGED
    after = sync.published("sales_stage")
    assert after == before | {key: label for key, code in stages.items() if code == 1}
    assert label in after.values()
    (key,) = sync.keys(1)
    sync.write("name", {key: "Changed"})
    assert sync.run() == UNCHANGED
    assert sync.published("sales_stage") == after


def test_a_choice_value_taken_away_keeps_its_last_label_on_the_rows_that_have_it(sync: Sync) -> None:
    before = sync.published("sales_stage")
    sync.organisation.change_column("opportunity", "salesstage", options={"0": "Qualify"})
    assert sync.run() == UNCHANGED
    assert sync.published("sales_stage") == before


def test_labels_of_additional_choices_follow_too(sync: Sync) -> None:
    sync.organisation.add_column("opportunity", "new_size", "Picklist", **CHOICE)
    sync.organisation.add_column("opportunity", "new_topics", "MultiSelectPicklist", **CHOICE)
    sync.select("opportunity", "new_size", "new_topics")
    (key,) = sync.keys(1)
    sync.organisation.store.update("opportunity", key, {"new_size": 1, "new_topics": "2,1"})
    sync.run()
    for column in ("new_size", "new_topics"):
        sync.organisation.change_column("opportunity", column, options={"1": AWKWARD, "2": "Large"})
    assert sync.run() == UNCHANGED
    assert sync.published("new_size") == {key: AWKWARD}
    assert sync.published("new_topics") == {key: f"Large; {AWKWARD}"}


@pytest.mark.parametrize("name", ["Signs the contract", AWKWARD], ids=["plain", "awkward"])
def test_a_relabelled_connection_role_is_relabelled_in_the_roles_of_unchanged_connections(
    sync: Sync, name: str
) -> None:
    roles = "select connection_role_id::text, role, count(*) from opportunity_contact_roles group by all order by all"
    before = sync.query(roles)
    role_id, _, count = next(row for row in before if row[0])
    sync.organisation.store.update("connectionrole", role_id, {"name": name})
    assert sync.run() == UNCHANGED
    after = sync.query(roles)
    assert (role_id, name, count) in after
    assert [row for row in after if row[0] != role_id] == [row for row in before if row[0] != role_id]


def test_a_connection_role_of_another_category_gives_no_roles_any_more(sync: Sync) -> None:
    counted = (
        "select connection_role_id::text, count(*) from opportunity_contact_roles where role_source = 'stakeholder'"
    )
    (role_id, count), *_ = sync.query(f"{counted} group by all order by 2, 1")
    sync.organisation.store.update("connectionrole", role_id, {"category": 1001})
    assert count
    assert sync.run() == UNCHANGED
    assert role_id not in dict(sync.query(f"{counted} group by all"))


# customers -----------------------------------------------------------------------------------------------------------


def test_a_customer_of_a_type_nobody_knew_is_published_without_an_account_and_with_a_warning(sync: Sync) -> None:
    first, second = sync.keys(2)
    targets = {
        "account": "customerid_account",
        "contact": "customerid_contact",
        "new_partner": "customerid_new_partner",
    }
    sync.organisation.change_column("opportunity", "customerid", targets=targets)
    partner = "00000000-0000-4000-8000-0000000f0001"
    values = {
        "_customerid_value": partner,
        "_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "new_partner",
    }
    sync.organisation.store.update("opportunity", first, values)
    sync.write("name", {second: "Changed in the same hour"})
    assert sync.run() == UNCHANGED
    facts = "account_id, account_rule, customer_id::text, customer_type"
    assert sync.query(f"select {facts} from opportunities where opportunity_id = '{first}'") == [
        (None, "customer_of_another_type", partner, "new_partner")
    ]
    assert sync.query(f"select * from opportunity_contact_roles where opportunity_id = '{first}' and is_primary") == []
    assert sync.published("name")[second] == "Changed in the same hour"
    warned = (
        "select column_name, unexpected_count from expectation_results where not success and relation = 'opportunities'"
    )
    assert ("customer_type", 1) in sync.query(warned)


# change tracking -----------------------------------------------------------------------------------------------------


def test_change_tracking_off_and_on_again_loses_neither_a_change_nor_a_delete(
    sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = sync.keys(3)
    sync.organisation.set_change_tracking("opportunity", False)
    with caplog.at_level(logging.WARNING):
        assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert "Change tracking is off for table opportunity" in caplog.text
    sync.write("name", {first: "Changed while off"})
    sync.organisation.store.delete("opportunity", second)
    assert sync.run() == UNCHANGED | {"opportunity": "window"}
    assert sync.published("name")[first] == "Changed while off"
    assert second in sync.published("name")

    sync.organisation.set_change_tracking("opportunity", True)
    assert sync.run() == UNCHANGED | {"opportunity": "full"}
    assert second not in sync.published("name")
    sync.organisation.store.delete("opportunity", third)
    assert sync.run() == UNCHANGED
    assert third not in sync.published("name")


def test_a_delete_while_change_tracking_was_off_between_two_runs_is_found_by_a_full_read(sync: Sync) -> None:
    (key,) = sync.keys(1)
    sync.organisation.set_change_tracking("opportunity", False)
    sync.organisation.store.delete("opportunity", key)
    sync.organisation.set_change_tracking("opportunity", True)
    assert sync.run() == UNCHANGED
    assert key in sync.published("name")
    selection = load_tables(sync.settings.tables_file)["opportunity"]
    extract_full(sync.client, selection, Lake(sync.settings.data / "raw"), sync.settings, "full_read")
    sync.release()
    assert key not in sync.published("name")
