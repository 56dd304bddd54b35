"""Compaction: fewer raw batches, the same releases, the same next read, whatever happens meanwhile."""

from __future__ import annotations

import logging
import multiprocessing
import random
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as sampling
from hypothesis import strategies as st

from emulator.server import Emulator
from opportunity_sync import steps
from opportunity_sync.check import check
from opportunity_sync.compact import compact
from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Column, Lake, Manifest, Reconciliation, chained
from opportunity_sync.release import Release, Run
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.tables import READ_ORDER
from opportunity_sync.warehouse import transform
from tests.extraction import Extraction
from tests.lakes import START, identity, write_batch
from tests.pipeline import run_once
from tests.small_organisation import organisation as small_organisation
from tests.stand_in import credentials_of
from tests.warehouse.releases import content, make_live, rows
from tests.warehouse.test_order import TABLES, batch

pytestmark = pytest.mark.slow

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))
HOUR = timedelta(hours=1)


def settings_of(path: Path, **changes: Any) -> Settings:
    """All batches but the newest of each table are old."""
    return Settings(data=path, **({"include": PROJECT / "include", "raw_days": 0} | changes))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "data")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(DataRoot(settings.data).raw)


def told(root: DataRoot, release: Release) -> Mapping[str, list[tuple[Any, ...]]]:
    """Everything of a release that the raw batches decide, and what it says about them."""
    return {
        **content(root, release),
        "release_tables": rows(root, release, "release_tables"),
        "reconciliations": rows(root, release, "reconciliations"),
        "opportunity_connections": rows(root, release, "opportunity_connections"),
        "columns": rows(root, release, "duckdb_columns()", "table_name, column_name, data_type, comment"),
    }


def rebuilt(settings: Settings) -> Mapping[str, list[tuple[Any, ...]]]:
    """What a release tells that is derived from the raw batches alone."""
    root = DataRoot(settings.data)
    root.warehouse.unlink(missing_ok=True)
    release = transform(settings, RUN)
    assert release.built == "full"
    return told(root, release)


def people(lake: Lake) -> None:
    """Ana stays, Bea is deleted, Cem is absent from the full read that ends the history."""
    write_batch(lake, "contact", [{"contactid": "ana", "emailaddress1": "ana@example.com"}], at=START)
    gone = [{"contactid": "bea", "emailaddress1": "bea@example.com"}]
    write_batch(lake, "contact", gone, mode="changes", at=START + HOUR)
    write_batch(lake, "contact", mode="changes", deletes=["bea"], at=START + 2 * HOUR)
    write_batch(lake, "contact", [{"contactid": "cem", "emailaddress1": "cem@example.com"}], mode="window", at=START)
    write_batch(lake, "contact", [{"contactid": "ana", "emailaddress1": "ana@example.com"}], at=START + 3 * HOUR)
    write_batch(lake, "contact", mode="changes", at=START + 4 * HOUR)


def emails(lake: Lake, table: str = "contact") -> set[str]:
    """Every e-mail address in the raw batches, whether anybody lists the batch or not."""
    with duckdb.connect() as connection:
        return {
            email
            for path in (lake.path / table).rglob("rows-*.parquet")
            for (email,) in connection.execute(f"select emailaddress1 from '{path}'").fetchall()
        }


def test_old_batches_become_one_and_the_newest_stays(settings: Settings, lake: Lake) -> None:
    people(lake)
    before = lake.batches("contact")
    (done,) = (each for each in compact(settings, "run-7") if each.table == "contact")
    compacted, newest = lake.batches("contact")

    assert newest == before[-1]
    assert compacted.mode == "compacted"
    assert compacted.run_id == "run-7"
    assert compacted.replaces == tuple(each.batch for each in before[:-1])
    assert before[-2].batch < newest.batch
    assert compacted.batch.split("-")[0] == before[-2].batch.split("-")[0], "it sorts where the newest of them did"
    assert sorted(path.name for path in (lake.path / "contact").iterdir()) == lake.names("contact")
    assert (done.batches_before, done.batches_after) == (6, 2)
    assert done.bytes_before == sum(file.bytes for each in before for file in each.files)
    assert done.bytes_after == sum(file.bytes for each in (compacted, newest) for file in each.files)


