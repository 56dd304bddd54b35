"""A run killed anywhere loses nothing and shows nothing half-done; the next run repairs (kill -9 at random moments)."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from emulator.server import Emulator
from opportunity_sync.data_root import DataRoot
from opportunity_sync.dataverse.auth import Credentials
from tests.pipeline import run_once
from tests.stand_in import credentials_of

CONTENT = ("opportunities", "opportunity_contact_roles", "contacts", "accounts", "unresolved_references")
KILLS = 12


def published(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect(str(DataRoot(data).live_file), read_only=True) as connection:
        checked = connection.execute("select count(*) from expectation_results").fetchall()
        assert checked[0][0] > 0, "an unvalidated release is live"
        return {table: sorted(connection.execute(f"select * from {table}").fetchall(), key=repr) for table in CONTENT}


def change_something(organisation: Emulator, chance: random.Random) -> None:
    """What users of Dynamics do between two runs."""
    opportunities = [row["opportunityid"] for row in organisation.store.rows("opportunity")]
    chosen = chance.choice(opportunities)
    if chance.random() < 0.2:
        organisation.store.delete("opportunity", chosen)
    else:
        organisation.store.update("opportunity", chosen, {"name": f"renamed {chance.randrange(10**6)}"})
    connections = [row["connectionid"] for row in organisation.store.rows("connection")]
    if connections and chance.random() < 0.4:
        organisation.store.delete("connection", chance.choice(connections))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_killed_at_random_moments_end_in_the_release_of_an_undisturbed_one(
    tmp_path: Path, start_organisation: Callable[..., Emulator]
) -> None:
    organisation = start_organisation()
    credentials: Credentials = credentials_of(organisation)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipeline", "duckdb", "great_expectations", "sqlglot", "duckdb_engine"])
    chance = random.Random(20261122)
    disturbed = tmp_path / "disturbed"

    def start() -> Any:
        process = context.Process(target=run_once, args=(disturbed, credentials))
        process.start()
        return process

    begun = time.monotonic()
    first = start()
    first.join()
    duration = time.monotonic() - begun
    assert first.exitcode == 0

    survived = 0
    for _ in range(KILLS):
        change_something(organisation, chance)
        process = start()
        process.join(timeout=chance.uniform(0.05, 1.0) * duration)
        survived += process.exitcode == 0
        process.kill()
        process.join()
        published(disturbed)
    assert survived < KILLS, "no run was killed: the delays are too long"

    last = start()
    last.join()
    assert last.exitcode == 0
    run_once(tmp_path / "undisturbed", credentials)
    assert published(disturbed) == published(tmp_path / "undisturbed")
    leftovers = [path for path in DataRoot(disturbed).raw.rglob(".*") if not path.name.endswith(".lock")]
    assert leftovers == []
