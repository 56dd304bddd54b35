"""History: what each release changed, and what was believed at any moment since the history began."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Column, Lake
from opportunity_sync.publish import publish, rollback
from opportunity_sync.release import DATABASE, MAIN_TABLES, Release, Run
from opportunity_sync.settings import Settings
from opportunity_sync.validate import validate
from opportunity_sync.warehouse import transform
from tests.lakes import START, identity, write_batch
from tests.small_organisation import organisation
from tests.warehouse.releases import make_live
from tests.warehouse.test_order import batch

pytestmark = pytest.mark.slow

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))
VERSIONED = ("opportunities", "opportunity_contact_roles")

Row = tuple[Any, ...]


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "data")


@pytest.fixture
def settings(data: DataRoot) -> Settings:
    return Settings(data=data.path)


@pytest.fixture
def lake(data: DataRoot) -> Lake:
    return Lake(data.raw)


def file_of(data: DataRoot, release: Release) -> Path:
    (folder,) = (
        parent / release.release_id
        for parent in (data.candidates, data.releases)
        if (parent / release.release_id).exists()
    )
    return folder / DATABASE


def query(file: Path, text: str, *parameters: Any) -> list[Row]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(text, list(parameters)).fetchall()


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def next_release(data: DataRoot, settings: Settings, run: Run = RUN) -> Release:
    """A release that is live, as far as the transform stage looks."""
    release = transform(settings, run)
    make_live(data, release)
    return release


def published(data: DataRoot, settings: Settings) -> Release:
    """A release that went through all stages."""
    candidate = transform(settings, RUN)
    validate(settings, candidate.release_id)
    return publish(settings, candidate.release_id)


def small_organisation(lake: Lake) -> None:
    for table, rows in organisation().items():
        write_batch(lake, table, rows)


def rename(lake: Lake, name: str, version: int) -> None:
    row = next(row for row in organisation()["opportunity"] if row["opportunityid"] == "o1")
    changed = row | {"name": name, "versionnumber": version}
    write_batch(lake, "opportunity", [changed], mode="changes", at=START + timedelta(hours=version))


def names_over_time(file: Path) -> list[Row]:
    return query(
        file,
        "select name, is_current, valid_from, valid_to from opportunities_history where opportunity_id = ? "
        "order by valid_from",
        identity("o1"),
    )


def test_the_first_release_begins_the_history_and_changes_nothing(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    release = next_release(data, settings)
    file = file_of(data, release)
    assert query(file, "select count(*) from release_changes") == [(0,)]
    for table in VERSIONED:
        (counts,) = query(
            file,
            f"select count(*), count(*) filter (is_current and valid_from = ? and valid_to is null), "
            f"(select count(*) from {table}) from {table}_history",
            naive(release.released_at),
        )
        assert counts[0] == counts[1] == counts[2] > 0


def test_a_change_ends_one_version_and_begins_another_and_is_listed_with_its_columns(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    first = next_release(data, settings)
    rename(lake, "One again", 2)
    second = next_release(data, settings)
    begin, change = naive(first.released_at), naive(second.released_at)
    file = file_of(data, second)
    assert names_over_time(file) == [("Deal 1", False, begin, change), ("One again", True, change, None)]
    assert query(file, "select release_id, released_at, table_name, key, change from release_changes") == [
        (second.release_id, change, "opportunities", identity("o1"), "updated")
    ]
    assert set(query(file, "select unnest(changed_columns) from release_changes")) == {
        ("name",),
        ("version_number",),
    }


def test_a_deleted_row_stays_in_the_history_and_its_return_begins_a_new_version(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    releases = [next_release(data, settings)]
    write_batch(lake, "opportunity", mode="changes", deletes=["o1"], at=START + timedelta(hours=2))
    releases.append(next_release(data, settings))
    rename(lake, "Back", 5)
    releases.append(next_release(data, settings))
    begin, deleted, back = (naive(release.released_at) for release in releases)
    assert names_over_time(file_of(data, releases[-1])) == [
        ("Deal 1", False, begin, deleted),
        ("Back", True, back, None),
    ]
    found = query(
        file_of(data, releases[-1]),
        "select change from release_changes where table_name = 'opportunities' and key = ? order by released_at",
        identity("o1"),
    )
    assert found == [("deleted",), ("inserted",)]


def test_as_of_answers_what_the_live_release_showed_and_nothing_before_the_history_began(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    first = next_release(data, settings)
    rename(lake, "One again", 2)
    second = next_release(data, settings)
    file = file_of(data, second)
    text = "select name from opportunities_as_of(?) where opportunity_id = ?"
    moments = {
        naive(first.released_at) - timedelta(microseconds=1): [],
        naive(first.released_at): [("Deal 1",)],
        naive(second.released_at) - timedelta(microseconds=1): [("Deal 1",)],
        naive(second.released_at): [("One again",)],
        naive(second.released_at) + timedelta(days=1000): [("One again",)],
    }
    assert {moment: query(file, text, moment, identity("o1")) for moment in moments} == moments


def test_history_survives_the_loss_of_the_warehouse(data: DataRoot, settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    next_release(data, settings)
    rename(lake, "One again", 2)
    expected = names_over_time(file_of(data, next_release(data, settings)))
    data.warehouse.unlink()
    rebuilt = next_release(data, settings)
    assert rebuilt.built == "full"
    assert names_over_time(file_of(data, rebuilt)) == expected
    assert query(file_of(data, rebuilt), "select count(*) from release_changes") == [(1,)]


def test_history_survives_a_damaged_live_file(data: DataRoot, settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    published(data, settings)
    rename(lake, "One again", 2)
    second = published(data, settings)
    expected = names_over_time(file_of(data, second))
    data.live_file.unlink()
    data.live_file.write_bytes(b"rubbish")
    assert names_over_time(file_of(data, published(data, settings))) == expected


def test_a_candidate_continues_the_release_that_is_live_when_it_is_published(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    first = published(data, settings)
    rename(lake, "Two", 2)
    overtaken = transform(settings, RUN)
    rename(lake, "Three", 3)
    later = transform(settings, RUN)
    validate(settings, overtaken.release_id)
    publish(settings, overtaken.release_id)
    validate(settings, later.release_id)
    last = publish(settings, later.release_id)
    assert last.history_of == overtaken.release_id
    begin, two, three = (naive(release.released_at) for release in (first, overtaken, later))
    assert names_over_time(data.live_file) == [
        ("Deal 1", False, begin, two),
        ("Two", False, two, three),
        ("Three", True, three, None),
    ]
    assert query(data.live_file, "select count(*) from release_changes") == [(2,)]
    assert last.rows["release_changes"] == 2


def test_after_a_rollback_the_history_goes_on_from_the_release_rolled_back_to(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    first = published(data, settings)
    rename(lake, "Wrong", 2)
    published(data, settings)
    rollback(settings)
    rename(lake, "Right", 3)
    last = published(data, settings)
    assert last.history_of == first.release_id
    assert [row[0] for row in names_over_time(data.live_file)] == ["Deal 1", "Right"]


def test_a_release_knows_the_rows_and_the_expectation_results_of_every_release_it_continues(
    data: DataRoot, settings: Settings, lake: Lake
) -> None:
    small_organisation(lake)
    shown: list[Row] = []
    results: list[Row] = []
    built = []
    for number in range(3):
        release = published(data, settings)
        built.append(release.built)
        counts = (f"(select count(*) from {table})" for table in MAIN_TABLES)
        shown += query(data.live_file, f"select *, {', '.join(counts)} from release")
        results += query(data.live_file, "select release_id, released_at, r.* from release, expectation_results as r")
        assert query(data.live_file, "from releases order by release_id") == shown
        assert _sorted(query(data.live_file, "from expectation_results_history")) == _sorted(results)
        if number == 0:
            write_batch(lake, "opportunity", mode="changes", deletes=["o1"], at=START + timedelta(hours=2))
        else:
            data.warehouse.unlink()
    assert built == ["full", "incremental", "full"]
    assert shown[0] != shown[1]
    rollback(settings)
    last = published(data, settings)
    ids = [row[0] for row in shown[:2]] + [last.release_id]
    assert query(data.live_file, "select release_id from releases order by release_id") == [(each,) for each in ids]


def test_history_is_kept_for_the_days_that_were_asked_for(data: DataRoot, settings: Settings, lake: Lake) -> None:
    small_organisation(lake)
    first = next_release(data, settings)
    rename(lake, "Two", 2)
    next_release(data, settings)
    rename(lake, "Three", 3)
    file = file_of(data, next_release(data, settings))
    file.chmod(0o644)
    with duckdb.connect(str(file)) as connection:  # two days pass
        connection.execute("update history.opportunities set valid_from = valid_from - interval 3 days")
        connection.execute(
            "update history.opportunities set valid_to = valid_to - interval 2 days where name = 'Deal 1'"
        )
        connection.execute("update history.beginning set began_at = began_at - interval 3 days")
        connection.execute(
            "update history.releases set released_at = released_at - interval 2 days where release_id = ?",
            [first.release_id],
        )
    data.warehouse.unlink()
    last = next_release(data, settings.model_copy(update={"history_days": 1}))
    file = file_of(data, last)
    assert [row[0] for row in names_over_time(file)] == ["Two", "Three"]
    (began_at,) = query(file, "select began_at from history.beginning")[0]
    assert began_at == naive(last.released_at) - timedelta(days=1)
    assert query(file, "select count(*), bool_or(release_id = ?) from releases", first.release_id) == [(3, False)]
    assert query(file, "select count(*) from opportunities_as_of(?)", naive(first.released_at) - timedelta(days=2)) == [
        (0,)
    ]


def test_a_column_that_comes_goes_or_changes_its_type_keeps_its_past(
    data: DataRoot, settings: Settings, lake: Lake, tmp_path: Path
) -> None:
    include = tmp_path / "include"
    shutil.copytree(settings.include, include)
    with_column = settings.model_copy(update={"include": include})
    tables = (include / "tables.yaml").read_text(encoding="utf-8")
    small_organisation(lake)
    releases = [next_release(data, settings)]

    def add(kind: str, value: Any, version: int) -> None:
        column = Column(name="new_tier", attribute_type="String", duckdb_type=kind, property="new_tier")
        row = {"opportunityid": "o1", "name": "One", "new_tier": value, "versionnumber": version}
        at = START + timedelta(hours=version)
        write_batch(lake, "opportunity", [row], mode="changes", extra={"new_tier": column}, at=at)

    head, found, rest = tables.partition("  opportunity:\n    columns:\n")
    (include / "tables.yaml").write_text(f"{head}{found}      - new_tier\n{rest}", encoding="utf-8")
    add("INTEGER", 7, 2)
    releases.append(next_release(data, with_column))
    add("INTEGER", 8, 3)
    releases.append(next_release(data, with_column))
    add("VARCHAR", "gold", 4)
    releases.append(next_release(data, with_column))
    releases.append(next_release(data, settings))
    text = (
        "select cast(new_tier as varchar) from opportunities_history where opportunity_id = ? "
        "order by valid_from, valid_to"
    )
    tiers = [query(file_of(data, release), text, identity("o1")) for release in releases[1:]]
    assert tiers == [
        [(None,), ("7",)],
        [(None,), ("7",), ("8",)],
        [(None,), ("7",), ("8",), ("gold",)],
        [(None,), ("7",), ("8",), (None,)],
    ]


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(batches=st.lists(batch(), min_size=2, max_size=6), choices=st.data())
def test_as_of_gives_back_every_release_whichever_way_it_was_built(
    batches: list[dict[str, Any]], choices: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = DataRoot(Path(folder))
        settings = Settings(data=data.path)
        shown: list[tuple[datetime, dict[str, list[Row]]]] = []
        changes: list[tuple[str, str]] = []
        before: dict[str, dict[Row, Row]] | None = None
        for number, described in enumerate(batches):
            write_batch(Lake(data.raw), **described)
            if choices.draw(st.booleans(), label=f"lose the warehouse before release {number}"):
                data.warehouse.unlink(missing_ok=True)
            release = next_release(data, settings)
            file = file_of(data, release)
            now = {
                table: {row[: len(keys)]: row for row in query(file, _keys_first(table, keys))}
                for table, keys in MAIN_TABLES.items()
            }
            shown.append(
                (naive(release.released_at), {table: _sorted(query(file, f"from {table}")) for table in VERSIONED})
            )
            if before is not None:
                changes += [(table, change) for table in MAIN_TABLES for change in _changes(before[table], now[table])]
            before = now
            for moment, tables in shown:
                for table, rows in tables.items():
                    assert _sorted(query(file, f"from {table}_as_of(?)", moment)) == rows
            assert sorted(query(file, "select table_name, change from release_changes")) == sorted(changes)
            for table, keys in MAIN_TABLES.items():
                if table in VERSIONED:
                    overlapping = query(
                        file,
                        f"select count(*) from {table}_history as a join {table}_history as b "
                        f"using ({', '.join(keys)}) where a.valid_from < b.valid_from "
                        "and coalesce(a.valid_to, timestamp 'infinity') > b.valid_from",
                    )
                    assert overlapping == [(0,)]


def _keys_first(table: str, keys: tuple[str, ...]) -> str:
    listed = ", ".join(keys)
    return f"select {listed}, * exclude ({listed}) from {table}"


def _changes(before: dict[Row, Row], now: dict[Row, Row]) -> list[str]:
    return [
        "inserted" if key not in before else "deleted" if key not in now else "updated"
        for key in before.keys() | now.keys()
        if before.get(key) != now.get(key)
    ]


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=repr)