def test_rows_of_people_who_are_gone_leave_the_lake_and_the_warehouse_and_their_ids_stay(
    settings: Settings, lake: Lake
) -> None:
    people(lake)
    transform(settings, RUN)
    assert emails(lake) == {"ana@example.com", "bea@example.com", "cem@example.com"}
    compact(settings, "test")
    assert emails(lake) == {"ana@example.com"}
    (deletes,) = lake.files(lake.batches("contact")[0], "deletes")
    assert duckdb.connect().execute(f"select id, _observed_at from '{deletes}'").fetchall() == [
        (identity("bea"), (START + 2 * HOUR).replace(tzinfo=None))
    ]
    transform(settings, RUN)
    with duckdb.connect(str(DataRoot(settings.data).warehouse), read_only=True) as connection:
        assert connection.execute("select emailaddress1 from current.contact").fetchall() == [("ana@example.com",)]


@pytest.mark.parametrize("days", [1, 30])
def test_nothing_younger_than_the_retention_is_merged(days: int, lake: Lake, settings: Settings) -> None:
    people(lake)
    kept = settings_of(settings.data, raw_days=days)
    before = lake.batches("contact")
    edge = datetime.now(UTC) + timedelta(days=days)
    compact(kept, "test", now=edge - HOUR)
    assert lake.batches("contact") == before
    compact(kept, "test", now=edge)
    assert len(lake.batches("contact")) == 2


def test_a_single_old_batch_stays_as_it_is(settings: Settings, lake: Lake) -> None:
    for number in range(2):
        write_batch(lake, "account", [{"accountid": f"a{number}"}], mode="changes")
    before = lake.batches("account")
    compact(settings, "test")
    assert lake.batches("account") == before


def test_a_batch_still_being_written_ends_what_is_merged(settings: Settings, lake: Lake) -> None:
    for number in range(2):
        write_batch(lake, "account", [{"accountid": f"a{number}"}], mode="changes")
    with lake.new_batch("account", "window") as late:
        for number in range(2, 5):
            write_batch(lake, "account", [{"accountid": f"a{number}"}], mode="changes")
        before = lake.names("account")
        compact(settings, "test")
        assert lake.batches("account")[0].replaces == tuple(before[:2])
        assert lake.names("account")[1:] == before[2:]
        assert late.folder.is_dir()


def test_compacting_again_merges_the_compacted_batch_with_what_became_old(settings: Settings, lake: Lake) -> None:
    expected = {}
    for number in range(6):
        write_batch(lake, "account", [{"accountid": f"a{number % 4}", "name": f"{number}"}], mode="changes")
        expected = told(DataRoot(settings.data), transform(settings, RUN))
        compact(settings, "test")
        assert told(DataRoot(settings.data), transform(settings, RUN)) == expected
    assert len(lake.names("account")) == 2
    assert rebuilt(settings) == expected


