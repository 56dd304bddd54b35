"""What a task is said to have read and written, without Airflow; `test_lineage_events.py` has the events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opportunity_sync import publish
from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Column, Lake
from opportunity_sync.lineage_facts import Dataset, Field, Result, extracted, published, transformed, validated
from opportunity_sync.published import set_aside
from opportunity_sync.release import PUBLISHED_TABLES, Release
from opportunity_sync.settings import Settings
from tests.lakes import write_batch
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow


def _named(datasets: tuple[Dataset, ...], ending: str) -> Dataset:
    (found,) = (dataset for dataset in datasets if dataset.name.endswith(ending))
    return found


def test_a_candidate_is_made_of_the_newest_batch_of_every_table(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    lake = Lake(settings.data / "raw")
    facts = transformed(settings, release.release_id)
    assert [(each.namespace, each.name, each.version) for each in facts.inputs] == [
        ("file", str(lake.path / table), lake.names(table)[-1])
        for table in ("opportunity", "connection", "contact", "account", "connectionrole")
    ]


def test_a_column_tells_what_it_is_computed_from_and_what_finds_its_row(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    raw = settings.data / "raw"
    table = _named(transformed(settings, release.release_id).outputs, "main.opportunities")
    columns = {column.name: column for column in table.columns}
    assert columns["account_name"].sources == (Field("file", str(raw / "account"), "name"),)
    assert Field("file", str(raw / "opportunity"), "customerid") in columns["account_name"].lookups
    assert (columns["is_won"].type, columns["is_won"].lookups) == ("BOOLEAN", ())
    assert columns["is_won"].description
    assert table.rows == 40


def test_an_additional_column_leads_to_its_dataverse_column(tmp_path: Path) -> None:
    own = settings_for(tmp_path).include
    text = (own / "tables.yaml").read_text(encoding="utf-8")
    include = tmp_path / "include"
    include.mkdir()
    (include / "sql").symlink_to(own / "sql")
    (include / "tables.yaml").write_text(
        text.replace("- fullname\n", "- fullname\n      - jobtitle\n"), encoding="utf-8"
    )
    settings = settings_for(tmp_path / "data").model_copy(update={"include": include})
    extract(settings, organisation())
    title = Column(
        name="jobtitle", attribute_type="String", duckdb_type="VARCHAR", property="jobtitle", label="Job Title"
    )
    lake = Lake(settings.data / "raw")
    write_batch(lake, "contact", organisation()["contact"], extra={"jobtitle": title}, at=datetime.now(UTC))
    table = _named(transformed(settings, build(settings).release_id).outputs, "main.contacts")
    (column,) = (column for column in table.columns if column.name == "jobtitle")
    assert column.sources == (Field("file", str(lake.path / "contact"), "jobtitle"),)


def test_results_are_told_of_a_candidate_a_release_and_one_that_failed_alike(
    candidate: tuple[Settings, Release],
) -> None:
    settings, release = candidate
    before = validated(settings, release.release_id)
    (checked,) = before.inputs
    assert checked.results == (Result("test", None, "critical", True, 0, 1),)
    (written,) = before.outputs
    assert (written.name, written.rows) == ("opportunities.main.expectation_results", 1)
    publish.publish(settings, release.release_id)
    assert validated(settings, release.release_id) == before
    root = DataRoot(settings.data)
    (root.releases / release.release_id).rename(root.candidates / release.release_id)
    set_aside(root, release.release_id)
    assert validated(settings, release.release_id) == before


def test_published_tables_are_the_candidates_column_by_column(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish.publish(settings, release.release_id)
    facts = published(settings, release.release_id)
    assert [each.name for each in facts.inputs] == [f"opportunities.main.{table}" for table in PUBLISHED_TABLES]
    for before, after in zip(facts.inputs, facts.outputs, strict=True):
        assert (before.name, before.rows, before.version) == (after.name, after.rows, release.release_id)
        assert after.namespace == f"duckdb://{settings.data}/published/opportunities.duckdb"
        assert [column.sources for column in after.columns] == [
            (Field(before.namespace, before.name, column.name),) for column in before.columns
        ]
        assert [replace(column, sources=()) for column in after.columns] == list(before.columns)


def test_a_publication_that_a_newer_release_made_needless_has_written_nothing(
    candidate: tuple[Settings, Release],
) -> None:
    settings, release = candidate
    extract(settings, organisation())
    newer = let_pass(settings, build(settings))
    publish.publish(settings, newer.release_id)
    assert publish.publish(settings, release.release_id).release_id == newer.release_id
    assert published(settings, release.release_id).outputs == ()
    assert published(settings, newer.release_id).outputs != ()


def test_a_batch_tells_its_table_and_what_its_files_hold(candidate: tuple[Settings, Release]) -> None:
    settings, _ = candidate
    (batch,) = Lake(settings.data / "raw").batches("opportunity")
    pointer = {"table": "opportunity", "batch": batch.batch, "organization": "https://contoso.crm.dynamics.com"}
    facts = extracted(settings, pointer)
    assert [(each.namespace, each.name) for each in facts.inputs] == [
        ("https://contoso.crm.dynamics.com", "opportunity")
    ]
    (written,) = facts.outputs
    assert (written.version, written.rows, written.files) == (batch.batch, 40, len(batch.files))
    assert written.bytes == sum(
        path.stat().st_size for path in (settings.data / "raw" / "opportunity").rglob("*.parquet")
    )
    typed = {column.name: column for column in written.columns}["customerid_type"]
    assert typed.sources == (Field("https://contoso.crm.dynamics.com", "opportunity", "customerid"),)


def test_a_batch_that_is_gone_is_an_error_and_no_half_truth(candidate: tuple[Settings, Release]) -> None:
    settings, _ = candidate
    pointer = {"table": "opportunity", "batch": f"{datetime.now(UTC):%Y}-none", "organization": "https://a.example"}
    with pytest.raises(LakeError, match="unreadable"):
        extracted(settings, pointer)
