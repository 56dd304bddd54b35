"""The benchmarks run, measure what they say, and would notice a competitor that loses rows. Figures are not tested."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import duckdb
import pytest

from benchmarks import backfill, building, extraction, history, marketo, peers, process, viewing
from benchmarks.columns import OPPORTUNITY, TABLES
from benchmarks.metadata import entity_definitions
from benchmarks.organization import Size, prepare
from benchmarks.pages import KEY_PREFIX, render_pages
from benchmarks.results import Measure, judged, merge
from benchmarks.scale import Scale

pytestmark = pytest.mark.xdist_group("benchmarks")  # the measurements share one work folder

TINY = Scale(
    "tiny",
    extract_rows=5_000,
    memory_rows=15_000,
    opportunities=20_000,
    extract_rounds=1,
    build_rounds=1,
    hours=1,
    windows=4,
    window_pages=2,
    page_seconds=0.2,
    deals=1_000,
    page_rounds=2,
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything generated goes to a folder of the test."""
    for module, names in (
        (process, {"WORK": ""}),
        (peers, {"WORK": "", "OUTPUT": "extract"}),
        (extraction, {"PAGES": "pages", "TLS": "tls"}),
        (backfill, {"FOLDER": "backfill"}),
        (history, {"FOLDER": "history"}),
        (marketo, {"FOLDER": "marketo"}),
        (viewing, {"FOLDER": "viewing", "DATA": "viewing/data", "INCLUDE": "viewing/include"}),
        (building, {"FOLDER": "build", "DATA": "build/data", "INCLUDE": "build/include"}),
    ):
        for name, folder in names.items():
            monkeypatch.setattr(module, name, tmp_path / folder)
    return tmp_path


def test_the_measured_table_has_41_columns_and_1_6_kb_per_row(tmp_path: Path) -> None:
    render_pages(tmp_path, 1_000)
    page = (tmp_path / "page-0000.json").read_bytes()
    rows = json.loads(page + b"}")["value"]
    assert len(OPPORTUNITY) == 41
    assert len(rows) == 1_000
    assert 1_500 < len(page) / len(rows) < 1_900
    assert all(row["opportunityid"].encode().startswith(KEY_PREFIX) for row in rows)
    assert {name.partition("@")[0] for row in rows for name in row} - {""} == {
        column.api_name for column in OPPORTUNITY
    }


def test_pages_hold_the_same_values_as_the_sql_that_makes_raw_batches(tmp_path: Path) -> None:
    render_pages(tmp_path, 20)
    row = json.loads((tmp_path / "page-0000.json").read_bytes() + b"}")["value"][13]
    with duckdb.connect() as connection:
        prepare(connection, Size(20))
        for column in OPPORTUNITY[1:]:
            (expected,) = connection.execute(
                f"select ({column.value})::{column.duckdb_type} = ?::{column.duckdb_type} or "
                f"({column.value}) is null and ?::varchar is null from range(13, 14) as numbers(i)",
                [row[column.api_name], row[column.api_name]],
            ).fetchall()
            assert expected == (True,), column.name


def test_every_value_of_the_other_tables_is_valid_sql() -> None:
    with duckdb.connect() as connection:
        prepare(connection, Size(1_000))
        for table, columns in TABLES.items():
            values = ", ".join(f"({column.value})::{column.duckdb_type} as {column.name}" for column in columns)
            (counts,) = connection.execute(
                f"select count(*), count(distinct {columns[0].name}) from (select {values} from range(100) as n(i))"
            ).fetchall()
            assert counts == (100, 100), table


def test_metadata_describes_every_column() -> None:
    entity = entity_definitions("EntityDefinitions(LogicalName='opportunity')")
    assert entity is not None
    assert [attribute["LogicalName"] for attribute in entity["Attributes"]] == [column.name for column in OPPORTUNITY]
    assert entity_definitions("EntityDefinitions(LogicalName='lead')") is None


@pytest.mark.slow
def test_extraction_is_measured_against_the_sdk_and_a_plain_download(work: Path) -> None:
    measures = extraction.run_extract(TINY, compared=("sdk",))
    assert [measure.unit for measure in measures] == ["rows/s", "s"]
    for measure in measures:
        assert measure.value > 0
        assert measure.ratio is not None
        assert measure.ratio > 0
        assert (measure.peak_memory_mb or 0) > 50
    assert not (work / "extract").exists()


@pytest.mark.slow
def test_a_table_larger_than_the_rendered_pages_has_different_keys(work: Path) -> None:
    assert TINY.memory_rows > TINY.extract_rows
    memory, growth = extraction.run_memory(TINY)
    assert memory.met is True
    assert growth.ratio is not None
    assert not (work / "extract").exists()


@pytest.mark.slow
def test_full_and_hourly_builds_are_measured_against_a_copy(work: Path) -> None:
    full, hourly, validated, exported = building.run_build(TINY)
    assert full.ratio == pytest.approx(full.value / (full.baseline or 0))
    assert hourly.baseline == full.value
    assert validated.note.startswith(("1", "2"))
    assert exported.value > 0
    assert not (work / "build").exists()


