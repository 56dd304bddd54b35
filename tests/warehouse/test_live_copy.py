"""The copy of the live release that an incremental build starts from, and what becomes of it when it is not wanted."""

from __future__ import annotations

import errno
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import DataRootError
from opportunity_sync.lake import Lake
from opportunity_sync.release import Release, Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import live_copy, transform
from tests.lakes import START, write_batch
from tests.small_organisation import organisation
from tests.warehouse.releases import content, make_live

pytestmark = pytest.mark.slow

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for table, rows in organisation().items():
        write_batch(Lake(DataRoot(tmp_path).raw), table, rows)
    return Settings(data=tmp_path)


@pytest.fixture
def root(settings: Settings) -> DataRoot:
    """A data root with a live release and a change that came after it."""
    root = DataRoot(settings.data)
    make_live(root, transform(settings, RUN))
    write_batch(Lake(root.raw), "opportunity", mode="changes", deletes=["o1"], at=START + timedelta(hours=2))
    return root


def refuse(source: Path, target: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def folders(root: DataRoot) -> list[str]:
    return sorted(path.name for path in root.candidates.iterdir())


def test_an_incremental_build_takes_the_copy_and_leaves_the_live_release_as_it_was(
    settings: Settings, root: DataRoot
) -> None:
    live = root.live_file.read_bytes()
    release = transform(settings, RUN)
    assert release.built == "incremental"
    assert folders(root) == [release.release_id]
    assert root.live_file.read_bytes() == live


def test_a_copy_is_dropped_when_everything_is_derived_anew(settings: Settings, root: DataRoot) -> None:
    release = transform(settings.model_copy(update={"customer_role": "Customer"}), RUN)
    assert release.built == "full"
    assert folders(root) == [release.release_id]


def test_in_another_week_nothing_is_copied(settings: Settings, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_copy, "copy_file", refuse)
    later = Run(run_id="test", started_at=RUN.started_at + timedelta(days=7))
    assert transform(settings, later).built == "full"


def test_what_a_killed_build_left_is_removed(settings: Settings, root: DataRoot) -> None:
    for leftover in ("live", "20260615T120000000000Z"):
        (root.candidates / leftover).mkdir()
        (root.candidates / leftover / "opportunities.duckdb").write_bytes(b"half")
    release = transform(settings, RUN)
    assert release.built == "incremental"
    assert folders(root) == [release.release_id]


def test_a_copy_that_does_not_fit_the_disk_is_said_and_the_next_run_repairs(
    settings: Settings, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(live_copy, "copy_file", refuse)
        with pytest.raises(DataRootError, match="No space left on device"):
            transform(settings, RUN)
    release = transform(settings, RUN)
    assert release.built == "incremental"
    assert folders(root) == [release.release_id]
    assert content(root, release) == content(root, _derived_anew(settings, root))


def test_a_copy_that_fails_and_is_not_needed_stops_nothing(
    settings: Settings, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_copy, "copy_file", refuse)
    release = transform(settings.model_copy(update={"customer_role": "Customer"}), RUN)
    assert release.built == "full"
    assert folders(root) == [release.release_id]


def _derived_anew(settings: Settings, root: DataRoot) -> Release:
    root.warehouse.unlink()
    return transform(settings, RUN)