def test_a_compacted_batch_is_adopted_without_being_applied_and_the_next_build_continues(
    settings: Settings, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opportunity_sync")
    root = DataRoot(settings.data)
    people(lake)
    release = transform(settings, RUN)
    make_live(root, release)
    compact(settings, "test")
    caplog.clear()
    after = transform(settings, RUN)
    assert "warehouse: adopted contact" in caplog.text
    assert "warehouse: applied" not in caplog.text
    assert "rebuilding" not in caplog.text
    assert (after.built, after.sequence, after.warehouse_id) == (
        "incremental",
        release.sequence,
        release.warehouse_id,
    )
    assert told(root, after) == told(root, release)


def test_a_warehouse_that_lacks_a_part_applies_the_compacted_batch(
    settings: Settings, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    root = DataRoot(settings.data)
    write_batch(lake, "account", [{"accountid": "a1", "name": "old"}], mode="changes")
    make_live(root, transform(settings, RUN))
    write_batch(lake, "account", [{"accountid": "a1", "name": "new", "versionnumber": 2}], mode="changes")
    write_batch(lake, "account", mode="changes")
    compact(settings, "test")
    caplog.set_level(logging.INFO, "opportunity_sync")
    caplog.clear()
    release = transform(settings, RUN)
    assert "warehouse: applied account" in caplog.text
    assert "rebuilding" not in caplog.text
    assert rows(root, release, "accounts", "name") == [("new",)]
    with duckdb.connect(str(root.warehouse), read_only=True) as connection:
        found = connection.execute("select batch from meta.batches order by batch").fetchall()
    assert [name for (name,) in found] == lake.names("account")


def test_rows_keep_the_batch_that_brought_them_and_the_table_its_freshness(settings: Settings, lake: Lake) -> None:
    write_batch(lake, "account", [{"accountid": "a1"}, {"accountid": "a2"}], at=START)
    write_batch(lake, "account", [{"accountid": "a2", "versionnumber": 2}], mode="changes", at=START + 2 * HOUR)
    seen_again = [{"accountid": "a1", "versionnumber": 0, "_extracted_at": START + HOUR}]
    write_batch(lake, "account", seen_again, mode="window", at=START + 3 * HOUR)
    write_batch(lake, "account", mode="window", at=START + 4 * HOUR)

    def current() -> list[tuple[Any, ...]]:
        with duckdb.connect(str(DataRoot(settings.data).warehouse), read_only=True) as connection:
            return connection.execute(
                "select accountid, _batch, _page, _extracted_at, _alive_at from current.account order by 2"
            ).fetchall()

    told_before = rebuilt(settings)
    before = current()
    names = lake.names("account")
    at = START.replace(tzinfo=None)
    assert before == [
        (identity("a1"), names[0], 1, at, at + HOUR),
        (identity("a2"), names[1], 1, at + 2 * HOUR, at + 2 * HOUR),
    ]
    compact(settings, "test")
    assert rebuilt(settings) == told_before
    assert current() == before
    (as_of,) = [row[2] for row in told_before["release_tables"] if row[0] == "account"]
    assert as_of == at + 2 * HOUR


def test_the_task_returns_counts_only(settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    people(lake)
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(settings.data))
    monkeypatch.setenv("OPPORTUNITY_SYNC_RAW_DAYS", "0")
    returned = steps.compact(cast("steps.DagRun", SimpleNamespace(run_id="scheduled__1")))
    assert list(returned) == list(READ_ORDER)
    assert set(returned["contact"]) == {"batches_before", "batches_after", "bytes_before", "bytes_after"}
    assert (returned["contact"]["batches_before"], returned["contact"]["batches_after"]) == (6, 2)
    assert lake.batches("contact")[0].run_id == "scheduled__1"


def test_labels_types_descriptions_and_the_last_sweep_are_told_as_before(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "include", tmp_path / "include")
    tables = tmp_path / "include" / "tables.yaml"
    text = tables.read_text(encoding="utf-8").replace(
        "  account:\n    columns:\n",
        "  account:\n    columns:\n      - new_grade\n      - new_size\n      - new_gone\n",
    )
    assert "new_grade" in text
    tables.write_text(text, encoding="utf-8")
    settings = settings_of(tmp_path / "data", include=tmp_path / "include")
    lake = Lake(DataRoot(settings.data).raw)

    def grade(label: str, choices: dict[int, str]) -> Column:
        return Column(
            name="new_grade",
            attribute_type="Picklist",
            duckdb_type="INTEGER",
            property="new_grade",
            label=label,
            description=f"about {label}",
            choices=choices,
        )

    def size(kind: str) -> Column:
        return Column(name="new_size", attribute_type="String", duckdb_type=kind, property="new_size", label=kind)

    gone = Column(name="new_gone", attribute_type="String", duckdb_type="VARCHAR", property="new_gone", label="Gone")
    first = {"new_grade": grade("Grade", {1: "A", 2: "B"}), "new_size": size("INTEGER"), "new_gone": gone}
    second = {"new_grade": grade("Mark", {2: "Bee", 3: "C"}), "new_size": size("VARCHAR")}
    third = {"new_grade": grade("Note", {3: "Cee"}), "new_size": size("VARCHAR")}
    row = {"accountid": "a1", "new_grade": 1, "new_size": 7}
    write_batch(lake, "account", [row | {"new_gone": "x"}], extra=first)
    sweep = write_batch(lake, "account", mode="reconcile", extra=first)
    report = Reconciliation(swept_at=START, checked=1, missing=0, gone=0, stale=0, repaired=0)
    path = lake.folder("account", sweep.batch) / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(sweep, reconciliation=report)))
    write_batch(lake, "account", [{"accountid": "a2", "new_grade": 2, "new_size": "8"}], mode="changes", extra=second)
    write_batch(lake, "account", [{"accountid": "a3", "new_grade": 3, "new_size": "x"}], mode="changes", extra=third)
    before = rebuilt(settings)
    assert [(name, comment) for _, name, _, comment in before["columns"] if name == "new_grade"] == [
        ("new_grade", "Note: about Note (label)")
    ]
    compact(settings, "test")
    assert len(lake.names("account")) == 2
    assert told(DataRoot(settings.data), transform(settings, RUN)) == before
    assert rebuilt(settings) == before
    assert [each[-1] for each in before["reconciliations"] if each[0] == "account"] == [sweep.batch]


