"""The code on the page about opening the file works as it stands there, from the folder above the data root."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from opportunity_sync.release import PUBLISHED_TABLES
from opportunity_sync.settings import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("examples")]

PAGE = (PROJECT / "docs" / "opening-the-file.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_python_code_reads_the_open_deals(example: Path) -> None:
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(len(deals))"], cwd=example.parents[1], capture_output=True, text=True
    )
    with duckdb.connect(str(example / "opportunities.duckdb"), read_only=True) as connection:
        ((expected,),) = connection.execute("select count(*) from opportunities where not is_closed").fetchall()
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def test_the_comments_and_the_attached_file_are_read_as_the_page_says(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comments, attached = blocks("sql")
    monkeypatch.chdir(example.parents[1])
    with duckdb.connect("data/published/opportunities.duckdb", read_only=True) as connection:
        found = connection.execute(comments).fetchall()
    assert found[0][0] == "opportunity_id"
    assert all(comment for _, _, comment in found)
    with duckdb.connect() as connection:
        assert connection.execute(attached).fetchall() != []
        connection.execute("use memory")
        assert connection.execute("select count(*) from o.opportunities_history").fetchall() != [(0,)]
        with pytest.raises(duckdb.Error, match="opportunities_history"):
            connection.execute("from o.opportunities_as_of('2026-03-31 23:59:59')")


def test_the_stable_parquet_folder_has_every_table_and_the_live_release(example: Path) -> None:
    folder = example / "parquet"
    assert {path.stem for path in folder.iterdir()} == set(PUBLISHED_TABLES)
    with duckdb.connect(str(example / "opportunities.duckdb"), read_only=True) as connection:
        release = str(folder / "release.parquet")
        assert connection.execute(f"from release except all from read_parquet('{release}')").fetchall() == []
    for table in re.findall(r"`(\w+)\.parquet`", PAGE):
        assert (folder / f"{table}.parquet").exists()