@pytest.mark.slow
def test_an_hour_of_history_is_measured_by_size_and_by_changes(work: Path) -> None:
    size, more = history.run_history(TINY)
    assert size.value == more.baseline
    assert size.ratio == pytest.approx(size.value / (size.baseline or 0))
    assert more.ratio == pytest.approx(more.value / (more.baseline or 0))
    assert not (work / "history").exists()


@pytest.mark.slow
def test_every_page_is_measured_while_one_release_is_live_and_while_releases_are_replaced(work: Path) -> None:
    steady, steady_ratio, swapped, swapped_ratio = viewing.run_viewing(TINY)
    for page, ratio in ((steady, steady_ratio), (swapped, swapped_ratio)):
        assert page.target == "<= 0.3"
        assert ratio.ratio == pytest.approx(page.value / (ratio.baseline or 0))
        assert "worst of all 20 requests" in page.note
    assert steady.name != swapped.name
    assert not (work / "viewing").exists()


@pytest.mark.slow
def test_a_backfill_is_measured_with_one_and_with_eight_windows_in_flight(work: Path) -> None:
    (measure,) = backfill.run_backfill(TINY)
    pages = TINY.windows * TINY.window_pages * TINY.page_seconds
    assert measure.baseline is not None
    assert measure.baseline > pages
    assert TINY.window_pages * TINY.page_seconds < measure.value < measure.baseline
    assert measure.ratio == pytest.approx(measure.baseline / measure.value)
    assert not (work / "backfill").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("work")
def test_a_backfill_that_loses_rows_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = backfill._write_seed
    monkeypatch.setattr(backfill, "_write_seed", lambda folder, windows, rows: real(folder, windows, rows - 1))
    with pytest.raises(process.MeasurementError, match="each should have 400"):
        backfill.run_backfill(dataclasses.replace(TINY, page_seconds=0))


def test_competitors_that_wrote_different_rows_have_different_fingerprints(tmp_path: Path) -> None:
    hashes = []
    for name, change in (("one", ""), ("two", " + 1")):
        path = tmp_path / f"{name}.parquet"
        values = ", ".join(
            f"({column.value}){change if column.name == 'salesstage' else ''} as {column.name}"
            for column in OPPORTUNITY
        )
        with duckdb.connect() as connection:
            prepare(connection, Size(50))
            connection.execute(f"copy (select {values} from range(50) as numbers(i)) to '{path}' (format parquet)")
        hashes.append(process.run_child("-m", "benchmarks.fingerprint", str(path)).output)
    assert [found["rows"] for found in hashes] == [50, 50]
    assert hashes[0]["hash"] != hashes[1]["hash"]


def test_a_scale_that_is_not_whole_pages_is_refused() -> None:
    with pytest.raises(ValueError, match="whole pages of 5000 rows"):
        dataclasses.replace(TINY, extract_rows=7_000)


def test_a_failing_measurement_says_what_failed() -> None:
    with pytest.raises(process.MeasurementError, match=r"fingerprint nowhere\.parquet ended with 1(.|\n)*IOException"):
        process.run_child("-m", "benchmarks.fingerprint", "nowhere.parquet")


@pytest.mark.parametrize(
    ("ratio", "comparison", "limit", "met"),
    [(5.0, ">=", 5, True), (4.9, ">=", 5, False), (6.0, "<=", 6, True), (6.1, "<=", 6, False), (0.2, "<", 0.2, False)],
)
def test_a_target_is_met_or_missed(ratio: float, comparison: str, limit: float, met: bool) -> None:
    assert judged(Measure("m", 1.0, "s", ratio=ratio), comparison, limit).met is met


def test_a_target_without_ratio_applies_to_the_value() -> None:
    assert judged(Measure("m", 501.0, "MB"), "<", 500).met is False


def test_results_of_parts_not_run_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge(path, [Measure("one", 1.0, "s"), Measure("two", 2.0, "s")])
    merge(path, [Measure("two", 3.123456, "s", met=True)])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [(entry["name"], entry["value"], entry["met"]) for entry in found] == [
        ("one", 1.0, None),
        ("two", 3.123, True),
    ]
    assert {"name", "value", "unit", "baseline", "ratio", "target", "met"} <= found[0].keys()


@pytest.mark.slow
@pytest.mark.usefixtures("work")
def test_loading_into_marketo_counts_the_calls_that_arrived_there() -> None:
    share, most, memory, changes = marketo.run_marketo(TINY)
    assert share.ratio is not None
    assert 0 < share.ratio <= 1
    assert 0 < most.value <= marketo.CALLS
    assert memory.baseline is not None
    assert memory.baseline > 0
    assert (changes.value, changes.baseline, changes.met) == (6, 6, True)
