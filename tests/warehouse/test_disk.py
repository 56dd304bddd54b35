"""The transform stage on a disk that is full."""

from __future__ import annotations

import multiprocessing
import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import transform
from tests.lakes import write_batch

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))


def transform_with_little_room(data: Path, answer: Any) -> None:
    """Every file may only be so large, which DuckDB meets as it meets a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        transform(Settings(data=data), RUN)
    except Exception as error:  # noqa: BLE001  (the test looks at it)
        answer.put((type(error).__name__, str(error)))
    else:
        answer.put(("", "it fitted"))


@pytest.mark.slow
def test_a_full_disk_is_said_plainly_and_the_next_run_repairs(tmp_path: Path) -> None:
    rows = [{"opportunityid": f"o{number}", "name": "x" * 200} for number in range(3000)]
    write_batch(Lake(DataRoot(tmp_path).raw), "opportunity", rows)
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=transform_with_little_room, args=(tmp_path, answer))
    process.start()
    kind, message = answer.get(timeout=60)
    process.join()
    assert kind == "DataRootError", message
    assert "cannot be written" in message
    assert "Free space" in message
    assert transform(Settings(data=tmp_path), RUN).rows["opportunities"] == 3000
    assert len(list(DataRoot(tmp_path).candidates.iterdir())) == 1
