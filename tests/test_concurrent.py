"""Runs at the same time on one data root lose nothing, duplicate nothing and leave the newest data live."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.server import Emulator
from opportunity_sync.data_root import DataRoot
from tests.pipeline import run_once
from tests.stand_in import credentials_of
from tests.test_kill import published


@pytest.mark.slow
def test_runs_at_the_same_time_end_in_the_release_of_one_run(
    tmp_path: Path, start_organisation: Callable[..., Emulator]
) -> None:
    organisation = start_organisation()
    credentials = credentials_of(organisation)
    shared = tmp_path / "shared"
    run_once(shared, credentials)
    ids = [row["opportunityid"] for row in organisation.store.rows("opportunity")]
    organisation.store.update("opportunity", ids[0], {"name": "changed"})
    organisation.store.delete("opportunity", ids[1])

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipeline", "duckdb", "great_expectations", "sqlglot", "duckdb_engine"])
    runs = [
        context.Process(target=run_once, args=(shared, credentials), kwargs={"full": full})
        for full in (False, True, False)
    ]
    for process in runs:
        process.start()
    for process in runs:
        process.join()
    assert [process.exitcode for process in runs] == [0, 0, 0]

    run_once(tmp_path / "alone", credentials)
    assert published(shared) == published(tmp_path / "alone")
    assert list(DataRoot(shared).raw.rglob(".*")) == []