@sampling(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(batches=st.lists(batch(), min_size=3, max_size=7), data=st.data())
def test_no_release_changes_wherever_compactions_come_between(
    batches: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Rows extracted later have a higher version, as Dynamics numbers them."""
    with tempfile.TemporaryDirectory() as folder:
        plain, compacted = settings_of(Path(folder) / "plain"), settings_of(Path(folder) / "compacted")
        lake = Lake(DataRoot(plain.data).raw)
        for described in batches:
            stored = [row | {"versionnumber": row["_extracted_at"].hour + 1} for row in described["rows"]]
            written = write_batch(lake, **(described | {"rows": stored}))
            name = Path(written.table) / written.batch
            shutil.copytree(DataRoot(plain.data).raw / name, DataRoot(compacted.data).raw / name)
            if data.draw(st.booleans(), label=f"compact after {name}"):
                compact(compacted, "test")
            if data.draw(st.booleans(), label=f"release after {name}"):
                make_live(DataRoot(compacted.data), transform(compacted, RUN))
        compact(compacted, "test")
        expected = told(DataRoot(plain.data), transform(plain, RUN))
        assert told(DataRoot(compacted.data), transform(compacted, RUN)) == expected
        assert rebuilt(compacted) == expected


# --- what extraction continues with


def manifest(lake: Lake, previous: str | None, link: str | None, **changes: Any) -> Manifest:
    """A batch without rows: a full read when it continues no link."""
    with lake.new_batch("account", "changes" if previous else "full") as opened:
        template = Manifest(
            table="account",
            batch=opened.name,
            mode=opened.mode,
            organization_id="00000000-0000-0000-0000-00000000aaaa",
            entity_set="accounts",
            started_at=opened.started_at,
            finished_at=opened.started_at,
            pages=1,
            rows=0,
            deletes=0,
            previous_delta_link=previous,
            delta_link=link,
            columns=(Column(name="accountid", attribute_type="Uniqueidentifier", duckdb_type="UUID", property="x"),),
            files=(),
            run_id="test",
        )
        return lake.commit(opened, msgspec.structs.replace(template, **changes))


def usable(lake: Lake) -> str | None:
    chain = chained(lake.batches("account"))
    return chain[-1].delta_link if chain else None


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([(None, "a"), ("a", "b"), ("b", "c")], "c"),
        ([(None, "a"), ("a", "b1"), ("a", "b2"), ("b1", "c")], "c"),
        ([(None, "a"), ("a", "b1"), ("a", "b2"), (None, None)], "b2"),
        ([("lost", "a"), ("a", "b"), ("b", "c")], None),
        ([(None, "a"), (None, "b"), ("a", "c")], "c"),
        ([(None, "a"), ("a", "b"), (None, "c")], "c"),
        ([(None, "a"), ("a", "a"), ("a", "a")], "a"),
    ],
)
def test_extraction_continues_from_the_same_link_as_before(
    links: Sequence[tuple[str | None, str | None]], expected: str | None, settings: Settings, lake: Lake
) -> None:
    for previous, link in links:
        manifest(lake, previous, link)
    assert usable(lake) == expected
    compact(settings, "test")
    assert len(lake.names("account")) == 2
    assert usable(lake) == expected


def test_a_link_read_with_fewer_columns_than_older_batches_hold_still_continues(settings: Settings, lake: Lake) -> None:
    one = Column(name="accountid", attribute_type="Uniqueidentifier", duckdb_type="UUID", property="accountid")
    two = Column(name="new_gone", attribute_type="String", duckdb_type="VARCHAR", property="new_gone")
    manifest(lake, None, "a", columns=(one, two))
    manifest(lake, None, "b", columns=(one,))
    manifest(lake, None, None, mode="window", columns=(one,))
    compact(settings, "test")
    compacted = lake.batches("account")[0]
    assert compacted.columns == (one, two)
    assert compacted.continued_columns == (one,)
    assert compacted.delta_link == "b"


def test_a_table_without_change_tracking_continues_where_it_was(settings: Settings, lake: Lake) -> None:
    manifest(lake, None, "a")
    manifest(lake, None, None, read_until=START)
    manifest(lake, None, None, mode="window", read_until=START + HOUR)
    manifest(lake, None, None, mode="window")
    compact(settings, "test")
    compacted = lake.batches("account")[0]
    assert (compacted.read_until, compacted.delta_link) == (START + HOUR, None)


def test_changes_are_read_on_from_a_compacted_batch(extraction: Extraction) -> None:
    store = extraction.organisation.store
    for number in range(3):
        store.update("opportunity", sorted(extraction.live_ids())[number], {"name": f"renamed {number}"})
        extraction.run("scheduled")
    store.delete("opportunity", sorted(extraction.live_ids())[0])
    link = chained(extraction.lake.batches("opportunity"))[-1].delta_link
    extraction.run("window", start=START, end=START + HOUR)  # the newest batch, so that the link is merged, too
    compact(settings_of(extraction.settings.data), "test")
    assert [each.mode for each in extraction.lake.batches("opportunity")] == ["compacted", "window"]
    read = extraction.run("scheduled")
    assert (read.mode, read.previous_delta_link, read.deletes) == ("changes", link, 1)
    assert extraction.leftovers() == set()


# --- whatever happens meanwhile


def test_a_damaged_batch_is_named_and_everything_stays(settings: Settings, lake: Lake) -> None:
    people(lake)
    before = lake.batches("contact")
    (path,) = lake.files(before[1], "rows")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LakeError, match=r"rows-0001\.parquet is missing or differs"):
        compact(settings, "test")
    assert lake.batches("contact") == before
    assert sorted(each.name for each in (lake.path / "contact").iterdir()) == lake.names("contact")


def test_batches_of_two_organisations_are_not_merged(settings: Settings, lake: Lake) -> None:
    manifest(lake, None, "a")
    manifest(lake, None, "a", organization_id="00000000-0000-0000-0000-00000000bbbb")
    manifest(lake, None, "a")
    with pytest.raises(LakeError, match="are of organisations"):
        compact(settings, "test")


def test_replaced_batches_that_a_crash_left_on_disk_are_invisible_and_removed_with_the_next_batch(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(lake)
    before = lake.names("contact")
    expected = rebuilt(settings)
    copy = settings.data.parent / "copy"
    shutil.copytree(lake.path / "contact", copy)
    compact(settings, "test")
    after = lake.names("contact")
    for name in before[:3]:
        shutil.copytree(copy / name, lake.path / "contact" / name)
    shutil.copytree(copy / before[3], lake.path / "contact" / f".{before[3]}")  # killed in the middle of a removal
    assert lake.names("contact") == after
    assert rebuilt(settings) == expected
    newest = write_batch(lake, "contact", mode="changes")
    assert sorted(path.name for path in (lake.path / "contact").iterdir()) == [*after, newest.batch]


class Disturbed(Lake):
    """A lake in which a compaction comes between two looks at the disk."""

    def __init__(self, path: Path, compaction: Callable[[], object], *, before_look: int) -> None:
        super().__init__(path)
        self.compaction, self.looks = compaction, before_look

    def _on_disk(self, table: str) -> list[str]:
        found = super()._on_disk(table)
        self.looks -= 1
        if self.looks == 0:
            self.compaction()
            return found[-1:]  # the others were removed while the folder was being listed
        return found

    def manifest(self, table: str, batch: str) -> Manifest:
        if self.looks > 0:
            self.looks = 0
            self.compaction()
        return super().manifest(table, batch)


@pytest.mark.parametrize("before_look", [1, 2, 3])
def test_a_compaction_during_a_listing_hides_nothing_from_it(before_look: int, settings: Settings, lake: Lake) -> None:
    """The third look is at the manifests, after the names were listed twice."""
    people(lake)
    disturbed = Disturbed(lake.path, lambda: compact(settings, "test"), before_look=before_look)
    found = disturbed.batches("contact")
    assert disturbed.looks <= 0
    assert found == lake.batches("contact")
    assert [each.mode for each in found] == ["compacted", "changes"]


def test_extractions_list_whole_histories_while_compactions_run(settings: Settings, lake: Lake) -> None:
    written = 0
    problems: list[object] = []
    is_over = threading.Event()
    listings = 0

    def look() -> None:
        nonlocal listings
        reader = Lake(lake.path)
        while not is_over.is_set():
            expected = written
            try:
                found = sum(batch.rows for batch in reader.batches("account"))
            except LakeError as error:
                problems.append(error)
                return
            if found < expected:
                problems.append((found, expected))
            listings += 1

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(30):
        write_batch(lake, "account", [{"accountid": f"a{number}"}], mode="changes")
        written += 1
        if number % 3 == 2:
            compact(settings, "test")
    is_over.set()
    thread.join()
    assert problems == []
    assert listings > 100


def compact_with_little_room(data: Path, answer: Any) -> None:
    """Every file may only be so large, which DuckDB meets as it meets a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        compact(settings_of(data), "test")
    except Exception as error:  # noqa: BLE001  (the test looks at it)
        answer.put((type(error).__name__, str(error)))
    else:
        answer.put(("", "it fitted"))


def test_a_full_disk_leaves_everything_as_it_was(settings: Settings, lake: Lake) -> None:
    chance = random.Random(1)
    for number in range(3):
        stored = [{"accountid": f"a{number}-{i}", "name": chance.randbytes(300).hex()} for i in range(400)]
        write_batch(lake, "account", stored, mode="changes")
    before = lake.batches("account")
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=compact_with_little_room, args=(settings.data, answer))
    process.start()
    kind, message = answer.get(timeout=60)
    process.join()
    assert kind == "DataRootError", message
    assert "cannot be written" in message
    assert lake.batches("account") == before
    assert sorted(path.name for path in (lake.path / "account").iterdir()) == lake.names("account")
    compact(settings, "test")
    assert len(lake.names("account")) == 2


def compact_once(data: Path) -> None:
    compact(settings_of(data), "test")


@pytest.mark.timeout(600)
def test_compactions_killed_at_random_moments_change_no_release(tmp_path: Path) -> None:
    template = tmp_path / "template"
    lake = Lake(DataRoot(template).raw)
    for table, stored in small_organisation().items():
        write_batch(lake, table, stored)
        for number in range(4):
            changed = [row | {"versionnumber": number + 2} for row in stored[number::5]]
            write_batch(lake, table, changed, mode="changes", at=START + (number + 1) * HOUR)
    settings = settings_of(template)
    expected = rebuilt(settings)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_compact", "duckdb", "filelock"])

    def start(data: Path) -> Any:
        process = context.Process(target=compact_once, args=(data,))
        process.start()
        return process

    shutil.copytree(template, tmp_path / "measured")
    start(tmp_path / "measured").join()  # the forkserver is warm after this one
    shutil.rmtree(tmp_path / "measured")
    shutil.copytree(template, tmp_path / "measured")
    begun = time.monotonic()
    start(tmp_path / "measured").join()
    duration = time.monotonic() - begun

    chance = random.Random(20261122)
    stages = set()
    for number in range(8):
        data = tmp_path / f"killed-{number}"
        shutil.copytree(template, data)
        process = start(data)
        process.join(timeout=chance.uniform(0.05, 1.0) * duration)
        process.kill()
        process.join()
        stages.add(sum(len(Lake(DataRoot(data).raw).names(table)) for table in TABLES))
        assert told(DataRoot(data), transform(settings_of(data), RUN)) == expected
        compact_once(data)
        assert rebuilt(settings_of(data)) == expected
        left = sorted(str(path.relative_to(DataRoot(data).raw)) for path in DataRoot(data).raw.glob("*/*"))
        assert left == sorted(f"{table}/{name}" for table in TABLES for name in Lake(DataRoot(data).raw).names(table))
        shutil.rmtree(data)
    assert len(stages) > 1, "every compaction was killed at the same stage"


@pytest.mark.timeout(300)
def test_hourly_runs_with_compactions_between_end_in_the_release_of_undisturbed_ones(
    tmp_path: Path, start_organisation: Callable[..., Emulator]
) -> None:
    organisation = start_organisation()
    credentials = credentials_of(organisation)
    for number in range(3):
        opportunities = sorted(row["opportunityid"] for row in organisation.store.rows("opportunity"))
        organisation.store.update("opportunity", opportunities[number], {"name": f"renamed {number}"})
        organisation.store.delete("opportunity", opportunities[-1])
        release = run_once(tmp_path / "compacted", credentials)
        compact(settings_of(tmp_path / "compacted"), "test")
    last = run_once(tmp_path / "compacted", credentials)
    assert last.sequence > release.sequence
    assert check(settings_of(tmp_path / "compacted")) == []
    whole = run_once(tmp_path / "whole", credentials)
    compared = content(DataRoot(tmp_path / "compacted"), last), content(DataRoot(tmp_path / "whole"), whole)
    assert compared[0] == compared[1]
    assert [each.mode for each in Lake(DataRoot(tmp_path / "compacted").raw).batches("opportunity")] == [
        "compacted",
        "changes",
        "changes",
    ]
