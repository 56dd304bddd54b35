"""The notebook runs over any published file, is committed without outputs, and is what the documentation shows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from docs.generate import GENERATED
from docs.notebook_page import NOTEBOOK, notebook_page, run_notebook
from opportunity_sync.publish import publish
from opportunity_sync.release import Release, Run
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.warehouse import transform
from tests.small_organisation import let_pass

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("examples")]

PICTURES = 4


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    return [output.data["image/svg+xml"] for output in outputs(notebook) if "image/svg+xml" in output.get("data", {})]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) > PICTURES
    assert outputs(notebook) == []
    assert {cell.execution_count for cell in notebook.cells if cell.cell_type == "code"} == {None}


def test_the_notebook_runs_over_a_file_with_a_year_of_deals_and_the_documentation_shows_that(
    example: Path, tmp_path: Path
) -> None:
    page = notebook_page(example / "opportunities.duckdb", tmp_path)
    assert (PROJECT / "docs" / "notebook.md").read_text(encoding="utf-8") == GENERATED + page.text
    assert len(page.images) == PICTURES
    for name in page.images:
        shown = PROJECT / "docs" / name
        assert f"({name})" in page.text
        assert shown.read_text(encoding="utf-8").startswith("<?xml")
        assert shown.stat().st_size < 100_000


def test_the_notebook_runs_over_a_first_release_without_any_history(
    candidate: tuple[Settings, Release], tmp_path: Path
) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    notebook = run_notebook(settings.data / "published" / "opportunities.duckdb", tmp_path)
    assert len(pictures(notebook)) == PICTURES
    warnings = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert [text for text in warnings if "Warning" in text] == []


def test_the_notebook_runs_over_a_file_without_any_row(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    release = let_pass(settings, transform(settings, Run(run_id="test", started_at=datetime.now(UTC))))
    publish(settings, release.release_id)
    notebook = run_notebook(settings.data / "published" / "opportunities.duckdb", tmp_path)
    assert len(pictures(notebook)) == PICTURES


def test_an_error_in_a_cell_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="nowhere"):
        run_notebook(tmp_path / "nowhere.duckdb", tmp_path)
