"""The data root: who may use it, one at a time, and a full disk."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from opportunity_sync.data_root import FORMAT, copy_file, open_data_root, warehouse_lock, write_atomically
from opportunity_sync.errors import DataRootError


def test_a_new_data_root_is_created_and_can_be_opened_again(tmp_path: Path) -> None:
    first = open_data_root(tmp_path / "a" / "b")
    assert open_data_root(tmp_path / "a" / "b") == first
    assert json.loads((tmp_path / "a" / "b" / "format.json").read_text())["format"] == FORMAT


def test_a_data_root_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    marker = tmp_path / "format.json"
    marker.write_text(json.dumps({"format": FORMAT + 1, "version": "9.9.9"}))
    with pytest.raises(DataRootError, match=r"written by version 9\.9\.9.*Upgrade"):
        open_data_root(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["format.json"]


def hold(path: Path, held: object, let_go: object) -> None:
    with warehouse_lock(open_data_root(path)):
        held.set()  # type: ignore[attr-defined]
        let_go.wait(60)  # type: ignore[attr-defined]


def test_only_one_process_writes_and_the_other_is_told_and_may_retry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, let_go))
    process.start()
    try:
        assert held.wait(60)
        with (
            pytest.raises(DataRootError, match="Another process") as caught,
            warehouse_lock(open_data_root(tmp_path), timeout_seconds=0.2),
        ):
            pass
        assert caught.value.transient
    finally:
        let_go.set()
        process.join()
    with warehouse_lock(open_data_root(tmp_path), timeout_seconds=5):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, let_go))
    process.start()
    assert held.wait(60)
    process.kill()
    process.join()
    with warehouse_lock(open_data_root(tmp_path), timeout_seconds=5):
        pass


def test_an_atomic_write_replaces_the_whole_text_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", "a long first text")
    write_atomically(tmp_path / "a.json", "second")
    assert (tmp_path / "a.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("refusal", [None, errno.EXDEV, errno.ENOSYS, "absent"])
def test_a_copy_has_the_content_also_where_the_kernel_cannot_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | str | None
) -> None:
    content = os.urandom(3_000_001)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    target.write_bytes(b"longer than nothing" * 1_000_000)

    def refuse(*_: object) -> int:
        raise OSError(refusal, "not here")

    if refusal == "absent":
        monkeypatch.delattr(os, "copy_file_range")
    elif refusal is not None:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    copy_file(source, target)
    assert target.read_bytes() == content


def test_a_full_disk_is_no_reason_to_copy_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(b"content")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copy_file(tmp_path / "source", tmp_path / "target")
