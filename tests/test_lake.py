from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec
import pytest

from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Batch, Column, Lake, Manifest, data_file

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def write_rows(folder: Path, name: str = "rows-0001.parquet", rows: int = 3) -> Path:
    path = folder / name
    duckdb.connect().execute(f"copy (select range as id from range({rows})) to '{path}' (format parquet)")
    return path


def manifest_of(batch: Batch, *paths: Path, rows: int = 3) -> Manifest:
    return Manifest(
        table=batch.table,
        batch=batch.name,
        mode=batch.mode,
        organization_id="00000000-0000-0000-0000-00000000aaaa",
        entity_set="contacts",
        started_at=batch.started_at,
        finished_at=NOW,
        window_start=NOW,
        pages=1,
        rows=rows,
        deletes=0,
        delta_link="/api/data/v9.2/contacts?$deltatoken=1%2108%2f22",
        columns=(
            Column(
                name="statecode",
                attribute_type="State",
                duckdb_type="INTEGER",
                property="statecode",
                label="Státus",
                choices={0: "Active", 1: "Inactive"},
            ),
        ),
        files=tuple(data_file(path, rows) for path in paths),
        run_id="run-1",
    )


def committed(lake: Lake, table: str = "contact") -> Manifest:
    with lake.new_batch(table, "full") as batch:
        return lake.commit(batch, manifest_of(batch, write_rows(batch.folder)))


def visible(lake: Lake, table: str = "contact") -> list[str]:
    folder = lake.path / table
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_committed_batch_is_read_back_as_it_was(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    written = committed(lake)
    assert lake.batches("contact") == [written]
    (path,) = lake.files(written, "rows")
    assert duckdb.connect().execute(f"select count(*) from '{path}'").fetchone() == (3,)
    assert lake.files(written, "deletes") == []
    assert visible(lake) == [written.batch], "nothing but the batch is left"


def test_a_table_without_batches_has_none(tmp_path: Path) -> None:
    assert Lake(tmp_path / "not yet").batches("contact") == []


def test_batches_are_listed_in_the_order_they_were_started(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.new_batch("contact", "changes") as first:
        second = committed(lake)
        lake.commit(first, manifest_of(first, write_rows(first.folder)))
    assert [batch.batch for batch in lake.batches("contact")] == [first.name, second.batch]


def test_a_batch_is_invisible_until_it_is_committed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.new_batch("contact", "full") as batch:
        write_rows(batch.folder)
        (batch.folder / "manifest.json").write_bytes(msgspec.json.encode(manifest_of(batch)))
        assert lake.batches("contact") == []
    assert visible(lake) == []


def test_a_batch_left_by_an_error_leaves_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)

    def fail() -> None:
        with lake.new_batch("contact", "full") as batch:
            write_rows(batch.folder)
            raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        fail()
    assert visible(lake) == []


def test_the_leftovers_of_a_killed_writer_are_removed_and_those_of_a_living_one_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_write_until_killed, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(30)
    lake.remove_leftovers("contact")
    assert len(visible(lake)) == 2, "folder and lock of the living writer"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert lake.batches("contact") == []
    assert len(visible(lake)) == 2
    written = committed(lake)
    assert visible(lake) == [written.batch]


def _write_until_killed(path: str, ready: threading.Event) -> None:
    with Lake(Path(path)).new_batch("contact", "full") as batch:
        write_rows(batch.folder)
        ready.set()
        time.sleep(60)


def test_two_writers_of_one_table_do_not_disturb_each_other(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    names: list[str] = []

    def write() -> None:
        for _ in range(5):
            names.append(committed(lake).batch)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == visible(lake) == [batch.batch for batch in lake.batches("contact")]
    assert len(names) == 20


@pytest.mark.parametrize("damage", ["missing", "longer", "same size"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    lake = Lake(tmp_path)
    written = committed(lake)
    path = lake.folder("contact", written.batch) / "rows-0001.parquet"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content + b"x" if damage == "longer" else b"x" + content[1:])
    with pytest.raises(LakeError, match=r"rows-0001\.parquet is missing or differs"):
        lake.files(written, "rows")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"table":', b'{"format": 1, "table": "contact", "batch": 3}'])
def test_an_unreadable_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    lake = Lake(tmp_path)
    path = lake.folder("contact", committed(lake).batch) / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(LakeError, match=r"manifest\.json is unreadable"):
        lake.batches("contact")


def test_a_batch_folder_moved_elsewhere_is_refused(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    written = committed(lake)
    lake.folder("contact", written.batch).rename(lake.folder("contact", "20990101T000000000000Z-full-00000000"))
    with pytest.raises(LakeError, match=f"describes contact/{written.batch}"):
        lake.batches("contact")


def test_a_folder_without_manifest_does_not_exist(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.folder("contact", "20990101T000000000000Z-full-00000000").mkdir(parents=True)
    assert lake.batches("contact") == []
